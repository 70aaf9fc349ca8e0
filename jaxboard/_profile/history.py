"""The windows of a run, each compared with the previous one."""

from __future__ import annotations

import threading
import weakref

from jaxboard._errors import ProfileError
from jaxboard._profile.comparison import Comparison, compare
from jaxboard._profile.summary import TraceSummary
from jaxboard._profile.trace_files import trace_before
from jaxboard._profile.trace_reader import summarize_in_subprocess
from jaxboard._run import Run

_MAX_WAITING = 3
"""Most windows that wait to be read. A further window has no summary."""

_lock = threading.Lock()
_last: weakref.WeakKeyDictionary[Run, RecordedWindow] = weakref.WeakKeyDictionary()


class RecordedWindow:
    """A window of a run, from its start on. Windows of a run are summarized in the order in which they started.

    Args:
        run: the run.

    Attributes:
        summary: its summary; None until its trace is read.
        done: an event that is set when nothing more is written about it.
    """

    def __init__(self, run: Run) -> None:
        self.summary: TraceSummary | None = None
        self.done = threading.Event()
        with _lock:
            self._previous, _last[run] = _last.get(run), self

    def read(self, file: str, timeout: float) -> TraceSummary:
        """Read the trace of this window once the previous window is finished, so that the reading processes do not pile up.

        Args:
            file: the path of the trace.
            timeout: the longest time to wait for the previous window, and to read the trace, in seconds.

        Raises:
            ProfileError: the trace cannot be read, or too many windows wait.
        """
        previous, waiting = self._previous, 0
        while previous is not None and not previous.done.is_set():
            previous, waiting = previous._previous, waiting + 1  # noqa: SLF001 (of the same class)
        if waiting > _MAX_WAITING:
            raise ProfileError(
                "the previous windows are still being read. Record windows less often."
            )
        self._before(timeout)
        self.summary = summarize_in_subprocess(file, timeout)
        return self.summary

    def compare(self, path: str, timeout: float) -> Comparison | None:
        """Return the comparison with the previous window; None if there is none.

        The first window after a restart is compared with the newest one in the log directory.

        Args:
            path: the path of the trace of this window, which was read.
            timeout: the longest time to read an earlier trace, in seconds.
        """
        before, summary = self._before(0), self.summary
        if before is None and self._previous is None:
            file = trace_before(path)
            try:
                before = None if file is None else summarize_in_subprocess(file, timeout)
            except ProfileError:
                return None  # The directory may hold a damaged trace of another program.
        return None if before is None or summary is None else compare(summary, before)

    def finish(self) -> None:
        """Note that nothing more is written about this window."""
        if self.summary is None:  # Its trace could not be read.
            self.summary = self._before(0)
        self._previous = None
        self.done.set()

    def _before(self, timeout: float) -> TraceSummary | None:
        """Return the summary of the previous window, as soon as there is one."""
        if self._previous is None or not self._previous.done.wait(timeout):
            return None
        return self._previous.summary
