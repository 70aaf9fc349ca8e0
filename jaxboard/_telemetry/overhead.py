"""The cost of jaxboard itself in a run."""

from __future__ import annotations

import os
import pathlib
import threading
from collections.abc import Callable, Mapping

from jaxboard._host.observers import Call
from jaxboard._telemetry.collector import Collector
from jaxboard._telemetry.reporter import Reporter

_FLUSHER_SECONDS = "overhead/flusher_cpu_seconds"
_BYTES = "overhead/bytes_written"


class Overhead(Collector):
    """The totals of jaxboard's own time and bytes.

    Scalars ``overhead/...``: ``wrapper_seconds``, the mean time per call of a jitted function without
    JAX's dispatch; ``flusher_cpu_seconds`` and ``bytes_written`` since the run was opened, or since the first
    of the runs that it continues (bytes only for local directories).

    Args:
        reporter: the writer.
        logdir: the directory of the event files, or None.
        flusher_seconds: returns the CPU seconds of the flusher's thread.
        clock: returns seconds, like ``time.perf_counter``.
        earlier: the totals of a run that this one continues.
    """

    def __init__(
        self,
        reporter: Reporter,
        logdir: pathlib.Path | None,
        flusher_seconds: Callable[[], float],
        clock: Callable[[], float],
        earlier: Mapping[str, float],
    ):
        self._reporter = reporter
        self._logdir = logdir
        # The sink may not have created the directory yet.
        self._initial_bytes = event_file_bytes(logdir) or 0
        self._earlier = earlier
        self._flusher_seconds = flusher_seconds
        self._clock = clock
        self._thread = threading.local()
        self._seconds = 0.0
        self._calls = 0

    def begin_call(self, call: Call) -> None:
        """Start the clock."""
        self._thread.began = self._clock()

    def end_call(self, call: Call, *, compiled: bool) -> None:
        """Add the time of a call that compiled nothing."""
        began = getattr(self._thread, "began", None)
        if call.program is not None and began is not None and not compiled:
            self._seconds += self._clock() - began - call.dispatch_seconds
            self._calls += 1

    def sample(self, step: int) -> None:
        """Write the totals, and the mean over the calls since the last sample."""
        mean = self._seconds / self._calls if self._calls else None
        self._reporter.scalars(step, {"overhead/wrapper_seconds": mean, **self.totals()})
        self._seconds, self._calls = 0.0, 0

    def totals(self) -> dict[str, float]:
        """Return the totals; see :meth:`Collector.totals`."""
        measured: dict[str, float] = {_FLUSHER_SECONDS: self._flusher_seconds()}
        total_bytes = event_file_bytes(self._logdir)
        if total_bytes is not None:
            measured[_BYTES] = total_bytes - self._initial_bytes
        return {name: self._earlier.get(name, 0) + value for name, value in measured.items()}


def event_file_bytes(logdir: pathlib.Path | None) -> int | None:
    """Return the size of the event files in a directory; None if there is no directory."""
    if logdir is None:
        return None
    try:
        with os.scandir(logdir) as entries:
            return sum(entry.stat().st_size for entry in entries if ".tfevents." in entry.name)
    except OSError:
        return None
