"""The detector of spikes: values far outside of the earlier range of their tag, which soon returns to it."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np

from jaxboard._alerts.robust_score import robust_scores

WINDOW = 100
"""The number of points of its tag that a value is compared with, those before it. Tags with fewer have no spikes."""

LONGEST = 32
"""The most points of a spike. If a tag has not returned by then, it has changed its level, which is no spike."""

CUTOFF = 8.0
"""The robust z-score of a spike is greater than this. Iglewicz and Hoaglin recommend 3.5, for tens of values; a run has
millions."""

_MARGIN = 2.0
"""A spike is outside of the range of the points before it by more than this, in units of that range. It excludes values
that occur rarely but regularly."""

_SMALLEST = 1e-3
"""A spike differs from the median by more than this, relative to the median. It excludes rounding errors."""

_PIECE = 50
"""Most points of a tag that are compared together, first with the points that are in the windows of all of them."""

_CAPACITY = 4 * WINDOW


class Spike(NamedTuple):
    """A value far outside of the earlier range of its tag, and those after it until the tag returned.

    Attributes:
        run: the run of the tag (:attr:`jaxboard.records.Record.run`).
        tag: the tag.
        start: the step of the first value outside.
        peak: the step of the value that is farthest outside.
        end: the step at which it had returned.
        value: the value at the peak.
        median: the median of the points before the start.
        score: the robust z-score of the peak.
    """

    run: str
    tag: str
    start: int
    peak: int
    end: int
    value: float
    median: float
    score: float


class _Excursion:
    """A value outside of the range of its tag, as long as the tag has not returned."""

    __slots__ = ("before", "count", "median", "peak", "sign", "start", "value")

    def __init__(self, step: int, value: float, before: np.ndarray):
        self.before = before
        self.start = self.peak = step
        self.value = value
        self.median = float(np.median(before))
        self.sign = 1.0 if value > self.median else -1.0
        self.count = 0

    @property
    def height(self) -> float:
        """The distance of the peak from the median."""
        return self.sign * (self.value - self.median)


class Detector:
    """Finds spikes. The results do not depend on how points are divided into calls."""

    def __init__(self) -> None:
        self._tags: list[tuple[str, str]] = []
        self._values = np.empty((0, _CAPACITY))
        self._ends = np.empty(0, np.int64)
        self._last_steps = np.empty(0, np.int64)
        self._excursions: dict[int, _Excursion] = {}

    @property
    def runs_outside(self) -> set[str]:
        """The runs with a tag that is outside of its range now."""
        return {self._tags[tag][0] for tag in self._excursions}

    def add_tags(self, tags: list[tuple[str, str]]) -> np.ndarray:
        """Return the numbers of new tags, given as run and tag: int64[K]."""
        first = len(self._tags)
        self._tags += tags
        missing = len(self._tags) - len(self._ends)
        if missing > 0:
            missing = max(missing, len(self._ends))
            self._values = np.concatenate([self._values, np.empty((missing, _CAPACITY))])
            self._ends = np.concatenate([self._ends, np.zeros(missing, np.int64)])
            none = np.full(missing, np.iinfo(np.int64).min)
            self._last_steps = np.concatenate([self._last_steps, none])
        return np.arange(first, len(self._tags))

    def observe(self, tags: np.ndarray, steps: np.ndarray, values: np.ndarray) -> list[Spike]:
        """Add points, and return the spikes that end among them.

        A point at the last step of its tag replaces that point. A point at an earlier step starts the tag again.

        Args:
            tags: int64[K], the numbers of the tags.
            steps: int64[N], or int64[K, N] if the tags have different steps.
            values: [K, N].
        """
        found: list[Spike] = []
        size = values.shape[1]
        repeats = np.atleast_2d(np.diff(steps) <= 0).any(axis=0)
        if repeats.any():
            ends = [*(np.flatnonzero(repeats) + 1).tolist(), size]
            for begin, end in itertools.pairwise([0, *ends]):
                found += self.observe(tags, steps[..., begin:end], values[:, begin:end])
            return found
        first_steps, last_steps = steps[..., 0], self._last_steps[tags]
        if (first_steps <= last_steps).any():
            again = tags[first_steps == last_steps]
            self._ends[again] = np.maximum(self._ends[again] - 1, 0)
            restarted = tags[first_steps < last_steps]
            self._ends[restarted] = 0
            for tag in [*restarted.tolist(), *filter(self._has_just_left, again.tolist())]:
                self._excursions.pop(tag, None)
        self._last_steps[tags] = steps[..., -1]
        with np.errstate(all="ignore"):
            for begin in range(0, size, _PIECE):
                piece = slice(begin, begin + _PIECE)
                found += self._add_piece(tags, steps[..., piece], values[:, piece])
        return found

    def _has_just_left(self, tag: int) -> bool:
        """Return whether the last point of a tag is the first one outside."""
        excursion = self._excursions.get(tag)
        return excursion is not None and excursion.count == 0

    def _add_piece(self, tags: np.ndarray, steps: np.ndarray, values: np.ndarray) -> list[Spike]:
        ends = self._ends[tags]
        if (ends == ends[0]).all():
            return self._extend(tags, int(ends[0]), steps, values)
        found: list[Spike] = []
        for end in np.unique(ends).tolist():
            chosen = ends == end
            own_steps = steps[chosen] if steps.ndim == 2 else steps
            found += self._extend(tags[chosen], end, own_steps, values[chosen])
        return found

    def _extend(
        self, tags: np.ndarray, end: int, steps: np.ndarray, values: np.ndarray
    ) -> list[Spike]:
        """Add at most ``_PIECE`` points to tags that have ``end`` points each."""
        # A slice makes views, and an array of indices copies.
        is_range = tags[-1] - tags[0] == len(tags) - 1 and (np.diff(tags) == 1).all()
        rows = slice(int(tags[0]), int(tags[-1]) + 1) if is_range else tags
        size = values.shape[1]
        if end + size > _CAPACITY:
            self._values[rows, :WINDOW] = self._values[rows, end - WINDOW : end]
            end = WINDOW
        self._values[rows, end : end + size] = values
        self._ends[rows] = end + size
        begin = end + size - 1 - WINDOW  # the first point in the window of the last value
        outside = np.zeros(len(tags), bool)
        outliers = None
        if begin >= 0:
            # Those in the windows of all new values. A spike is outside of their range, too.
            common = self._values[rows, begin:end]
            high, low = common.max(axis=1), common.min(axis=1)
            margin = _MARGIN * (high - low)
            outliers = values > (high + margin)[:, None]
            outliers |= values < (low - margin)[:, None]
            outside = outliers.any(axis=1)
        if self._excursions:
            outside |= np.isin(tags, list(self._excursions))
        found: list[Spike] = []
        for k in np.flatnonzero(outside).tolist():
            own_steps = steps[k] if steps.ndim == 2 else steps
            candidates = [] if outliers is None else np.flatnonzero(outliers[k]).tolist()
            found += self._follow(int(tags[k]), end, own_steps, size, candidates)
        return found

    def _follow(
        self, tag: int, end: int, steps: np.ndarray, size: int, candidates: list[int]
    ) -> list[Spike]:
        """Go through the new points of one tag, from ``end`` on, and return the spikes that end among them."""
        found: list[Spike] = []
        row = self._values[tag]
        n = 0
        while n < size:
            excursion = self._excursions.get(tag)
            value = float(row[end + n])
            if excursion is None:
                following = [candidate for candidate in candidates if candidate >= n]
                if not following:
                    break
                n = following[0]
                before = row[end + n - WINDOW : end + n]
                if end + n >= WINDOW and is_outside(before, float(row[end + n])):
                    self._excursions[tag] = _Excursion(
                        int(steps[n]), float(row[end + n]), before.copy()
                    )
            else:
                distance = excursion.sign * (value - excursion.median)
                excursion.count += 1
                if distance > excursion.height:
                    excursion.peak, excursion.value = int(steps[n]), value
                elif distance < excursion.height / 2:
                    found.append(self._spike(tag, excursion, int(steps[n])))
                if distance < excursion.height / 2 or excursion.count == LONGEST:
                    del self._excursions[tag]
            n += 1
        return found

    def _spike(self, tag: int, excursion: _Excursion, end: int) -> Spike:
        score = float(robust_scores(excursion.before[:, None], np.array([[excursion.value]]))[0, 0])
        value, median = excursion.value, excursion.median
        run, name = self._tags[tag]
        return Spike(run, name, excursion.start, excursion.peak, end, value, median, score)


def is_outside(before: np.ndarray, value: float) -> bool:
    """Return whether a value is far outside of the values before it, float64[WINDOW]."""
    # The cheap conditions first: most candidates do not meet them.
    high, low = before.max(), before.min()
    margin = _MARGIN * (high - low)
    if not (value > high + margin or value < low - margin) or not np.isfinite(value - low + high):
        return False
    if high == low or abs(value - np.median(before)) <= _SMALLEST * abs(np.median(before)):
        return False
    return abs(robust_scores(before[:, None], np.array([[value]]))[0, 0]) > CUTOFF
