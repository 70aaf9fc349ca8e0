"""Nothing that jaxboard starts accepts connections."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterable

import psutil
import pytest

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

POLL_SECS = 0.05
MOST_SECS = 240


def listening(process: psutil.Popen) -> set[str]:
    """Return the addresses on which a process and its children accept connections."""
    found = set()
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                connections = each.net_connections("inet")
                found |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def pauses(command: list[str]) -> Iterable[tuple[str, set[str]]]:
    """Run a program that prints a line and waits for one; yield each line and the addresses at that time."""
    pipe = subprocess.PIPE
    with psutil.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=os.curdir) as process:
        for line in process.stdout:
            yield line.strip(), listening(process)
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


@pytest.mark.parametrize(
    "arguments", [["demo", "--steps", "30", "--logdir", "runs"], ["doctor"]], ids=lambda a: a[0]
)
def test_commands(tmp_path, monkeypatch, arguments) -> None:
    """The commands and the processes that they start accept no connections from other hosts."""
    monkeypatch.chdir(tmp_path)
    root = str(pathlib.Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "jaxboard", *arguments]
    found: set[str] = set()
    with psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        for _ in range(int(MOST_SECS / POLL_SECS)):
            found |= listening(process)
            try:
                process.wait(POLL_SECS)
            except psutil.TimeoutExpired:
                continue
            break
        else:
            process.kill()
            pytest.fail(f"{arguments[0]} took longer than {MOST_SECS} s")
    assert found <= {"127.0.0.1", "::1"}
