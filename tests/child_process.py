"""A program in a process of its own, with an open run, which a test stops, interrupts or breaks."""

import json
import os
import subprocess
import sys
import textwrap
import threading

from by_hand import DEADLINE
from fork_server import fork_server
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PRELUDE = """
import json, os, resource, signal, sys, threading, time
import numpy as np
from jaxboard._errors import RunError
from jaxboard.records import Kind, Record, records
from jaxboard._run import Run, channel_of, current_run
from jaxboard.sinks import Sink

LOGDIR = sys.argv[1]
forever = threading.Event().wait

class Lines(Sink):
    '''A sink that writes JSON lines to a file.'''
    def __init__(self):
        self.file = open(os.path.join(LOGDIR, "lines"), "a")
    def write(self, batch):
        for r in records(batch):
            self.file.write(json.dumps([r.step, r.wall_time]) + "\\n")
    def flush(self):
        self.file.flush()
    def close(self):
        self.file.write('"closed"\\n')
        self.file.close()

class Waiting(Lines):
    '''A sink that announces each batch, and writes it when the test sends a line.'''
    def write(self, batch):
        announce("writing")
        sys.stdin.readline()
        super().write(batch)

class Hung(Lines):
    def write(self, batch):
        forever()

def put(first, count=1):
    for step in range(first, first + count):
        channel_of(current_run()).put(Record(Kind.SCALAR, "loss", step, time.time(), np.float32(step)))

def announce(word):
    print(word, flush=True)

if __name__ == "__main__":
    os.makedirs(LOGDIR, exist_ok=True)
"""


class Child:
    """A process that runs PRELUDE and then ``body``.

    It is a fork of a process that has imported jaxboard, and ends as a program of its own does. With ``command`` or
    without ``indented``, it is an interpreter of its own.

    ``command`` precedes the interpreter: a program that starts it in another environment. Without ``indented``, the
    body is at the level of the module, where other processes find its functions.
    """

    def __init__(self, tmp_path, body, command=(), indented=True):
        self.logdir = tmp_path / "run"
        program = tmp_path / "program.py"
        body = textwrap.dedent(body)
        program.write_text(
            PRELUDE + (textwrap.indent(body, "    ") if indented else f"    pass\n{body}")
        )
        arguments = [str(program), str(self.logdir)]
        self._errors = tmp_path / "stderr"
        with self._errors.open("w") as errors:
            if indented and not command:
                self.process = fork_server().start(arguments, errors)
            else:
                self.process = subprocess.Popen(
                    [*command, sys.executable, *arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                )

    def expect(self, word):
        line = self.process.stdout.readline()
        if line != word + "\n":
            self.process.kill()
            self.exit_status()
            raise AssertionError(line + self.err)

    def exit_status(self):
        """Wait for the end; keep the output in ``out`` and ``err``."""
        deadline = threading.Timer(DEADLINE, self.process.kill)
        deadline.start()
        try:
            self.process.stdin.close()
            self.out = self.process.stdout.read()
            self.process.stdout.close()
            return self.process.wait()
        finally:
            deadline.cancel()
            self.err = self._errors.read_text()

    def lines(self):
        return [json.loads(line) for line in (self.logdir / "lines").read_text().splitlines()]

    def steps(self):
        return [line if line == "closed" else line[0] for line in self.lines()]

    def points(self, run="", tag="loss"):
        events = EventAccumulator(str(self.logdir / run), size_guidance={"scalars": 0})
        events.Reload()
        return [(point.step, point.value) for point in events.Scalars(tag)]
