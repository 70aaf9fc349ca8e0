"""Values that must be merged into points, in columns: the steps of a window, the calls of an evaluation.

Merging two values takes tens of microseconds. Columns merge the values of many windows together: the second value of each
window into the first, then the third. The order within a window stays the same, so results are bit-identical.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, cast

import jax
import numpy as np

from jaxboard._frame import FrameBatch, Number, Observation, ReportSpec
from jaxboard._host.run_state import point_step, read_state
from jaxboard._host.stacked_points import needs_merge
from jaxboard._host.stacked_states import (
    concatenate_states,
    flatten_leading_axes,
    merge_windows,
    state_at,
)
from jaxboard._reduce import State, is_positive, reducer
from jaxboard.records import Kind

_MIN_VALUES = 8
"""Fewer values than this are merged one by one, and so are those of fewer than two windows."""


class OpenValue(NamedTuple):
    """A value that must be merged into a point.

    Attributes:
        position: the position, among all items, of the item that it comes from.
        observation: the value.
        last: whether its step has no more values.
    """

    position: int
    observation: Observation
    last: bool


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ValueColumn:
    """Values of one report that must be merged into points.

    Attributes:
        spec: the report.
        state: their accumulators, stacked: every array has a leading axis of N values.
        steps: int64[N].
        wall_times: float64[N], in seconds since the epoch.
        positions: int[N], see :class:`OpenValue`.
        last: bool[N], whether the step of a value has no more values.
        explicit_steps: whether the user gave the steps.
    """

    spec: ReportSpec
    state: State
    steps: np.ndarray
    wall_times: np.ndarray
    positions: np.ndarray
    last: np.ndarray
    explicit_steps: bool

    def values(self) -> Iterator[OpenValue]:
        """Yield the values one by one."""
        for index in range(len(self.steps)):
            yield self.value_at(index, state_at(self.state, index))

    def value_at(self, index: int, state: State) -> OpenValue:
        """Return one of the values, with the accumulator that is given."""
        step, wall_time = int(self.steps[index]), float(self.wall_times[index])
        value = Observation(self.spec, state, step, wall_time, self.explicit_steps)
        return OpenValue(int(self.positions[index]), value, bool(self.last[index]))

    def rows(self, rows: slice | np.ndarray) -> ValueColumn:
        """Return some of the values: those of a slice, or of an array of indices."""
        return ValueColumn(
            self.spec,
            state_at(self.state, rows),
            self.steps[rows],
            self.wall_times[rows],
            self.positions[rows],
            self.last[rows],
            self.explicit_steps,
        )

    def counted(self) -> ValueColumn:
        """Return the values in the order of reporting, without those that a mask leaves out."""
        has_value = is_positive(self.state.weight)
        if np.all(has_value) and np.all(self.wall_times[1:] > self.wall_times[:-1]):
            return self
        has_value = np.broadcast_to(has_value, self.steps.shape)
        order = np.lexsort((self.steps, self.positions, self.wall_times))
        return self.rows(order[has_value[order]])

    @property
    def point_steps(self) -> np.ndarray:
        """The step of the point of each value: int64[N]."""
        return point_step(self.spec, self.steps)

    @property
    def completes(self) -> np.ndarray:
        """True for each value that is the last one of its point: bool[N]."""
        return self.last & (self.steps == self.point_steps)

    @property
    def starts(self) -> np.ndarray:
        """The indices of the first values of points: int64[W]."""
        steps = self.point_steps
        is_first = np.ones(len(steps), bool)
        is_first[1:] = (steps[1:] != steps[:-1]) | self.completes[:-1]
        return np.flatnonzero(is_first)

    def merged(self) -> MergedValues:
        """Merge the values of each point."""
        starts = self.starts
        lengths = np.append(starts[1:], len(self.steps)) - starts
        newest = self if len(starts) == len(self.steps) else self.rows(starts + lengths - 1)
        complete: list[tuple[np.ndarray, State]] = []
        growing: OpenValue | None = None
        for indices, state in merge_windows(reducer(self.spec), self.state, starts, lengths):
            may_grow = indices[-1] == len(starts) - 1 and not newest.completes[-1]
            count = len(indices) - int(may_grow)
            if count:
                complete.append((indices[:count], state_at(state, slice(count))))
            if may_grow:
                growing = newest.value_at(-1, state_at(state, count))
        return MergedValues(complete, newest.point_steps, newest.wall_times, growing)


class MergedValues(NamedTuple):
    """The values of W points of one report, merged.

    Attributes:
        complete: the indices of complete points, and their stacked accumulators; see :func:`merge_windows`.
        steps: int64[W], the steps of the points.
        wall_times: float64[W], when the newest value of each was reported.
        growing: the last point, as a value, if it may receive more.
    """

    complete: list[tuple[np.ndarray, State]]
    steps: np.ndarray
    wall_times: np.ndarray
    growing: OpenValue | None


def columns_of_batch(batch: FrameBatch, position: int) -> Iterator[ValueColumn]:
    """Yield the values of a batch that must be merged.

    Args:
        batch: the batch.
        position: see :class:`OpenValue`.
    """
    # One report may have two accumulators, of different dtypes. The second ends the step.
    last_entries = {entry.spec: entry for entry in batch.plan.entries}
    for entry in batch.plan.entries:
        if not needs_merge(entry, batch):
            continue
        spec, state = entry.spec, read_state(entry, batch.arrays)
        steps, wall_times = batch.steps, batch.wall_times
        is_last = not batch.open and last_entries[spec] is entry
        if entry.step is not None:
            own_steps = entry.step.read(batch.arrays)
            state, steps = flatten_leading_axes(state), own_steps.reshape(-1).astype(np.int64)
            wall_times, is_last = np.repeat(wall_times, own_steps.shape[1]), True
        column = ValueColumn(
            spec,
            state,
            steps,
            wall_times,
            np.full(len(steps), position),
            np.full(len(steps), is_last),
            explicit_steps=entry.step is not None,
        )
        is_sampled = entry.step is None and spec.every > 1 and not spec.windowed
        yield column.rows(np.flatnonzero(steps % spec.every == 0)) if is_sampled else column


def columns_of_numbers(
    numbers: Iterable[tuple[int, Number]],
) -> tuple[list[ValueColumn], list[OpenValue]]:
    """Return the numbers of plain Python in columns, and those that are in none.

    Args:
        numbers: numbers on the host, each with its position among all items.
    """
    # By identity first: hashing a report takes a microsecond.
    by_identity: dict[int, list[tuple[int, Number]]] = {}
    for item in numbers:
        by_identity.setdefault(id(item[1].spec), []).append(item)
    columns: list[ValueColumn] = []
    single: list[OpenValue] = []
    for group in by_identity.values():
        if _makes_column([number for _, number in group]):
            columns.append(_column_of_numbers(group))
        else:
            single += [_single_value(position, number) for position, number in group]
    return columns, single


def join_columns(
    columns: Iterable[ValueColumn], others: AbstractSet[ReportSpec]
) -> tuple[list[ValueColumn], list[OpenValue]]:
    """Join the columns of each report.

    Args:
        columns: the columns.
        others: the reports that have other values too, which must be merged in order with those of the columns.

    Returns:
        One column for each report, and the values of the reports that have others, or that cannot be merged in columns.
    """
    by_spec: dict[ReportSpec, list[ValueColumn]] = {}
    for column in columns:
        by_spec.setdefault(column.spec, []).append(column)
    joined: list[ValueColumn] = []
    single: list[OpenValue] = []
    for spec, parts in by_spec.items():
        is_uniform = len(parts) == 1 or len(set(map(_signature, parts))) == 1
        if spec in others or not is_uniform or not reducer(spec).elementwise or _are_few(parts):
            single += [value for part in parts for value in part.values()]
        else:
            joined.append(parts[0] if len(parts) == 1 else _concatenate(parts))
    return joined, single


def _are_few(columns: Sequence[ValueColumn]) -> bool:
    """Return whether columns of one report would take longer than their values one by one."""
    steps = np.concatenate([column.steps for column in columns])
    spec = columns[0].spec
    return len(steps) < _MIN_VALUES or (spec.windowed and np.ptp(steps) < 2 * spec.every)


def _signature(column: ValueColumn) -> Hashable:
    """Return what columns share whose accumulators can be stacked."""
    leaves = jax.tree.leaves(column.state)
    shapes = tuple(x if isinstance(x, int) else (x.dtype, x.shape[1:]) for x in leaves)
    structure = cast("Hashable", jax.tree.structure(column.state))  # pyright: ignore[reportUnknownMemberType]
    return structure, shapes, column.explicit_steps


def _concatenate(columns: Sequence[ValueColumn]) -> ValueColumn:
    steps, wall_times, positions, last = (
        np.concatenate([getattr(column, name) for column in columns])
        for name in ("steps", "wall_times", "positions", "last")
    )
    first = columns[0]
    state = concatenate_states([column.state for column in columns])
    return ValueColumn(first.spec, state, steps, wall_times, positions, last, first.explicit_steps)


def _makes_column(numbers: Sequence[Number]) -> bool:
    spec = numbers[0].spec
    if len(numbers) < _MIN_VALUES or spec.kind is not Kind.SCALAR or spec.lanes:
        return False
    if any(number.weight is not None for number in numbers):
        return False
    return len({(type(number.value), number.explicit_step) for number in numbers}) == 1


def _column_of_numbers(numbers: Sequence[tuple[int, Number]]) -> ValueColumn:
    positions, items = zip(*numbers, strict=True)
    count, (spec, explicit_steps) = len(items), (items[0].spec, items[0].explicit_step)
    # As one observation of rank 1: reducers work on its elements independently.
    value, weight = reducer(spec).start(np.array([item.value for item in items]), None, 1)
    if spec.reduce == "count":  # It is one number.
        value = jax.tree.map(functools.partial(np.broadcast_to, shape=count), value)
    return ValueColumn(
        spec,
        State(value, weight),
        np.array([item.step for item in items], np.int64),
        np.array([item.wall_time for item in items]),
        np.array(positions),
        np.full(count, explicit_steps),
        explicit_steps,
    )


def _single_value(position: int, number: Number) -> OpenValue:
    spec = number.spec
    state = reducer(spec).start(np.asarray(number.value), number.weight, spec.rank)
    value = Observation(spec, state, number.step, number.wall_time, number.explicit_step)
    return OpenValue(position, value, number.explicit_step)
