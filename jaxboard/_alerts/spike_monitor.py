"""The monitor of spikes: it looks at all scalars of a run, and makes one event of the spikes that overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from jaxboard._alerts.columns import Columns
from jaxboard._alerts.detector import Detector, Spike
from jaxboard._alerts.kept_arrays import KeptArrays
from jaxboard._alerts.recent_columns import RecentColumns
from jaxboard._alerts.spike_entry import entry, sentence
from jaxboard._host.complete_points import KeptPoint

MAX_TAGS = 4096
"""Most tags that are checked."""

_MAX_EVENTS = 50
"""Most events of one run."""

_MAX_OF_TAG = 10
"""Most spikes of one tag, so that a tag that spikes regularly leaves events for the others. Later ones count if they are twice
as high as all before."""

_MAX_SETS = 1000
"""Most sets of columns that are remembered."""

_STEPS_OF_KEPT = 4
"""An entry has the kept arrays of at most this many steps of the spike, and of the step before."""


class SpikeEvent(NamedTuple):
    """Spikes that overlap.

    Attributes:
        run: see :attr:`jaxboard.records.Record.run`.
        spikes: the spikes, in the order of their first steps.
        sentence: one sentence.
        text: the text entry, in Markdown.
    """

    run: str
    spikes: tuple[Spike, ...]
    sentence: str
    text: str

    @property
    def step(self) -> int:
        """The first step of the first spike."""
        return self.spikes[0].start


class _CheckedTags(NamedTuple):
    """The checked tags of a set of columns.

    Attributes:
        numbers: int64[K], their numbers in the detector.
        indices: int64[K], which columns they are; None for all.
    """

    numbers: np.ndarray
    indices: np.ndarray | None


class _Heights(NamedTuple):
    """The spikes of a tag so far.

    Attributes:
        number: how many there were.
        largest: the largest distance of a peak from the median before.
    """

    number: int
    largest: float


class SpikeMonitor:
    """Finds the spikes of a run. Used by one thread, the flusher.

    Args:
        is_checked: returns whether a tag is checked.
    """

    def __init__(self, is_checked: Callable[[str], bool] = lambda _: True):
        self._is_checked = is_checked
        self._detector = Detector()
        self._recent = RecentColumns()
        self._kept = KeptArrays()
        self._checked: dict[tuple[str, tuple[str, ...]], _CheckedTags] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        self._spikes: dict[str, list[Spike]] = {}
        # By run and tag.
        self._heights: dict[tuple[str, str], _Heights] = {}
        self._events = 0

    def observe(self, columns: Iterable[Columns], kept: Iterable[KeptPoint]) -> list[SpikeEvent]:
        """Return the events that end with these points."""
        for point in kept:
            self._kept.add(point)
        for block in columns:
            self._recent.add(block)
            chosen = self._checked_tags(block.run, block.tags)
            if len(chosen.numbers):
                values = block.values.T
                values = values if chosen.indices is None else values[chosen.indices]
                for spike in self._detector.observe(chosen.numbers, block.steps, values):
                    if self._counts(spike):
                        self._spikes.setdefault(spike.run, []).append(spike)
        outside = self._detector.runs_outside
        events = [e for run in list(self._spikes) if run not in outside for e in self._take(run)]
        self._recent.trim()
        self._kept.trim()
        return events

    def finish(self) -> list[SpikeEvent]:
        """Return the events that wait for other tags to return."""
        return [event for run in list(self._spikes) for event in self._take(run)]

    def _checked_tags(self, run: str, tags: tuple[str, ...]) -> _CheckedTags:
        known = self._checked.get((run, tags))
        if known is not None:
            return known
        checked = [k for k, tag in enumerate(tags) if self._is_checked(tag)]
        checked = checked[: MAX_TAGS - len(self._numbers)]
        new = [(run, tags[k]) for k in checked if (run, tags[k]) not in self._numbers]
        numbers = self._detector.add_tags(new).tolist()
        self._numbers.update(zip(new, numbers, strict=True))
        found = np.array([self._numbers[run, tags[k]] for k in checked], np.int64)
        if len(self._checked) == _MAX_SETS:
            self._checked.clear()
        checked_tags = _CheckedTags(found, None if len(checked) == len(tags) else np.array(checked))
        self._checked[run, tags] = checked_tags
        return checked_tags

    def _counts(self, spike: Spike) -> bool:
        """Return whether a spike is among the first of its tag, or much higher than those."""
        height = abs(spike.value - spike.median)
        earlier = self._heights.get((spike.run, spike.tag), _Heights(0, 0.0))
        self._heights[spike.run, spike.tag] = _Heights(
            earlier.number + 1, max(earlier.largest, height)
        )
        return earlier.number < _MAX_OF_TAG or height > 2 * earlier.largest

    def _take(self, run: str) -> Iterator[SpikeEvent]:
        """Yield the events of a run whose tags have all returned."""
        for spikes in _overlapping(self._spikes.pop(run)):
            self._events += 1
            if self._events <= _MAX_EVENTS:
                yield self._event(run, spikes)

    def _event(self, run: str, spikes: list[Spike]) -> SpikeEvent:
        start = spikes[0].start
        last = min(max(spike.peak for spike in spikes), start + _STEPS_OF_KEPT - 1)
        kept = self._kept.between(run, start - 1, last)
        text = entry(spikes, list(self._recent.of_run(run)), kept)
        often = [
            spike.tag for spike in spikes if self._heights[run, spike.tag].number >= _MAX_OF_TAG
        ]
        if often:
            text += (
                f"\n\nSpiked {_MAX_OF_TAG} times or more: {', '.join(often)}. Later spikes have entries only if they are "
                "twice as high as all before."
            )
        if self._events == _MAX_EVENTS:
            text += (
                f"\n\nThis is spike {_MAX_EVENTS} of the run. There are no entries of later ones."
            )
        return SpikeEvent(run, tuple(spikes), sentence(spikes), text)


def _overlapping(spikes: list[Spike]) -> Iterator[list[Spike]]:
    """Yield groups of spikes that overlap, each in the order of the first steps, norms last."""
    group: list[Spike] = []
    end = 0
    for spike in sorted(spikes, key=_order):
        if group and spike.start > end:
            yield group
            group = []
        end = max(end, spike.end) if group else spike.end
        group.append(spike)
    yield group


def _order(spike: Spike) -> tuple[int, bool, float, str]:
    # A loss explains more than the norms of a hundred layers.
    return spike.start, "/norm" in spike.tag, -abs(spike.score), spike.tag
