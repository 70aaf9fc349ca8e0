"""A job of several real processes on this machine, which communicate through gloo."""

import os
import subprocess
import sys
import textwrap
import time

from by_hand import DEADLINE
from ports import free_port
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PRELUDE = """
import logging, os, signal, sys, threading
import jax, jax.numpy as jnp, numpy as np
import jaxboard as jb
from jax.sharding import NamedSharding, PartitionSpec as P

LOGDIR, PORT, COUNT, INDEX = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
jax.distributed.initialize(f"127.0.0.1:{PORT}", COUNT, INDEX)
DEVICES = 2 * COUNT
mesh = jax.make_mesh((DEVICES,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
sharded, everywhere = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())

def on_all(values, sharding=sharded):
    values = np.asarray(values)
    return jax.make_array_from_callback(values.shape, sharding, lambda index: values[index])

def announce(word):
    print(word, flush=True)
"""


class Job:
    """Processes of two CPU devices each that run PRELUDE and then ``body``, all with the same log directory."""

    def __init__(self, tmp_path, count, body):
        self.logdir = tmp_path / "run"
        program = tmp_path / "program.py"
        program.write_text(PRELUDE + textwrap.dedent(body))
        port = free_port()
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            "JAX_PLATFORMS": "cpu",
        }
        self.processes: list[subprocess.Popen[str]] = []
        self._errors = [tmp_path / f"err_{index}" for index in range(count)]
        for index, path in enumerate(self._errors):
            arguments = [str(program), str(self.logdir), str(port), str(count), str(index)]
            with path.open("w") as errors:
                process = subprocess.Popen(
                    [sys.executable, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=env,
                )
            self.processes.append(process)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.communicate()

    def expect(self, index, word):
        """Read the output of a process until a line."""
        stdout = self.processes[index].stdout
        assert stdout is not None
        for line in stdout:
            if line == word + "\n":
                return
        raise AssertionError(self.errors(index))

    def wait_for(self, condition):
        """Wait until ``condition()`` holds, while process 0 runs."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > deadline or self.processes[0].poll() is not None:
                raise AssertionError(self.errors(0))
            time.sleep(0.05)

    def send(self, index):
        """Send a line to a process."""
        stdin = self.processes[index].stdin
        assert stdin is not None
        stdin.write("\n")
        stdin.flush()

    def errors(self, index):
        """Return what a process has written to standard error, without the lines of gloo."""
        lines = self._errors[index].read_text().splitlines()
        return "\n".join(line for line in lines if "[Gloo]" not in line)

    def finish(self):
        """Wait for all processes, which have to succeed."""
        for index, process in enumerate(self.processes):
            process.communicate(timeout=DEADLINE)
            assert process.returncode == 0, self.errors(index)

    def events(self, run=""):
        events = EventAccumulator(
            str(self.logdir / run), size_guidance={"scalars": 0, "tensors": 0}
        )
        return events.Reload()

    def points(self, tag, run=""):
        return [(point.step, point.value) for point in self.events(run).Scalars(tag)]

    def text(self, tag):
        """Return the last text entry of a tag, "" if there is none."""
        if not any(self.logdir.glob("*.tfevents.*")):
            return ""
        events = self.events()
        if tag not in events.Tags()["tensors"]:
            return ""
        return events.Tensors(tag)[-1].tensor_proto.string_val[0].decode()
