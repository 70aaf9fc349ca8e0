"""The progress of a run: its steps per second, and how long the rest takes."""

from __future__ import annotations

import collections

_WINDOW_SECS = 20.0
"""The rate is that of the steps within this time, so that it soon recovers from a pause, as for an evaluation."""

_COMPILED_STEPS = 2
"""An instrumented function has at most this many programs; its first calls compile them."""

_STALL_SECS = 5.0
"""A run has stalled if it takes no step for this long, and for at least three times as long as a step takes."""


class Pace:
    """The steps of a run over time.

    Args:
        step: the first step.
        steps: the number of steps at the end; None if it is not known.
        now: the current time in seconds, by any clock.

    Attributes:
        step: the number of steps taken so far.
        steps: the number of steps at the end; None if it is not known.

    Example:
        >>> pace = Pace(0, 1000, now=0.0)
        >>> for second in range(1, 11):
        ...     pace.update(10 * second, now=float(second))
        >>> pace.rate, pace.seconds_left(now=10.0)
        (10.0, 90.0)
    """

    def __init__(self, step: int, steps: int | None, now: float):
        self.step = step
        self.steps = steps
        self._started = self._last_step_at = now
        # A step counts when its call begins. Once this one has begun, the calls that compile have returned.
        self._compiled = step + _COMPILED_STEPS + 1
        self._samples = collections.deque[tuple[float, int]]()

    def update(self, step: int, now: float) -> None:
        """Note how many steps were taken."""
        if step == self.step:
            return
        self.step = step
        self._last_step_at = now
        if step < self._compiled:
            return
        self._samples.append((now, step))
        while len(self._samples) > 2 and now - self._samples[1][0] > _WINDOW_SECS:
            self._samples.popleft()

    @property
    def rate(self) -> float:
        """Steps per second; 0 if it is not known."""
        if len(self._samples) < 2:
            return 0.0
        (start, first), (end, last) = self._samples[0], self._samples[-1]
        return max(last - first, 0) / (end - start) if end > start else 0.0

    @property
    def fraction(self) -> float | None:
        """The fraction of the steps that were taken; None if their number is not known."""
        return None if self.steps is None else min(self.step / self.steps, 1.0)

    def elapsed(self, now: float) -> float:
        """Return the seconds since the run was opened."""
        return now - self._started

    def seconds_left(self, now: float) -> float | None:
        """Return how many seconds the remaining steps take; None if that is not known."""
        if self.steps is None or not self.rate or self.seconds_stalled(now):
            return None
        return max(self.steps - self.step, 0) / self.rate

    def seconds_stalled(self, now: float) -> float | None:
        """Return for how many seconds the run has taken no step; None if it has not stalled."""
        seconds = now - self._last_step_at
        usual = 1 / self.rate if self.rate else 0.0
        return seconds if seconds > max(_STALL_SECS, 3 * usual) else None


def clock(seconds: float) -> str:
    """Return a duration as text.

    Example:
        >>> clock(7), clock(65), clock(3 * 3600 + 62)
        ('0:07', '1:05', '3:01:02')
    """
    minutes, rest = divmod(round(min(seconds, 1e9)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
