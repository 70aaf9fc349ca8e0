"""The network addresses on which a process and its children accept connections."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
import time
from typing import Any

import psutil

LOOPBACK = {"127.0.0.1", "::1"}
_POLL_SECS = 0.5


def listening(process: psutil.Process) -> set[str]:
    """Return the addresses now."""
    found: set[str] = set()
    with contextlib.suppress(psutil.Error):
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # It has ended.
                connections = each.net_connections("inet")
                found |= {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def run_watched(
    command: list[str], *, timeout: float = 280, **options: Any
) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run a command, and return the addresses that were seen until it ended.

    Args:
        command: the program and its arguments.
        timeout: how many seconds it may take.
        **options: options of ``subprocess.Popen``.
    """
    found: set[str] = set()
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        end = time.monotonic() + timeout
        with subprocess.Popen(command, stdout=output, stderr=errors, **options) as process:
            while process.poll() is None:
                found |= listening(psutil.Process(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL_SECS)
                if time.monotonic() > end:
                    process.kill()
        output.seek(0)
        errors.seek(0)
        done = subprocess.CompletedProcess(
            command, process.returncode, output.read(), errors.read()
        )
        return done, found
