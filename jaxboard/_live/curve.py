"""A curve in bounded memory, however many points it has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MAX_RANGES = 150
"""Most ranges of steps of a curve: more than a small chart can show."""


class CurvePoints(NamedTuple):
    """The points of a curve, one for each range of steps that has a value.

    Attributes:
        steps: int64[N], the first step of each range, increasing.
        means: float64[N], the mean of its finite values; NaN if there is none.
        lows: float64[N], the smallest of them.
        highs: float64[N], the largest of them.
        is_broken: bool[N], whether a value in the range is NaN or infinite.
    """

    steps: np.ndarray
    means: np.ndarray
    lows: np.ndarray
    highs: np.ndarray
    is_broken: np.ndarray


class Curve:
    """The values of a tag, merged in ranges of steps. The ranges double when there are too many.

    Attributes:
        last_step: the step of the last value; -1 if there is none.
        last: the last value.

    Example:
        >>> import numpy as np
        >>> curve = Curve()
        >>> curve.add(np.arange(1000), np.arange(1000.0))
        >>> curve.points().steps[:3], curve.points().means[:3]
        (array([ 0,  8, 16]), array([ 3.5, 11.5, 19.5]))
    """

    __slots__ = (
        "_count",
        "_first",
        "_high",
        "_is_broken",
        "_low",
        "_shift",
        "_total",
        "last",
        "last_step",
    )

    def __init__(self) -> None:
        self.last_step = -1
        self.last = float("nan")
        # Range i holds the steps s with s >> shift == first + i.
        self._shift = 0
        self._first = 0
        self._clear()

    def _clear(self) -> None:
        self._count = np.zeros(_MAX_RANGES, np.int64)
        self._total = np.zeros(_MAX_RANGES)
        self._low = np.full(_MAX_RANGES, np.inf)
        self._high = np.full(_MAX_RANGES, -np.inf)
        self._is_broken = np.zeros(_MAX_RANGES, bool)

    def add(self, steps: np.ndarray, values: np.ndarray) -> None:
        """Add values.

        Args:
            steps: int64[N], at least one, in any order.
            values: float64[N].
        """
        self._extend(int(steps.min()), int(steps.max()))
        self.last_step, self.last = int(steps[-1]), float(values[-1])
        places = (steps >> self._shift) - self._first
        is_finite = np.isfinite(values)
        self._is_broken[places[~is_finite]] = True
        places, values = places[is_finite], values[is_finite]
        np.add.at(self._count, places, 1)
        with np.errstate(over="ignore"):
            np.add.at(self._total, places, values)
        np.minimum.at(self._low, places, values)
        np.maximum.at(self._high, places, values)

    def points(self) -> CurvePoints:
        """Return the points of the curve so far."""
        used = np.flatnonzero((self._count > 0) | self._is_broken)
        has_value = self._count[used] > 0
        lows = np.where(has_value, self._low[used], np.nan)
        highs = np.where(has_value, self._high[used], np.nan)
        means = self._total[used] / np.maximum(self._count[used], 1)
        means = np.where(np.isfinite(means), means, lows / 2 + highs / 2)  # The sum overflowed.
        means = np.where(has_value, means, np.nan)
        steps = (used + self._first) << self._shift
        return CurvePoints(steps, means, lows, highs, self._is_broken[used])

    def _extend(self, low: int, high: int) -> None:
        """Make the ranges cover the steps from ``low`` to ``high``, too."""
        used = np.flatnonzero((self._count > 0) | self._is_broken)
        if not len(used):
            self._first = low >> self._shift
        first = min(low >> self._shift, self._first)
        last = max(high >> self._shift, self._first + int(used[-1]) if len(used) else first)
        if first == self._first and last - first < _MAX_RANGES:
            return
        shift = self._shift
        while last - first >= _MAX_RANGES:
            first, last, shift = first >> 1, last >> 1, shift + 1
        places = ((used + self._first) >> (shift - self._shift)) - first
        earlier = (
            self._count[used],
            self._total[used],
            self._low[used],
            self._high[used],
            self._is_broken[used],
        )
        self._clear()
        self._first, self._shift = first, shift
        np.add.at(self._count, places, earlier[0])
        with np.errstate(over="ignore", invalid="ignore"):
            np.add.at(self._total, places, earlier[1])
        np.minimum.at(self._low, places, earlier[2])
        np.maximum.at(self._high, places, earlier[3])
        np.logical_or.at(self._is_broken, places, earlier[4])
