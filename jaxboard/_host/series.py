"""Series: the numbers that plain Python reported under one tag, as one column.

A plain loop makes one number per step. Merging each of them into a point of its own takes longer than reporting it,
and takes the interpreter from the loop for that long.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np

from jaxboard._frame import Number, Observation, ReportSpec
from jaxboard._host.complete_points import Point
from jaxboard._host.run_columns import RunColumn
from jaxboard._reduce import reducer
from jaxboard.records import Kind

_FEWEST = 8
"""Fewer numbers than this are no series: for them, NumPy takes as long as single points do."""


class Series(NamedTuple):
    """Numbers of one report without weights, in the order of reporting, with each step different from the one before.

    Numbers with an explicit step may have equal steps: each makes a point of its own.
    """

    numbers: list[Number]

    @property
    def spec(self) -> ReportSpec:
        """The report."""
        return self.numbers[0].spec

    @property
    def explicit_steps(self) -> bool:
        """True if the user passed ``step=``."""
        return self.numbers[0].explicit_step

    def inner_points(self) -> list[Point]:
        """Return the points of all numbers except the first and the last."""
        inner = self.numbers[1:-1]
        spec = self.spec
        reduce = reducer(spec)
        # As one observation of rank 1: reducers work on its elements independently.
        state = reduce.start(np.array([number.value for number in inner]), None, 1)
        values = np.broadcast_to(reduce.finish(state), len(inner))
        steps = np.array([number.step for number in inner], np.int64)
        wall_times = np.array([number.wall_time for number in inner])
        column = RunColumn(spec.run, steps, values, np.ones(len(inner), bool))
        return column.finished(spec).points(spec.tag, wall_times)


def find_series(
    numbers: Iterable[tuple[int, Number]], excluded: AbstractSet[ReportSpec]
) -> tuple[list[Series], list[tuple[int, Number]]]:
    """Return the series among numbers, and the numbers that are in none.

    Args:
        numbers: numbers on the host, each with its position among all items.
        excluded: reports whose numbers must merge with other values.
    """
    # By identity first: hashing a report takes a microsecond.
    by_identity: dict[int, list[tuple[int, Number]]] = {}
    for item in numbers:
        by_identity.setdefault(id(item[1].spec), []).append(item)
    groups: dict[ReportSpec, list[tuple[int, Number]]] = {}
    for group in by_identity.values():
        groups.setdefault(group[0][1].spec, []).extend(group)
    found: list[Series] = []
    single: list[tuple[int, Number]] = []
    for spec, group in groups.items():
        series = None if spec in excluded else _as_series(spec, group)
        if series is None:
            single += group
        else:
            found.append(series)
    return found, single


def _as_series(spec: ReportSpec, group: list[tuple[int, Number]]) -> Series | None:
    is_plain = spec.kind is Kind.SCALAR and not spec.windowed and not spec.lanes
    if len(group) < _FEWEST or not is_plain:
        return None
    numbers = [number for _, number in group]
    numbers.sort(key=operator.attrgetter("wall_time"))
    if any(number.weight is not None for number in numbers):
        return None
    if len({(type(number.value), number.explicit_step) for number in numbers}) > 1:
        return None
    pairs = itertools.pairwise(numbers)
    if not numbers[0].explicit_step and any(a.step == b.step for a, b in pairs):
        return None
    return Series(numbers)


def as_observation(number: Number) -> Observation:
    """Return a number with its accumulator."""
    spec = number.spec
    state = reducer(spec).start(np.asarray(number.value), number.weight, spec.rank)
    return Observation(spec, state, number.step, number.wall_time, number.explicit_step)
