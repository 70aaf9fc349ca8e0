"""A TensorBoard process that shows a log directory on this machine."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from jaxboard import _paths
from jaxboard._errors import RunError

# TensorBoard shows a random selection of a longer curve: by default 1000 scalars and 10 images.
_SAMPLES = "scalars=10000,histograms=500,images=100,audio=100,text=1000,pr_curves=500"
_START_SECS = 120.0
_LINES = 20
"""The most lines of TensorBoard's output in the message of an error."""


class Viewer:
    """A running TensorBoard. It listens on the loopback interface only.

    It has a session of its own, so that Ctrl-C in the terminal or an interrupt of a notebook does not end it.

    Args:
        logdir: the log directory, which may be created later.
        port: the port; by default a free one.
        arguments: further arguments of TensorBoard, which win over those of jaxboard.

    Attributes:
        logdir: the absolute path, or the URL.
        port: the port.
        url: the address, with a slash at the end.
        process: the process.

    Raises:
        RunError: TensorBoard did not start. The message has the end of its output.
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str],
        *,
        port: int | None = None,
        arguments: Sequence[str] = (),
    ):
        self.logdir = _paths.absolute(logdir)
        self.port = _free_port() if port is None else port
        self.url = f"http://localhost:{self.port}/"
        output, path = tempfile.mkstemp(prefix="tensorboard-", suffix=".log")
        self._output = pathlib.Path(path)
        # A notebook's plotting backend does not exist outside of its kernel.
        environment = {name: text for name, text in os.environ.items() if name != "MPLBACKEND"}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        try:
            self.process = subprocess.Popen(  # noqa: S603 (there is no shell)
                [*command(self.logdir, arguments), "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        finally:
            os.close(output)
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process and wait until it has ended."""
        self.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> None:
        """Ask the process to end, without waiting for it."""
        self.process.terminate()
        with contextlib.suppress(OSError):  # Windows does not remove an open file.
            self._output.unlink(missing_ok=True)

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + _START_SECS
        while self.process.poll() is None:
            try:
                if _is_of(self._environment(), self.logdir):
                    return
            except (OSError, ValueError, http.client.HTTPException):
                # It does not listen yet, or something else does.
                pass
            if time.monotonic() > end:
                raise RunError(self._failure(f"does not answer at {self.url}"))
            time.sleep(0.05)
        raise RunError(self._failure(f"ended with status {self.process.returncode}"))

    def _environment(self) -> object:
        connection = http.client.HTTPConnection("localhost", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/data/environment")
            return json.load(connection.getresponse())

    def _failure(self, what: str) -> str:
        lines = self._output.read_text(errors="replace").splitlines()[-_LINES:]
        return (
            f"TensorBoard {what} ('python -m jaxboard doctor' checks the installation). Its output ended with:\n"
            + "\n".join(lines)
        )


def command(logdir: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command that starts TensorBoard with settings for the runs of jaxboard.

    It reads all files of a run that grow, looks for new points every 5 s, and shows ten times as many points as by default.
    """
    settings = ["--reload_multifile=true", "--reload_interval=5", "--samples_per_plugin", _SAMPLES]
    return [
        sys.executable,
        *("-m", "tensorboard.main", "--logdir", logdir, "--host", "localhost"),
        *settings,
        *arguments,
    ]


def _is_of(environment: object, logdir: str) -> bool:
    """Return whether an answer of TensorBoard is about this directory, and not that of another TensorBoard."""
    return isinstance(environment, dict) and environment.get("data_location") == logdir


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]
