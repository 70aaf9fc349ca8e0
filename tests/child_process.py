"""A program in a process of its own, with an open run, which a test stops, interrupts or breaks."""

import json
import os
import subprocess
import sys
import textwrap

from by_hand import DEADLINE
from event_files import scalar_points
from fork_server import fork_server

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
    """A process that runs PRELUDE and then ``body``. Most are forks, which start immediately.

    With ``command``, it is an interpreter that this program starts in another environment. Without ``indented``, it is
    an interpreter, and the body is at the level of the module, where other processes find its functions.
    """

    def __init__(self, tmp_path, body, command=(), indented=True):
        self.logdir = tmp_path / "run"
        body = textwrap.dedent(body)
        if indented and not command:
            program = PRELUDE + textwrap.indent(body, "    ")
            self.process = fork_server().start(program, str(self.logdir))
            return
        file = tmp_path / "program.py"
        file.write_text(
            PRELUDE + (textwrap.indent(body, "    ") if indented else f"    pass\n{body}")
        )
        self.process = subprocess.Popen(
            [*command, sys.executable, str(file), str(self.logdir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    def expect(self, word):
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line != word + "\n":
            self.process.kill()
            raise AssertionError(line + self.process.communicate(timeout=DEADLINE)[1])

    def exit_status(self):
        """Wait for the end; keep the output in ``out`` and ``err``."""
        try:
            self.out, self.err = self.process.communicate(timeout=DEADLINE)
        finally:
            self.process.kill()
        return self.process.returncode

    def lines(self):
        return [json.loads(line) for line in (self.logdir / "lines").read_text().splitlines()]

    def steps(self):
        return [line if line == "closed" else line[0] for line in self.lines()]

    def points(self, run="", tag="loss"):
        return scalar_points(self.logdir / run, tag)
