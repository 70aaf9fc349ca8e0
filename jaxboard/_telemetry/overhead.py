"""What jaxboard itself costs, as a run sees it."""

from __future__ import annotations

import os
import pathlib
import threading
from collections.abc import Callable

from jaxboard._host.observers import Call
from jaxboard._telemetry.reporter import Reporter


class Overhead:
    """Adds up jaxboard's own time and bytes.

    Scalars ``overhead/…``: ``wrapper_seconds``, the mean time per call of a jitted function that is
    jaxboard's rather than JAX's dispatch; ``flusher_cpu_seconds`` and ``bytes_written`` since the run
    was opened (the latter of local directories).

    Args:
        reporter: where they go.
        logdir: where the event files are; None where there are none.
        flusher_seconds: how long the flusher's thread has been busy.
        clock: seconds, as of ``time.perf_counter``.
    """

    def __init__(
        self,
        reporter: Reporter,
        logdir: pathlib.Path | None,
        flusher_seconds: Callable[[], float],
        clock: Callable[[], float],
    ):
        self._reporter = reporter
        self._logdir = logdir
        self._before = event_bytes(logdir) or 0  # not there yet: it is made by the sink
        self._flusher_seconds = flusher_seconds
        self._clock = clock
        self._thread = threading.local()
        self._seconds = 0.0
        self._calls = 0

    def begin(self) -> None:
        """A call begins."""
        self._thread.began = self._clock()

    def end(self, call: Call, *, compiled: bool) -> None:
        """It was dispatched."""
        began = getattr(self._thread, "began", None)
        if call.program is not None and began is not None and not compiled:
            self._seconds += self._clock() - began - call.dispatch_seconds
            self._calls += 1

    def sample(self, step: int) -> None:
        """Writes what it came to."""
        mean = self._seconds / self._calls if self._calls else None
        now = event_bytes(self._logdir)
        written = None if now is None else now - self._before
        self._reporter.scalars(
            step,
            {
                "overhead/wrapper_seconds": mean,
                "overhead/flusher_cpu_seconds": self._flusher_seconds(),
                "overhead/bytes_written": written,
            },
        )
        self._seconds, self._calls = 0.0, 0


def event_bytes(logdir: pathlib.Path | None) -> int | None:
    """The size of the event files in a directory; None where there is no directory."""
    if logdir is None:
        return None
    try:
        with os.scandir(logdir) as entries:
            return sum(entry.stat().st_size for entry in entries if ".tfevents." in entry.name)
    except OSError:
        return None
