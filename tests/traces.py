"""Helpers that read traces with JAX's own reader, and run programs that record one."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import textwrap
from collections import Counter
from typing import Any, TypeAlias

from fork_server import ForkedProcess, fork_server
from jax.profiler import ProfileData

PRELUDE = """
import os, signal, sys, threading
import jax, jax.numpy as jnp
import jaxboard as jb

forever = threading.Event().wait

@jb.instrument
@jax.jit
def train_step(x):
    return jnp.tanh(x @ x)

def train(steps, x=None):
    x = jnp.ones((32, 32)) if x is None else x
    for _ in steps:
        x = train_step(x)
    return x

def emit(word):
    print(word, flush=True)

LOGDIR = sys.argv[1]
"""


Path: TypeAlias = str | os.PathLike[str] | None
"""A profiler's path is None if it saved no trace; reading that fails."""


def events(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the plane, name and properties of every event."""
    assert path is not None
    return [
        (plane.name, event.name, dict(event.stats))
        for plane in ProfileData.from_file(os.fspath(path)).planes
        for line in plane.lines
        for event in line.events
    ]


def markers(path: Path) -> list[int]:
    """Return the numbers of the steps that jaxboard marked, in order."""
    found = [stats for _, name, stats in events(path) if name == "train" and stats.get("_r")]
    return sorted(stats["step_num"] for stats in found)


def modules(path: Path) -> Counter[str]:
    """Count the operations of each program in the trace."""
    return Counter(stats["hlo_module"] for *_, stats in events(path) if "hlo_module" in stats)


def traces(logdir: os.PathLike[str] | str) -> list[str]:
    """Return the paths of all traces below a directory, relative to it."""
    root = pathlib.Path(logdir)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.xplane.pb"))


def forked(logdir: pathlib.Path, body: str) -> ForkedProcess:
    """Start a fork that runs ``body`` after PRELUDE."""
    return fork_server().start(PRELUDE + textwrap.dedent(body), str(logdir))


def program(logdir: pathlib.Path, body: str, *arguments: str) -> subprocess.Popen[str]:
    """Start an interpreter that runs ``body`` after PRELUDE."""
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body), str(logdir), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
