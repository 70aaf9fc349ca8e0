"""Programs in forks of a process that has imported jaxboard.

An interpreter takes a second to import JAX; a fork starts immediately. A fork runs its program as the main module
and ends as an interpreter does: with the exit handlers, the traceback and the status of that program.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading

from by_hand import DEADLINE

SERVER = """
import json, os, socket, sys, warnings
import jaxboard._run, jaxboard.sinks

server = socket.socket(fileno=int(sys.argv[1]))
while True:
    request, streams, _, _ = socket.recv_fds(server, 2**16, 3)
    if not request:
        sys.exit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of forks.
        pid = os.fork()
    if not pid:
        break
    for stream in streams:
        os.close(stream)
    server.sendall(b"%d\\n" % pid)
    server.sendall(b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

server.close()
for number, stream in enumerate(streams):
    os.dup2(stream, number)
    os.close(stream)
request = json.loads(request)
os.environ.clear()
os.environ.update(request["environment"])
os.chdir(request["directory"])
sys.argv[1:] = request["arguments"]
exec(compile(request["program"], "<string>", "exec"))
"""


class ForkedProcess:
    """A fork of the server that runs a program. Tests use it like a ``subprocess.Popen``."""

    def __init__(self, server: ForkServer, program: str, arguments: tuple[str, ...]):
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        self.stdin = os.fdopen(to_stdin, "w")
        self.stdout = os.fdopen(from_stdout)
        self.returncode: int | None = None
        self._server = server
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # `communicate` closes it.
        server.send(program, arguments, (stdin, stdout, self._errors.fileno()))
        os.close(stdin)
        os.close(stdout)
        self.pid = server.receive()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process is known to have ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process without waiting for it."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Close standard input, wait for the end, and return the output and the errors.

        After ``timeout`` seconds, the process is killed.
        """
        deadline = threading.Timer(timeout, self.kill)
        deadline.start()
        with self._errors, self.stdout, self.stdin:
            self.stdin.close()
            output = self.stdout.read()
            self.returncode = self._server.receive()
            deadline.cancel()
            self._errors.seek(0)
            return output, self._errors.read()


class ForkServer:
    """The process that forks. It runs one program at a time."""

    def __init__(self) -> None:
        self._connection, other = socket.socketpair()
        self._replies = self._connection.makefile("rb")
        self._last: ForkedProcess | None = None
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SERVER, str(other.fileno())],
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )

    def start(self, program: str, *arguments: str) -> ForkedProcess:
        """Start a program with the environment and the working directory of this process."""
        if self._last is not None and self._last.returncode is None:  # A test has failed.
            self._last.kill()
            self._last.communicate(DEADLINE)
        self._last = ForkedProcess(self, program, arguments)
        return self._last

    def send(self, program: str, arguments: tuple[str, ...], streams: tuple[int, ...]) -> None:
        """Ask for a fork that runs a program with these standard streams."""
        request = {
            "program": program,
            "arguments": arguments,
            "environment": dict(os.environ),
            "directory": str(pathlib.Path.cwd()),
        }
        socket.send_fds(self._connection, [json.dumps(request).encode()], streams)

    def receive(self) -> int:
        """Wait for a reply: the process ID of a fork, then its exit status."""
        return int(self._replies.readline())

    def close(self) -> None:
        """End the server."""
        self._replies.close()
        self._connection.close()
        self._process.wait()


@functools.cache
def fork_server() -> ForkServer:
    """Return the server that ends with this process."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def run_in_fork(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program to its end."""
    process = fork_server().start(textwrap.dedent(program), *arguments)
    output, errors = process.communicate(DEADLINE)
    return subprocess.CompletedProcess(arguments, process.returncode or 0, output, errors)
