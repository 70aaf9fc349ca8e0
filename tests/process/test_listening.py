"""Nothing that jaxboard starts accepts connections. The tests of the commands, in tests/cli, check this for each."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from collections.abc import Iterable

import psutil
import pytest
from listening import listening

PROGRAM = """
import sys
import jax, jax.numpy as jnp
import jaxboard as jb

def pause(name):
    print(name, flush=True)
    sys.stdin.readline()

@jb.instrument
@jax.jit
def train_step(x):
    jb.scalar("loss", x.sum())
    return x * 2

with jb.Run(sys.argv[1], telemetry=True) as run:
    x = train_step(jnp.ones(3))
    pause("run")
    with jb.profile(steps=range(2, 5)):
        for step in range(8):
            x = train_step(x)
            if step == 3:
                pause("profile")
        pause("summary")
    jb.memory_snapshot()
    run.flush()
    pause("flushed")
"""

SERVER = """
import socket, sys
server = socket.create_server((sys.argv[1], 0))
print("listening", flush=True)
sys.stdin.readline()
"""


def pauses(command: list[str]) -> Iterable[tuple[str, set[str]]]:
    """Run a program that prints a line and waits for one; yield each line and the addresses at that time."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            yield line.strip(), listening(psutil.Process(process.pid))
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_the_check_finds_a_server(address) -> None:
    """A server is found, with its address."""
    assert list(pauses([sys.executable, "-c", SERVER, address])) == [("listening", {address})]


def test_a_run_and_a_profile(tmp_path: pathlib.Path) -> None:
    """A run with telemetry, a profile while it records, and its summary accept no connections."""
    found = dict(pauses([sys.executable, "-c", PROGRAM, str(tmp_path / "logs")]))
    assert found == {name: set() for name in ("run", "profile", "summary", "flushed")}
    assert list((tmp_path / "logs").glob("plugins/profile/*/*.xplane.pb"))
