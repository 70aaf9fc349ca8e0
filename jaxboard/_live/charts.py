"""The curves that a panel shows: which tags, and which of them share a chart."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from jaxboard._host.complete_points import Assembled, join_runs
from jaxboard._live.curve import Curve
from jaxboard._own_tags import is_own
from jaxboard.records import Kind, Record, Scalars

MAX_CHARTS = 6
"""Most charts of a panel."""

MAX_CURVES = 8
"""Most curves of a chart."""

_MAX_SETS = 1000
"""With more sets of tags than this, forget which of their columns are shown."""

_TRAINING = frozenset(("train", "training"))
_EVALUATION = frozenset(
    ("eval", "evaluation", "val", "valid", "validation", "test", "testing", "dev")
)
_SPLITS = _TRAINING | _EVALUATION
"""The parts of a tag, or of the path of a run, that name the data. Curves that differ only in them share a chart."""

_SEED = re.compile(r"(.*/)?seed_\d+")

SortKey: TypeAlias = tuple[int, ...]
"""Charts are shown in ascending order of their keys."""


class ChartName(NamedTuple):
    """The chart and the curve of a tag of a run.

    Attributes:
        chart: the name of the chart.
        curve: the name of the curve in it; "" if the chart needs none.
        is_split: whether the name of the curve names the data, such as ``eval``.
    """

    chart: str
    curve: str
    is_split: bool


def chart_name(run: str, tag: str) -> ChartName:
    """Return the chart and the curve of a tag.

    Args:
        run: see :attr:`jaxboard.records.Record.run`.
        tag: the tag.

    Example:
        >>> chart_name("", "train/loss")[:2], chart_name("eval", "loss")[:2], chart_name("", "lr")[:2]
        (('loss', 'train'), ('loss', 'eval'), ('lr', ''))
    """
    parts = tag.split("/")
    splits = [part for part in parts if part.lower() in _SPLITS]
    rest = [part for part in parts if part.lower() not in _SPLITS]
    if not rest:
        splits, rest = [], parts
    above = run.split("/") if run else []
    is_split = bool(splits) or any(part.lower() in _SPLITS for part in above)
    return ChartName("/".join(rest), "/".join([*above, *splits]), is_split)


class Chart:
    """Curves with one pair of axes.

    Attributes:
        name: the name of the chart.
        sort_key: its place among the charts.
        curves: the curves by name, in the order in which they appeared.
    """

    __slots__ = ("curves", "name", "sort_key")

    def __init__(self, name: str, sort_key: SortKey):
        self.name = name
        self.sort_key = sort_key
        self.curves: dict[str, Curve] = {}


class Charts:
    """The charts of a run, in bounded memory. Used by one thread, the flusher.

    At most six charts are kept: the tags that match the first pattern, then those of the second, and so on. Without
    patterns these are losses, then tags of training or evaluation, then those with the fewest parts, and among these the
    first that were reported.

    Args:
        patterns: the patterns of the tags; None for the choice above.

    Attributes:
        has_more: whether tags were reported that no chart shows.
        last_step: the largest step of a scalar; -1 if there is none.
        version: how often points were added.
    """

    def __init__(self, patterns: Sequence[str] | None = None):
        self._patterns = patterns
        self._charts: dict[str, Chart] = {}
        self._chosen: dict[tuple[str, tuple[str, ...]], list[tuple[int, Curve]]] = {}
        self._count = 0
        self.has_more = False
        self.last_step = -1
        self.version = 0

    def add(self, assembled: Assembled) -> None:
        """Add the scalars of these points."""
        for run, tags, steps, values in _columns(assembled.items):
            self.version += 1
            self.last_step = max(self.last_step, int(steps.max()))
            for column, curve in self._curves(run, tags):
                curve.add(steps, values[:, column].astype(np.float64))

    def __iter__(self) -> Iterator[Chart]:
        """Iterate over the charts in the order in which they are shown."""
        return iter(sorted(self._charts.values(), key=lambda chart: chart.sort_key))

    def _curves(self, run: str, tags: tuple[str, ...]) -> list[tuple[int, Curve]]:
        chosen = self._chosen.get((run, tags))
        if chosen is None:
            admitted = [(column, self._admit(run, tag)) for column, tag in enumerate(tags)]
            # A later column may have taken the chart of an earlier one.
            kept = {curve for chart in self._charts.values() for curve in chart.curves.values()}
            chosen = [(column, curve) for column, curve in admitted if curve in kept]
            if len(self._chosen) >= _MAX_SETS:
                self._chosen.clear()
            self._chosen[run, tags] = chosen
        return chosen

    def _admit(self, run: str, tag: str) -> Curve | None:
        """Return the curve of a tag, or None if it is not shown."""
        name = chart_name(run, tag)
        sort_key = self._sort_key(run, tag, name)
        if sort_key is None:
            self.has_more = True
            return None
        chart = self._charts.get(name.chart)
        if chart is None:
            if not self._make_space(sort_key):
                return None
            chart = self._charts[name.chart] = Chart(name.chart, sort_key)
        chart.sort_key = min(chart.sort_key, sort_key)
        if name.curve not in chart.curves:
            if len(chart.curves) == MAX_CURVES:
                self.has_more = True
                return None
            chart.curves[name.curve] = Curve()
        return chart.curves[name.curve]

    def _make_space(self, sort_key: SortKey) -> bool:
        """Return whether there is space for a chart. The last chart is removed for one that sorts before it."""
        if len(self._charts) < MAX_CHARTS:
            return True
        self.has_more = True
        last = max(self._charts.values(), key=lambda chart: chart.sort_key)
        if last.sort_key < sort_key:
            return False
        del self._charts[last.name]
        self._chosen.clear()
        return True

    def _sort_key(self, run: str, tag: str, name: ChartName) -> SortKey | None:
        """Return the sort key of the chart of a tag, or None if no pattern matches the tag."""
        self._count += 1
        parts = name.chart.split("/")
        if self._patterns is None:
            return "loss" not in parts[-1].lower(), not name.is_split, len(parts), self._count
        names = (tag, name.chart, join_runs(run, tag))
        for place, pattern in enumerate(self._patterns):
            if any(fnmatch.fnmatchcase(each, pattern) for each in names):
                return place, len(parts), self._count
        return None


def _columns(
    items: Iterable[Record | Scalars],
) -> Iterator[tuple[str, tuple[str, ...], np.ndarray, np.ndarray]]:
    """Yield the run, the K tags, the steps [N] and the values [N, K] of the scalars that the user reports.

    Seed runs are left out: their mean, minimum and maximum are shown.
    """
    single: dict[tuple[str, str], list[Record]] = {}
    for item in items:
        if _SEED.fullmatch(item.run):
            continue
        if isinstance(item, Scalars):
            if not is_own(item.tags[0]):
                yield item.run, item.tags, item.steps, item.values
        elif item.kind is Kind.SCALAR and not is_own(item.tag):
            single.setdefault((item.run, item.tag), []).append(item)
    for (run, tag), records in single.items():
        steps = np.array([record.step for record in records], np.int64)
        yield run, (tag,), steps, np.array([[float(record.value)] for record in records])
