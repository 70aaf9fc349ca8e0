"""The time for which a device goes on to compute after a call has returned, by function."""

from __future__ import annotations

import collections
import statistics

_REMEMBERED = 8
"""Watched calls of a function from which its usual time follows."""

_PRECISE = 0.2
"""A bound is precise if it is at most this share of the time wide."""


class DeviceTimes:
    """The device times of watched calls. Each is between two bounds.

    The thread that watches waits for Python's lock: while the loop holds it, the bounds are up to 5 ms wide. If all
    calls of a function take the same time, that time is within the bounds of each.

    Example:
        >>> times = DeviceTimes()
        >>> times.note("step", 3.0, 8.0), times.note("step", 0.0, 4.0)
        (5.5, 3.5)
        >>> times.usual("step")
        3.5
    """

    def __init__(self) -> None:
        self._bounds: dict[str, collections.deque[tuple[float, float]]] = {}
        self._usual: dict[str, float] = {}

    def note(self, function: str, low: float, high: float) -> float:
        """Note a watched call, and return its device time in seconds."""
        bounds = self._bounds.setdefault(function, collections.deque(maxlen=_REMEMBERED))
        bounds.append((low, high))
        lowest, highest = max(a for a, _ in bounds), min(b for _, b in bounds)
        usual = self._usual[function] = (
            (lowest + highest) / 2
            if lowest <= highest
            else statistics.median((a + b) / 2 for a, b in bounds)
        )
        is_precise = high - low <= _PRECISE * high
        return (low + high) / 2 if is_precise else min(max(usual, low), high)

    def usual(self, function: str) -> float | None:
        """Return the usual device time of a function in seconds; None if no call was watched."""
        return self._usual.get(function)

    def is_known(self, function: str) -> bool:
        """Return whether enough calls of a function were watched."""
        return len(self._bounds.get(function, ())) == _REMEMBERED
