"""A real TensorBoard on a loopback port, for tests of what it shows."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeAlias

from ports import free_port

Loader: TypeAlias = Literal["rust", "python"]
"""TensorBoard's two readers of event files, which differ in what they accept."""

# The Python loader reads with TensorFlow. The Rust loader needs none, so it runs as where none is
# installed: its import takes ten times as long as the start of TensorBoard.
_MAIN: dict[Loader, list[str]] = {
    "python": ["-m", "tensorboard.main"],
    "rust": [
        "-c",
        "import sys; sys.modules['tensorflow'] = None; from tensorboard import main; main.run_main()",
    ],
}


class Server:
    """A client of a running TensorBoard.

    Attributes:
        url: its address, with a slash at the end.
        logdir: the directory that contains the runs.
        deadline: how many seconds a request is repeated before the test fails.
    """

    def __init__(
        self,
        url: str,
        logdir: pathlib.Path,
        process: subprocess.Popen[bytes],
        log: pathlib.Path,
    ) -> None:
        self.url = url
        self.logdir = logdir
        self.deadline = 240.0  # TensorBoard may take minutes to start while many programs run.
        self._process = process
        self._log = log
        self._suspended = False

    def suspend(self) -> None:
        """Stop the processes of TensorBoard, which reads its runs again every second, until the next request."""
        os.killpg(self._process.pid, signal.SIGSTOP)
        self._suspended = True

    def show(self, directory: pathlib.Path) -> str:
        """Copy a directory of finished runs into the log directory; return the prefix of the runs' names.

        They appear together, as for a server that starts after the runs have finished.
        """
        hidden = pathlib.Path(tempfile.mkdtemp(dir=self.logdir.parent)) / directory.name
        shutil.copytree(directory, hidden)
        hidden.rename(self.logdir / directory.name)
        return f"{directory.name}/"

    def read(self, path: str, *, post: Any = None, **query: str | int) -> bytes:
        """Return the body of one response; 404 and other errors raise as in ``urllib``."""
        if self._suspended:
            os.killpg(self._process.pid, signal.SIGCONT)
            self._suspended = False
        url = self.url + path + ("?" + urllib.parse.urlencode(query) if query else "")
        body = None if post is None else json.dumps(post).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=self.deadline) as response:
                return response.read()
        except urllib.error.HTTPError as error:
            error.close()  # It is a response, too, and Python 3.14 warns of one that is left open.
            raise

    def get(self, path: str, *, post: Any = None, **query: str | int) -> Any:
        """Return one response, parsed from JSON."""
        return json.loads(self.read(path, post=post, **query))

    def until(self, request: Callable[[], Any], accept: Callable[[Any], bool] = bool) -> Any:
        """Repeat a request until ``accept`` holds: TensorBoard loads files at its own pace.

        Raises:
            AssertionError: the deadline passed. The message has the last response and TensorBoard's log.
        """
        end = time.monotonic() + self.deadline
        response: Any = None
        while time.monotonic() < end and self._process.poll() is None:
            try:
                response = request()
                if accept(response):
                    return response
            except OSError as error:  # Not started yet, a tag not loaded yet, or no answer in time.
                response = error
            time.sleep(0.1)
        raise AssertionError(
            f"last response {response!r}; TensorBoard's log:\n{self._log.read_text()}"
        )

    def scalars(self, run: str, tag: str, *, count: int = 1) -> list[tuple[float, int, float]]:
        """Return the (wall time, step, value) points of a tag, once there are ``count``."""
        rows = self._wait("scalars/scalars", run, tag, count)
        return [(wall, step, value) for wall, step, value in rows]

    def histograms(self, run: str, tag: str, *, count: int = 1) -> list[Any]:
        """Return the [wall time, step, [[left, right, count], …]] points of a tag, once there are ``count``."""
        return self._wait("histograms/histograms", run, tag, count)

    def images(self, run: str, tag: str, *, sample: int = 0, count: int = 1) -> list[Any]:
        """Return the entries of one sample of a tag with their files, once there are ``count``."""
        entries = self._wait("images/images", run, tag, count, sample=sample)
        for entry in entries:
            entry["file"] = self.read("data/plugin/images/individualImage?" + entry["query"])
        return entries

    def pr_curves(self, run: str, tag: str, *, count: int = 1) -> list[Any]:
        """Return the entries of a tag, once there are ``count``."""
        response = self.until(
            lambda: self.get("data/plugin/pr_curves/pr_curves", run=run, tag=tag),
            lambda response: len(response[run]) >= count,
        )
        return response[run]

    def sounds(self, run: str, tag: str, *, sample: int = 0, count: int = 1) -> list[Any]:
        """Return the entries of one sound of a tag with their files, once there are ``count``."""
        entries = self._wait("audio/audio", run, tag, count, sample=sample)
        for entry in entries:
            entry["file"] = self.read("data/plugin/audio/individualAudio?" + entry["query"])
        return entries

    def mesh(
        self, run: str, tag: str, *, sample: int = 0, count: int = 1
    ) -> dict[tuple[str, int], Any]:
        """Return the parts of a mesh, once there are ``count``: (name, step) -> metadata with its numbers."""
        entries = self._wait("mesh/meshes", run, tag, count, sample=sample)
        parts = {}
        for entry in entries:
            kind, step = entry["content_type"], entry["step"]
            query = {"run": run, "tag": tag, "sample": sample, "step": step}
            name = {1: "VERTEX", 2: "FACE", 3: "COLOR"}[kind]
            data = self.read("data/plugin/mesh/data", content_type=name, **query)
            parts[name, step] = {**entry, "data": data}
        return parts

    def text(self, run: str, tag: str, *, count: int = 1) -> list[Any]:
        """Return the entries of a tag with their HTML, once there are ``count``."""
        return self._wait("text/text", run, tag, count)

    def tags(self, plugin: str, run: str) -> Any:
        """Return the tags of a run that a dashboard lists, once it lists any."""
        return self.until(lambda: self.get(f"data/plugin/{plugin}/tags").get(run))

    def session_group(self, run: str, *, metrics: int = 1) -> Any:
        """Return the session group of a run in the HParams dashboard, once it has so many metrics."""
        query = {
            "startIndex": 0,
            "sliceSize": 100,
            "allowedStatuses": [
                "STATUS_UNKNOWN",
                "STATUS_SUCCESS",
                "STATUS_FAILURE",
                "STATUS_RUNNING",
            ],
            "colParams": [],
        }

        def matches(group: Any) -> bool:
            session = group["sessions"][0]
            return session["name"] == run and len(session.get("metricValues", ())) >= metrics

        def groups() -> list[Any]:
            response = self.get("data/plugin/hparams/session_groups", post=query)
            return list(filter(matches, response.get("sessionGroups", ())))

        (group,) = self.until(groups)
        return group

    def charts(self, category: str) -> list[Any]:
        """Return the charts of a category of the dashboard of custom scalars, once it is there."""

        def found() -> list[Any]:
            layout = self.get("data/plugin/custom_scalars/layout")
            titled = (each for each in layout.get("category", ()) if each["title"] == category)
            return [chart for each in titled for chart in each["chart"]]

        return self.until(found)

    def custom_scalars(self, run: str, tag: str, *, count: int) -> dict[str, list[Any]]:
        """Return the points of a chart of custom scalars by tag, once all tags that match have ``count`` together."""
        response = self.until(
            lambda: self.get("data/plugin/custom_scalars/scalars", run=run, tag=tag),
            lambda found: sum(map(len, found["tag_to_events"].values())) >= count,
        )
        return response["tag_to_events"]

    def _wait(self, path: str, run: str, tag: str, count: int, **query: int) -> list[Any]:
        return self.until(
            lambda: self.get(f"data/plugin/{path}", run=run, tag=tag, **query),
            lambda rows: len(rows) >= count,
        )


@contextlib.contextmanager
def tensorboard(logdir: str | os.PathLike[str], *, loader: Loader = "rust") -> Iterator[Server]:
    """Run ``tensorboard --logdir`` for the duration of a block.

    Args:
        logdir: the directory that contains the runs.
        loader: one of TensorBoard's readers.
    """
    with tempfile.TemporaryDirectory() as directory:
        log = pathlib.Path(directory, "log")
        # Instances find and reuse each other through TMPDIR; a notebook's backend breaks a child.
        environment = {**os.environ, "TMPDIR": directory}
        environment.pop("MPLBACKEND", None)
        command = [sys.executable, *_MAIN[loader], "--logdir", os.fspath(logdir)]
        command += [
            "--host",
            "127.0.0.1",
            "--load_fast",
            {"rust": "true", "python": "false"}[loader],
        ]
        command += ["--reload_interval", "1", "--samples_per_plugin", "scalars=100000"]
        port = free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--port", str(port)],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # One group, so that _terminate also ends the data server.
            )
        try:
            server = Server(f"http://127.0.0.1:{port}/", pathlib.Path(logdir), process, log)
            server.until(lambda: server.get("data/environment"))
            yield server
        finally:
            _terminate(process)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
            os.killpg(process.pid, signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
    process.wait()
