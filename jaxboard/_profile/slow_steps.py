"""The detection of steps that became slower than their median."""

from __future__ import annotations

import statistics
from collections import deque

_SKIPPED = 32
"""Steps at the start that do not count: JAX dispatches about as many before it waits for the first one."""

_FEWEST = 32
"""Fewest steps in the median."""

_MAX_STEPS = 256
"""Most steps in the median."""

_RENEWED = 16
"""Steps between two computations of the median."""

_IN_A_ROW = 3
"""Slow steps in a row that count as a slowdown. A checkpoint or an evaluation slows down one step."""

_SHORTEST_SECS = 0.1
"""The shortest slowdown: short steps are as long as other programs on the machine let them be."""


class SlowSteps:
    """The times from the start of one step to the start of the next, by the clock of the host.

    A step takes about a microsecond.

    Args:
        factor: how many times as long as the median a slow step takes.
    """

    def __init__(self, factor: float) -> None:
        self._factor = factor
        self.restart()

    def restart(self) -> None:
        """Forget all steps, and learn the median anew."""
        self._last: float | None = None
        self._skipped = 0
        self._seconds: deque[float] = deque(maxlen=_MAX_STEPS)
        self._since_median = 0
        self._limit = float("inf")
        self._slow, self._slow_secs = 0, 0.0

    def begin(self, now: float) -> bool:
        """Note the start of a step, and return whether the steps became slow.

        Args:
            now: the time, by ``time.monotonic()``.
        """
        last, self._last = self._last, now
        if last is None:
            return False
        if self._skipped < _SKIPPED:
            self._skipped += 1
            return False
        seconds = now - last
        if seconds > self._limit:
            self._slow, self._slow_secs = self._slow + 1, self._slow_secs + seconds
            return self._slow >= _IN_A_ROW and self._slow_secs >= _SHORTEST_SECS
        self._slow, self._slow_secs = 0, 0.0
        self._seconds.append(seconds)
        self._since_median += 1
        if self._since_median >= _RENEWED and len(self._seconds) >= _FEWEST:
            self._since_median = 0
            self._limit = self._factor * statistics.median(self._seconds)
        return False
