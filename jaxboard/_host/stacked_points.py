"""The points of stacked accumulators: each makes one point. Scalars of many steps become columns."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import numpy as np

from jaxboard._frame import Composite, Entry, FrameBatch, ReportSpec
from jaxboard._host import seed_runs
from jaxboard._host.complete_points import Point, make_points
from jaxboard._host.run_columns import RunColumn
from jaxboard._host.run_state import read_state
from jaxboard._host.stacked_states import flatten_leading_axes, stack_states, state_at
from jaxboard._reduce import State, is_positive, reducer
from jaxboard.records import Kind, Scalars


def needs_merge(entry: Entry, batch: FrameBatch) -> bool:
    """Return whether the values of an entry are parts of points, rather than complete."""
    return entry.spec.windowed or (batch.open and entry.step is None)


def points_of_batch(batch: FrameBatch) -> list[Point]:
    """Return the points of the complete values of a batch."""
    steps, wall_times = batch.steps, batch.wall_times
    points: list[Point] = []
    columns: dict[tuple[str, np.dtype], list[tuple[str, np.ndarray]]] = {}
    for entry in batch.plan.entries:
        if needs_merge(entry, batch):
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
                spec, state_at(state, i), steps[i], float(wall_times[i]), due[i]
            )
        ]
    finish = reducer(spec).finish
    return [
        point
        for i in np.flatnonzero(_has_value(state, due)).tolist()
        for point in make_points(
            spec, int(steps[i]), float(wall_times[i]), finish(state_at(state, i))
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
        flat_state = flatten_leading_axes(state)
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
        frame_state, frame_steps = _merge_equal_steps(spec, state_at(state, i), steps[i])
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
    return stack_states(merged), unique[order]


def _merge_points(spec: ReportSpec, state: State, places: np.ndarray) -> State:
    """Merge the points at some places."""
    if spec.kind is Composite.STACK:  # which would keep them separate
        return functools.reduce(reducer(spec).merge, (state_at(state, i) for i in places.tolist()))
    return reducer(spec).collapse(state_at(state, places))


def points_of_windows(
    spec: ReportSpec,
    windows: Sequence[tuple[np.ndarray, State]],
    steps: np.ndarray,
    wall_times: np.ndarray,
) -> list[Point]:
    """Return the points of complete windows of one report, in their order.

    Args:
        spec: the report.
        windows: in each item, the indices of K of the W windows, int[K], and their stacked accumulators.
        steps: int64[W], the step of each window.
        wall_times: float64[W], in seconds since the epoch.
    """
    if not windows:
        return []
    if spec.kind is not Kind.SCALAR:
        points = {
            index: _single_points(spec, state_at(state, [row]), steps[[index]], wall_times[[index]])
            for indices, state in windows
            for row, index in enumerate(indices.tolist())
        }
        return [point for index in sorted(points) for point in points[index]]
    columns = [_run_columns(spec, state, steps[indices]) for indices, state in windows]
    indices = np.concatenate([indices for indices, _ in windows])
    order = np.argsort(indices)
    joined = (RunColumn.concatenate(of_run, order) for of_run in zip(*columns, strict=True))
    times = wall_times[indices[order]]
    return [point for column in joined for point in column.points(spec.tag, times)]


def _has_value(state: State, due: np.ndarray) -> np.ndarray:
    """Return which of the N due points have any value: a mask may leave out all of them."""
    return due & is_positive(state.weight)
