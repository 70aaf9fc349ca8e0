"""The memory of a run is bounded: over many steps, with a sink that is stuck, and over many runs."""

import pathlib
import re
import subprocess
import sys
import textwrap

import pytest
from fork_server import run_in_fork

pytestmark = pytest.mark.skipif(
    not pathlib.Path("/proc/self/statm").exists(), reason="reads the memory from /proc"
)

ROOT = pathlib.Path(__file__).parents[2]

PRELUDE = """
import gc, os, pathlib, resource, sys, tempfile, threading
import jax
import jax.numpy as jnp
import numpy as np
import jaxboard as jb
from jaxboard.sinks import Batch, MemorySink, Sink, records

MIB = 2**20

def resident():
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
"""


def python(code: str) -> str:
    done = run_in_fork(PRELUDE + textwrap.dedent(code))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_long_run_in_flat_memory():
    """Memory does not grow with the steps of a run, and the file has the size that docs/sinks.md computes."""
    command = [sys.executable, str(ROOT / "benchmarks" / "long_run.py")]
    command += ["--tags", "300", "--steps", "3000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    lines = done.stdout.splitlines()
    memory = [int(line.split("|")[2]) for line in lines if re.match(r"\| \d", line)]
    assert len(memory) == 10
    assert memory[-1] - memory[1] < 16
    file, computed = (
        int(next(line for line in lines if line.startswith(start)).split()[1])
        for start in ("file:", "computed:")
    )
    assert 0 < file - computed < 100


STUCK = """
class Counting(Sink):
    def __init__(self):
        self.entered, self.free = threading.Event(), threading.Event()
        self.count = 0

    def write(self, batch: Batch) -> None:
        self.entered.set()
        {stuck}
        self.count += len(list(records(batch)))

    def flush(self):
        pass

    def close(self):
        pass

class Working(Counting):
    def write(self, batch: Batch) -> None:
        pass

others = [Working()] if {beside} else []
image = np.zeros((512, 512, 4), np.uint8)  # 1 MiB
sink = Counting()
run = jb.Run(None, sinks=[sink, *others], max_bytes=8 * MIB, overflow="drop", flush_secs=0.02)
jb.image("image", image, step=0)
assert sink.entered.wait(60)
before = resident()
for step in range(1, 300):
    jb.image("image", image.copy(), step=step)
grown = resident() - before
sink.free.set()
try:
    run.close()
except jb.RunError as error:
    message = str(error)
lost = 300 - sink.count
assert f"{lost} reports were lost:\\n  {lost}: the buffer was full (200000 calls or 8 MiB)" in message, message
assert lost > 270, lost
print(grown // MIB)
"""


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside another"])
@pytest.mark.parametrize(
    "stuck",
    ["self.free.wait()", "if not self.free.is_set(): raise OSError('down')"],
    ids=["hangs", "fails"],
)
def test_a_stuck_sink_in_bounded_memory(stuck, beside):
    """While a sink hangs or fails, twice max_bytes are in memory at most, and close() counts what was dropped."""
    program = STUCK.replace("{stuck}", stuck).replace("{beside}", str(beside))
    assert int(python(program)) < 24


MANY = """
def descriptors():
    return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1])

def measure():
    gc.collect()
    names = sorted(thread.name for thread in threading.enumerate())
    return names, len(os.listdir("/proc/self/fd")), len(jax.live_arrays())

@jb.instrument
@jax.jit
def step(x):
    jb.scalar("loss", x)
    jb.histogram("x", x + jnp.arange(8.0))
    return x + 1

def open_and_close(number):
    with jb.Run(f"{logdir}/{number}", telemetry=True) as run:
        step(jnp.float32(number))
        jb.scalar("device", jnp.float32(number))
        run.child("eval").scalar("loss", 0.5)

with tempfile.TemporaryDirectory() as logdir:
    for number in range(100):
        open_and_close(number)
    first, before = measure(), resident()
    for number in range(100, 500):
        open_and_close(number)
    last = measure()
    assert last == first, (first, last)
print((resident() - before) // 1024)
"""


def test_many_runs_leak_nothing():
    """500 runs in one process leave no thread, file descriptor or device array, and at most 10 KiB each."""
    assert int(python(MANY)) < 4000
