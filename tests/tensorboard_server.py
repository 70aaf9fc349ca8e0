"""A real TensorBoard on a loopback port, for tests that ask it what it shows."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Literal


class Server:
    """A TensorBoard that runs.

    Attributes:
        url: where, with a slash at the end.
        deadline: how long, in seconds, a question is asked again before the test fails.
    """

    def __init__(self, url: str, process: subprocess.Popen[bytes], log: pathlib.Path) -> None:
        self.url = url
        self.deadline = 60.0
        self._process = process
        self._log = log

    def read(self, path: str, *, post: Any = None, **query: str | int) -> bytes:
        """The body of one answer, 404 and other errors raised as ``urllib`` does."""
        url = self.url + path + ("?" + urllib.parse.urlencode(query) if query else "")
        body = None if post is None else json.dumps(post).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def get(self, path: str, *, post: Any = None, **query: str | int) -> Any:
        """One answer, parsed from JSON."""
        return json.loads(self.read(path, post=post, **query))

    def until(self, ask: Callable[[], Any], good: Callable[[Any], bool] = bool) -> Any:
        """Asks until the answer is good: TensorBoard loads files in its own time.

        Raises:
            AssertionError: it was not in time; says the last answer and TensorBoard's own log.
        """
        end = time.monotonic() + self.deadline
        answer: Any = None
        while time.monotonic() < end and self._process.poll() is None:
            try:
                answer = ask()
                if good(answer):
                    return answer
            except urllib.error.URLError as error:  # Not up yet, or a tag it does not know yet.
                answer = error
            time.sleep(0.1)
        raise AssertionError(f"last answer {answer!r}; TensorBoard said:\n{self._log.read_text()}")

    def scalars(self, run: str, tag: str, *, count: int = 1) -> list[tuple[float, int, float]]:
        """The (wall time, step, value) of a tag, once there are ``count``."""
        rows = self._wait("scalars/scalars", run, tag, count)
        return [(wall, step, value) for wall, step, value in rows]

    def histograms(self, run: str, tag: str, *, count: int = 1) -> list[Any]:
        """The [wall time, step, [[left, right, count], …]] of a tag, once there are ``count``."""
        return self._wait("histograms/histograms", run, tag, count)

    def images(self, run: str, tag: str, *, sample: int = 0, count: int = 1) -> list[Any]:
        """The entries of one sample of a tag, once there are ``count``, each with its file."""
        entries = self._wait("images/images", run, tag, count, sample=sample)
        for entry in entries:
            entry["file"] = self.read("data/plugin/images/individualImage?" + entry["query"])
        return entries

    def text(self, run: str, tag: str, *, count: int = 1) -> list[Any]:
        """The entries of a tag with their HTML, once there are ``count``."""
        return self._wait("text/text", run, tag, count)

    def tags(self, plugin: str) -> Any:
        """What a dashboard lists, once it lists something."""
        return self.until(lambda: self.get(f"data/plugin/{plugin}/tags"))

    def hparams(self, *, count: int = 1) -> list[Any]:
        """The session groups of the HParams dashboard, once there are ``count``."""
        question = {
            "startIndex": 0,
            "sliceSize": 100,
            "allowedStatuses": ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_RUNNING"],
            "colParams": [],
        }
        answer = self.until(
            lambda: self.get("data/plugin/hparams/session_groups", post=question),
            lambda answer: len(answer.get("sessionGroups", ())) >= count,
        )
        return answer["sessionGroups"]

    def _wait(self, path: str, run: str, tag: str, count: int, **query: int) -> list[Any]:
        return self.until(
            lambda: self.get(f"data/plugin/{path}", run=run, tag=tag, **query),
            lambda rows: len(rows) >= count,
        )


@contextlib.contextmanager
def tensorboard(
    logdir: str | os.PathLike[str], *, loader: Literal["rust", "python"] = "rust"
) -> Iterator[Server]:
    """Runs ``tensorboard --logdir`` until the block is left.

    Args:
        logdir: the directory above the runs.
        loader: which of TensorBoard's two readers; they differ in what they accept.
    """
    with tempfile.TemporaryDirectory() as own:
        log = pathlib.Path(own, "log")
        # Instances find and reuse each other through TMPDIR; a notebook's backend breaks a child.
        environment = {**os.environ, "TMPDIR": own}
        environment.pop("MPLBACKEND", None)
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", os.fspath(logdir)]
        command += [
            "--host",
            "127.0.0.1",
            "--load_fast",
            {"rust": "true", "python": "false"}[loader],
        ]
        command += ["--reload_interval", "1", "--samples_per_plugin", "scalars=100000"]
        port = _free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(port)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # So that the data server ends with it.
            )
        try:
            server = Server(f"http://127.0.0.1:{port}/", process, log)
            server.until(lambda: server.get("data/environment"))
            yield server
        finally:
            _end(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    process.wait()
