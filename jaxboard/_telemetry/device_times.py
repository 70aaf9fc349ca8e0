"""The time for which a device goes on to compute after a call has returned, by function.

It is measured for a few calls, which are watched. The time between any two calls is the device time and a wait. If one of
these is always the same, the other one follows.
"""

from __future__ import annotations

import collections
import statistics
from collections.abc import Sequence
from typing import NamedTuple

_REMEMBERED = 8
"""Watched calls of a function from which the times of its other calls follow."""

_PRECISE = 0.2
"""The bounds of a device time are precise if they differ by at most this share of it."""

_MAX_RATIO = 2.0
"""An estimated device time is at most this many times as long as the longest measured one."""


class _Bounds(NamedTuple):
    """Two bounds of a time."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        return (self.low + self.high) / 2


class _Usual(NamedTuple):
    """The usual time of several calls.

    Attributes:
        seconds: the time.
        spread: the standard deviation; 0 if all calls may have taken the same time.
    """

    seconds: float
    spread: float


class DeviceTimes:
    """The device times of watched calls. Each is between two bounds.

    The thread that watches needs the GIL: while the loop holds it, the bounds are up to 5 ms wide.

    Example:
        >>> times = DeviceTimes()
        >>> times.note("step", 3.0, 5.0, gap=9.0), times.note("step", 3.5, 7.0, gap=8.0)
        (4.0, 4.25)
        >>> times.estimate("step", gap=20.0)
        4.25
    """

    def __init__(self) -> None:
        self._watched: dict[str, collections.deque[tuple[_Bounds, float]]] = {}
        self._device: dict[str, _Usual] = {}
        self._wait: dict[str, _Usual] = {}
        self._longest: dict[str, float] = {}

    def note(self, function: str, low: float, high: float, *, gap: float) -> float:
        """Note a watched call, and return its device time in seconds.

        Args:
            function: the name of the function.
            low: the shortest possible device time.
            high: the longest possible one.
            gap: the time until the next call.
        """
        bounds = _Bounds(low, high)
        watched = self._watched.setdefault(function, collections.deque(maxlen=_REMEMBERED))
        watched.append((bounds, gap))
        device = self._device[function] = _usual([each for each, _ in watched])
        self._wait[function] = _usual(
            [_Bounds(length - each.high, length - each.low) for each, length in watched]
        )
        self._longest[function] = max(each.high for each, _ in watched)
        if high - low <= _PRECISE * high:
            return bounds.middle
        return min(max(device.seconds, low), high)

    def estimate(self, function: str, gap: float) -> float:
        """Return the device time of a call that was not watched; ``gap`` if no call of the function was.

        Args:
            function: the name of the function.
            gap: the time until the next call, in seconds.
        """
        if function not in self._device:
            return gap
        device, wait = self._device[function], self._wait[function]
        seconds = device.seconds if device.spread <= wait.spread else max(gap - wait.seconds, 0.0)
        return min(seconds, _MAX_RATIO * self._longest[function], gap)

    def is_known(self, function: str) -> bool:
        """Return whether enough calls of a function were watched."""
        return len(self._watched.get(function, ())) == _REMEMBERED


def _usual(times: Sequence[_Bounds]) -> _Usual:
    common = _Bounds(max(each.low for each in times), min(each.high for each in times))
    if common.low <= common.high:
        return _Usual(common.middle, 0.0)
    middles = [each.middle for each in times]
    return _Usual(statistics.median(middles), statistics.stdev(middles))
