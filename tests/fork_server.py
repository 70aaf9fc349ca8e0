"""A process that has imported jaxboard, and forks for each program that it is asked to run.

An interpreter takes a second to import JAX; a fork is there immediately. The fork runs the program as its main
module and ends as any interpreter does: with its exit handlers, the tracebacks and the status of a program.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import TextIO

SERVER = """
import json, os, socket, sys, warnings
import jaxboard._run, jaxboard.sinks

server = socket.socket(fileno=int(sys.argv[1]))
while True:
    request, descriptors, _, _ = socket.recv_fds(server, 2**16, 3)
    if not request:
        sys.exit()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX and Python warn of forks
        pid = os.fork()
    if not pid:
        break
    for descriptor in descriptors:
        os.close(descriptor)
    server.sendall(b"%d\\n" % pid)
    server.sendall(b"%d\\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

server.close()
for number, descriptor in enumerate(descriptors):
    os.dup2(descriptor, number)
    os.close(descriptor)
sys.argv = json.loads(request)
__file__ = sys.argv[0]
exec(compile(open(__file__).read(), __file__, "exec"))
"""


class ForkedProcess:
    """A fork of the server, with the methods of ``subprocess.Popen`` that tests call."""

    def __init__(self, server: ForkServer, arguments: Sequence[str], stderr: TextIO):
        stdin, to_stdin = os.pipe()
        from_stdout, stdout = os.pipe()
        self._server = server
        server.send(json.dumps(arguments).encode(), [stdin, stdout, stderr.fileno()])
        os.close(stdin)
        os.close(stdout)
        self.stdin = open(to_stdin, "w")
        self.stdout = open(from_stdout)
        self.returncode: int | None = None
        self.pid = server.receive()

    def wait(self) -> int:
        """Wait for the end of the process and return its status."""
        if self.returncode is None:
            self.returncode = self._server.receive()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process is known to have ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End the process."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """The process that forks, for one program at a time."""

    def __init__(self) -> None:
        self._connection, other = socket.socketpair()
        self._replies = self._connection.makefile("rb")
        self._process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(other.fileno())],
            pass_fds=[other.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        other.close()
        self._last: ForkedProcess | None = None

    def start(self, arguments: Sequence[str], stderr: TextIO) -> ForkedProcess:
        """Run a program: its file and what follows in ``sys.argv``. End the one that a failed test has left."""
        if self._last is not None:
            self._last.kill()
            self._last.wait()
        self._last = ForkedProcess(self, arguments, stderr)
        return self._last

    def send(self, request: bytes, descriptors: Sequence[int]) -> None:
        """Send a request with the standard streams of the program."""
        socket.send_fds(self._connection, [request], descriptors)

    def receive(self) -> int:
        """Return the next number that the server sends: the process ID of a program, then its exit status."""
        return int(self._replies.readline())

    def close(self) -> None:
        """End the server."""
        self._replies.close()
        self._connection.close()
        self._process.wait()


@functools.cache
def fork_server() -> ForkServer:
    """Return the server of this process, which ends with it."""
    server = ForkServer()
    atexit.register(server.close)
    return server
