"""The assembler: makes points from frames, many frames of one plan at a time, in columns."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxboard._frame import (
    Composite,
    Entry,
    Frame,
    FrameBatch,
    Number,
    Observation,
    ReportSpec,
)
from jaxboard._host import seed_runs
from jaxboard._host.cadence_changes import CadenceChanges
from jaxboard._host.clipping import ClippingLog
from jaxboard._host.complete_points import Assembled, Point, make_points
from jaxboard._host.fetch import Fetched
from jaxboard._host.given_times import GivenTimes
from jaxboard._host.last_steps import LastSteps
from jaxboard._host.loop_chunks import LoopChunks
from jaxboard._host.missing_steps import MissingSteps
from jaxboard._host.point_order import in_order
from jaxboard._host.points import Points
from jaxboard._host.restored_windows import RestoredWindows
from jaxboard._host.run_columns import RunColumn
from jaxboard._host.run_state import HostState, RunState, SavedPoint, read_state
from jaxboard._host.series import as_observation, find_series
from jaxboard._host.shared_steps import close_single_steps
from jaxboard._reduce import State, WideInt, is_positive, reducer
from jaxboard.records import Kind, Record, Scalars


class _OpenValue(NamedTuple):
    """A value that must be merged into a point.

    Attributes:
        position: the position, among all items, of the item that it comes from.
        observation: the value.
        last: whether its step has no more values.
    """

    position: int
    observation: Observation
    last: bool


class Assembler:
    """Makes points from the contents of the buffer. Used by one thread, the flusher.

    Args:
        missing_steps: warns if many values have no step of their own. By default nothing does.
        clipping: warns if images were clipped.
        state: the state that the run continues; None for a new run.
        windows: the windows of that state, as long as no function continues them.
        given_times: the wall times that reports were given.
        cadence_changes: the changes of the cadences of the run.
    """

    def __init__(
        self,
        missing_steps: MissingSteps | None = None,
        clipping: ClippingLog | None = None,
        state: RunState | None = None,
        windows: RestoredWindows | None = None,
        *,
        given_times: GivenTimes | None = None,
        cadence_changes: CadenceChanges | None = None,
    ) -> None:
        self._missing_steps = missing_steps
        self._clipping = clipping or ClippingLog()
        self._points = Points(state.points if state else (), cadence_changes)
        self._last_steps = LastSteps(state.last_steps if state else None)
        self._windows = RestoredWindows() if windows is None else windows
        self._given_times = given_times or GivenTimes()
        self._loops = LoopChunks()

    def assemble(self, items: list[Fetched], now: float) -> Assembled:
        """Return the points that ``items`` complete.

        Args:
            items: the reports, in order.
            now: the flusher's clock, in seconds.
        """
        if self._missing_steps is not None:
            self._missing_steps.observe(items)
        records: list[Point] = []
        values: list[_OpenValue] = []
        numbers: list[tuple[int, Number]] = []
        batches: list[tuple[int, FrameBatch]] = []
        # By identity: frames of one program share their plan, and hashing a plan takes microseconds.
        groups: dict[tuple[int, bool], tuple[int, list[FrameBatch]]] = {}
        reached = -1
        for position, item in enumerate(items):
            if isinstance(item, Frame):
                batch = self._loops.batch(item)
                batches += [] if batch is None else [(position, batch)]
            elif isinstance(item, FrameBatch):
                group = groups.setdefault((id(item.plan), item.open), (position, []))
                group[1].append(item)
            elif isinstance(item, Number):
                numbers.append((position, item))
                reached = reached if item.explicit_step else max(reached, item.step)
            elif isinstance(item, Observation):
                values.append(_OpenValue(position, item, item.explicit_step))
                reached = reached if item.explicit_step else max(reached, item.step)
            else:
                records.append(item)
        batches += [
            (position, FrameBatch.concatenate(group)) for position, group in groups.values()
        ]
        self._last_steps.have_own_steps(_with_own_steps(items, batches))
        reached = max([reached, *(int(batch.steps.max()) for _, batch in batches)])
        others = (*(value.observation for value in values), *(number for _, number in numbers))
        batches = close_single_steps(batches, others, reached, self._points.open_step)
        points: list[Point] = []
        for position, batch in batches:
            points += _complete_points(batch)
            values += _open_values(batch, position)
        series, single = find_series(numbers, {value.observation.spec for value in values})
        values += [
            _OpenValue(position, as_observation(number), number.explicit_step)
            for position, number in single
        ]
        values += self._restored_values(reached, values)
        # In the order of reporting, which matters to some reducers, such as "last". The iterations of one chunk may have one
        # wall time.
        values.sort(
            key=lambda value: (
                value.observation.wall_time,
                value.position,
                value.observation.step,
            )
        )
        for value in values:
            points += self._points.add(value.observation, now=now, last=value.last)
        for each in series:
            points += self._points.add_series(each, now=now)
        points += self._points.complete_before(reached)
        return self._assembled([*records, *in_order(points)])

    def partial(self, unchanged_since: float) -> Assembled:
        """Return the incomplete points of single steps that have not changed since then.

        Args:
            unchanged_since: by the flusher's clock, in seconds.
        """
        return self._plain(self._points.partial(unchanged_since))

    def finish(self) -> Assembled:
        """Return every point that was held back, incomplete windows included."""
        points: list[Point] = []
        for value in self._as_values(self._windows.take(math.inf)):
            points += self._points.add(value.observation, now=0.0, last=False)
        return self._assembled([*points, *self._points.finish()])

    def save(self, step: int) -> HostState:
        """Return what is held back, and the last steps of tags.

        Args:
            step: the step of the next call.
        """
        return HostState(tuple(self._points.saved()), self._last_steps.saved(step))

    def _restored_values(self, reached: int, values: list[_OpenValue]) -> list[_OpenValue]:
        """Return the values of restored windows that must be merged now."""
        if not self._windows:
            return []
        reported = {value.observation.spec for value in values}
        return self._as_values(self._windows.take(reached, reported))

    def _as_values(self, windows: Iterable[SavedPoint]) -> list[_OpenValue]:
        """Return restored windows as values, except those that wait for their report."""
        return [_restored_value(each) for each in windows if not self._points.wait_for_report(each)]

    def _assembled(self, points: Iterable[Point]) -> Assembled:
        assembled = self._plain(points)
        self._last_steps.observe(assembled)
        return assembled

    def _plain(self, points: Iterable[Point]) -> Assembled:
        return Assembled.of(self._given_times.applied(map(self._clipping.plain, points)))


def _with_own_steps(
    items: Iterable[Fetched], batches: Iterable[tuple[int, FrameBatch]]
) -> Iterator[tuple[str, str]]:
    """Yield run and tag of the reports whose steps the run does not count."""
    specs: dict[int, ReportSpec] = {}  # By identity, as in find_series.
    for item in items:
        if isinstance(item, Number | Observation):
            if item.explicit_step:
                specs[id(item.spec)] = item.spec
        elif isinstance(item, Record):
            yield item.run, item.tag
    for spec in specs.values():
        yield spec.run, spec.tag
    for _, batch in batches:
        for entry in batch.plan.entries:
            if entry.step is not None:
                yield entry.spec.run, entry.spec.tag


def _restored_value(point: SavedPoint) -> _OpenValue:
    value = Observation(point.spec, point.state, point.newest_step, point.wall_time)
    return _OpenValue(-1, value, last=False)


# --- Values that need merging. --------------------------------------------------------------------


def _needs_merge(entry: Entry, batch: FrameBatch) -> bool:
    """Return whether values of an entry are parts of points, rather than complete points."""
    return entry.spec.windowed or (batch.open and entry.step is None)


def _open_values(batch: FrameBatch, position: int) -> Iterator[_OpenValue]:
    # One report may have two accumulators, of different dtypes. The second ends the step.
    last_entries = {entry.spec: entry for entry in batch.plan.entries}
    for entry in batch.plan.entries:
        if not _needs_merge(entry, batch):
            continue
        spec, states = entry.spec, read_state(entry, batch.arrays)
        own_steps = None if entry.step is None else entry.step.read(batch.arrays).tolist()
        for index, (step, wall_time) in enumerate(
            zip(batch.steps.tolist(), batch.wall_times.tolist(), strict=True)
        ):
            state = _state_at(states, index)
            if own_steps is not None:
                for inner, own_step in enumerate(own_steps[index]):
                    inner_state = _state_at(state, inner)
                    value = Observation(spec, inner_state, own_step, wall_time, explicit_step=True)
                    yield _OpenValue(position, value, last=True)
            elif spec.windowed or step % spec.every == 0:
                last = last_entries[spec] is entry and not batch.open
                yield _OpenValue(position, Observation(spec, state, step, wall_time), last)


# --- Values that are points. ----------------------------------------------------------------------


def _complete_points(batch: FrameBatch) -> list[Point]:
    steps, wall_times = batch.steps, batch.wall_times
    points: list[Point] = []
    columns: dict[tuple[str, np.dtype], list[tuple[str, np.ndarray]]] = {}
    for entry in batch.plan.entries:
        if _needs_merge(entry, batch):
            continue
        spec, state = entry.spec, read_state(entry, batch.arrays)
        if entry.step is not None:
            points += _own_step_points(spec, state, entry.step.read(batch.arrays), wall_times)
        elif spec.kind is not Kind.SCALAR:
            points += _single_points(spec, state, steps, wall_times)
        else:
            for column in _run_columns(spec, state, steps):
                if column.has_value.all():
                    key = column.run, column.values.dtype
                    columns.setdefault(key, []).append((spec.tag, column.values))
                else:
                    points += column.points(spec.tag, wall_times)
    for (run, _), tagged in columns.items():
        tags, values = zip(*tagged, strict=True)
        points.append(Scalars(tags, steps, wall_times, np.stack(values, axis=1), run))
    return points


def _run_columns(spec: ReportSpec, state: State, steps: np.ndarray) -> Iterable[RunColumn]:
    """Return the column of each run that a scalar report has values in."""
    due = steps % spec.every == 0
    if spec.lanes:
        return seed_runs.columns(spec, state, steps, due)
    values = np.asarray(reducer(spec).finish(state))
    has_value = np.broadcast_to(_has_value(state, due), values.shape)
    return [RunColumn(spec.run, steps, values, has_value).finished(spec)]


def _single_points(
    spec: ReportSpec, state: State, steps: np.ndarray, wall_times: np.ndarray
) -> list[Point]:
    due = steps % spec.every == 0
    if spec.lanes:
        return [
            point
            for i in range(len(steps))
            for point in seed_runs.points(
                spec, _state_at(state, i), steps[i], float(wall_times[i]), due[i]
            )
        ]
    finish = reducer(spec).finish
    return [
        point
        for i in np.flatnonzero(_has_value(state, due)).tolist()
        for point in make_points(
            spec, int(steps[i]), float(wall_times[i]), finish(_state_at(state, i))
        )
    ]


def _own_step_points(
    spec: ReportSpec, state: State, steps: np.ndarray, wall_times: np.ndarray
) -> list[Point]:
    """Return the points of a report made with ``step=``.

    Args:
        spec: the report.
        state: its accumulator; every array has leading axes of N frames and M points.
        steps: int[N, M].
        wall_times: float64[N].
    """
    count = steps.shape[1]
    if spec.lanes and spec.kind is Kind.SCALAR:
        # All frames together: many runs make many points.
        flat_state = jax.tree.map(_merge_leading_axes, state)
        flat_steps = steps.reshape(-1, *steps.shape[2:])
        times = np.repeat(wall_times, count)
        due = flat_steps % spec.every == 0
        return [
            point
            for column in seed_runs.columns(spec, flat_state, flat_steps, due)
            for point in column.points(spec.tag, times)
        ]
    points: list[Point] = []
    for i in range(len(steps)):
        frame_state, frame_steps = _merge_equal_steps(spec, _state_at(state, i), steps[i])
        times = np.full(len(frame_steps), wall_times[i])
        points += _single_points(spec, frame_state, frame_steps, times)
    return points


def _merge_equal_steps(
    spec: ReportSpec, state: State, steps: np.ndarray
) -> tuple[State, np.ndarray]:
    """Merge the points of equal steps, unless the report keeps its lanes separate."""
    if spec.lanes:
        return state, steps
    unique, first, inverse = np.unique(steps, return_index=True, return_inverse=True)
    if len(unique) == len(steps):
        return state, steps
    order = np.argsort(first)
    merged = [_merge_points(spec, state, np.flatnonzero(inverse == index)) for index in order]
    value, weight = jax.tree.map(lambda *x: np.stack(x), *map(_with_wide_weight, merged))
    return State(value, weight), unique[order]


def _merge_points(spec: ReportSpec, state: State, places: np.ndarray) -> State:
    """Merge the points at some places."""
    if spec.kind is Composite.STACK:  # which would keep them separate
        return functools.reduce(reducer(spec).merge, (_state_at(state, i) for i in places.tolist()))
    return reducer(spec).collapse(_state_at(state, places))


# --- States. --------------------------------------------------------------------------------------


def _state_at(state: State, index: int | np.ndarray) -> State:
    def element(array: int | np.ndarray) -> int | np.ndarray:
        return array if isinstance(array, int) else array[index]

    return jax.tree.map(element, state)


def _with_wide_weight(state: State) -> State:
    weight = state.weight
    return State(state.value, WideInt.of(weight) if isinstance(weight, int) else weight)


def _has_value(state: State, due: np.ndarray) -> np.ndarray:
    """Return which of the N due points have any value: a mask may leave out all of them."""
    return due & is_positive(state.weight)


def _merge_leading_axes(x: int | np.ndarray) -> int | np.ndarray:
    return x if isinstance(x, int) else x.reshape(-1, *x.shape[2:])
