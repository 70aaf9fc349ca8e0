"""The runs of summary writers. Those of one directory share one run: TensorBoard reads one writer per directory."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable

from jaxboard import _paths
from jaxboard._emit.layouts import Chart
from jaxboard._process.fork import Stage, on_fork
from jaxboard._run import Run
from jaxboard.sinks._file_names import is_event_file


class Directory:
    """A directory that summary writers write to, and its open run.

    Args:
        path: the path; "" for none.

    Attributes:
        run: the run; None before the first report, and after the last writer was closed.
        charts: the charts of the dashboard of custom scalars, by category and title.
        sessions: the hyperparameters of each run of the directory, as text.
    """

    def __init__(self, path: str = "") -> None:
        self._path = path
        self.run: Run | None = None
        self.charts: dict[str, dict[str, Chart]] = {}
        self.sessions: list[str] = []
        # Writers that were collected without being closed do not count.
        self._writers: weakref.WeakSet[object] = weakref.WeakSet()

    def join(self, writer: object, open_run: Callable[[], Run], *, anew: bool) -> Run:
        """Return the open run, for one more writer.

        Args:
            writer: the writer.
            open_run: opens a run.
            anew: whether an open run is closed first.
        """
        with _lock:
            if self.run is not None and anew:
                self.run.close()
            if self.run is None or self.run.closed:
                if not self._has_events():
                    self.charts.clear()
                    self.sessions.clear()
                self.run = open_run()
            self._writers.add(writer)
            return self.run

    def _has_events(self) -> bool:
        """Return whether the directory may have event files: it may have been emptied since the last run."""
        if _paths.is_remote(self._path):
            return True
        with contextlib.suppress(OSError):
            return any(map(is_event_file, os.listdir(self._path)))
        return False

    def leave(self, writer: object) -> bool:
        """Return whether no other writer uses the run."""
        with _lock:
            self._writers.discard(writer)
            return not self._writers


_lock = threading.RLock()
_directories: dict[str, Directory] = {}


def directory_at(logdir: str) -> Directory:
    """Return the directory at a path or a URL; the same one each time."""
    path = _paths.absolute(logdir)
    key = path if _paths.is_remote(path) else os.path.realpath(path)
    return _directories.setdefault(key, Directory(path))


def _forget() -> None:
    # A forked child has none of the runs, and a thread that is gone may hold the lock.
    global _lock  # noqa: PLW0603 (it is replaced)
    _lock = threading.RLock()
    _directories.clear()


on_fork(Stage.STATE, in_child=_forget)
