"""Unfinished windows and evaluations of instrumented functions, at each end of a real process."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys

import pytest
from by_hand import DEADLINE
from event_files import scalar_points

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and forks are POSIX's")

PROGRAM = """
import os, signal, sys, threading
import jax
import jaxboard as jb

@jb.instrument
@jax.jit
def step(x):
    jb.scalar("loss", x)
    jb.scalar("window", x, every=10)
    return x + 1

@jb.instrument(advance=False)
@jax.jit
def evaluate(x):
    jb.scalar("evaluation", x)

def end_by(number):
    os.kill(os.getpid(), number)
    threading.Event().wait()

run = jb.Run(sys.argv[1], telemetry=False, flush_secs=1000)
x = 0.0
for _ in range(25):
    x = step(x)
for value in (1.0, 2.0, 6.0):
    evaluate(value)
"""

ENDS = {
    # The child ends by os._exit, as those of multiprocessing do: at the end of the interpreter, JAX may wait forever.
    "fork and Ctrl-C": (
        "os.fork() or os._exit(0)\nos.wait()\nend_by(signal.SIGINT)",
        -signal.SIGINT,
    ),
    "SIGTERM": ("end_by(signal.SIGTERM)", -signal.SIGTERM),
}

WHOLE_WINDOWS = [(0, 0.0), (10, 5.5), (20, 15.5)]


def points_after(logdir: pathlib.Path, end: str, status: int) -> dict[str, list]:
    """Run the program to its end; return tag -> points."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM + end, str(logdir)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, check=False, env=environment, timeout=DEADLINE, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == status, done.stderr
    return {tag: scalar_points(logdir, tag) for tag in ("loss", "window", "evaluation")}


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_lost(tmp_path: pathlib.Path, end: str) -> None:
    """The values of an unfinished window, and those of an evaluation, make their last points, once."""
    assert points_after(tmp_path, *ENDS[end]) == {
        "loss": [(step, float(step)) for step in range(25)],
        "window": [*WHOLE_WINDOWS, (24, 22.5)],
        "evaluation": [(24, 3.0)],
    }


def test_sigkill(tmp_path: pathlib.Path) -> None:
    """After SIGKILL, everything that was flushed is there; only the unfinished window is not."""
    assert points_after(tmp_path, "run.flush()\nend_by(signal.SIGKILL)", -signal.SIGKILL) == {
        "loss": [(step, float(step)) for step in range(25)],
        "window": WHOLE_WINDOWS,
        "evaluation": [(24, 3.0)],
    }
