"""Seed runs: separate lanes become runs of their own, beside runs that summarize all lanes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import jax
import numpy as np

from jaxboard._frame import ReportSpec
from jaxboard._host.complete_points import Composed, Point, join_runs, make_points
from jaxboard._host.run_columns import RunColumn
from jaxboard._reduce import State, reducer
from jaxboard.records import Kind, Scalars

if TYPE_CHECKING:
    from jaxboard._reduce.lanes import LanesReducer

SUMMARIES = ("mean", "min", "max")
"""The runs that summarize all lanes."""


def columns(
    spec: ReportSpec, state: State, steps: np.ndarray, due: np.ndarray
) -> Iterator[RunColumn]:
    """Yield the column of every run of a scalar report.

    The summaries are those of finished values, and have a value where all lanes that have one are at the same step.

    Args:
        spec: the report.
        state: its accumulator; every array has a leading axis of N points.
        steps: int[N], or int[N, S] if each of S lanes brings its own steps.
        due: bool, of the same shape: which points are due.
    """
    lanes = _lanes_reducer(spec)
    values = lanes.finish(state)
    steps, due = (np.broadcast_to(x.reshape(len(x), -1), values.shape) for x in (steps, due))
    has_value = np.asarray(lanes.has_value(state) & due)
    finished = [
        RunColumn(
            join_runs(spec.run, f"seed_{lane}"),
            steps[:, lane],
            values[:, lane],
            np.broadcast_to(has_value, values.shape)[:, lane],
        ).finished(spec)
        for lane in range(values.shape[1])
    ]
    yield from finished
    values, has_value = (
        np.stack([getattr(column, name) for column in finished], axis=1)
        for name in ("values", "has_value")
    )
    common_step = _first_valid(steps, has_value)
    same_step = np.logical_and.reduce((steps == common_step) | ~has_value, axis=1)
    has_summary = np.logical_or.reduce(has_value, axis=1) & same_step
    for name, summary in zip(SUMMARIES, _summarize(values, has_value), strict=True):
        run = join_runs(spec.run, name)
        yield RunColumn(run, common_step[:, 0], summary, has_summary)


def points(
    spec: ReportSpec,
    state: State,
    step: int | np.ndarray,
    wall_time: float,
    due: bool | np.ndarray = True,
) -> Iterator[Point]:
    """Yield the points of every run, for one point of a report of any kind.

    Args:
        spec: the report.
        state: its accumulator.
        step: the step, or int[S] if each of S lanes brings its own.
        wall_time: in seconds since the epoch.
        due: whether the point is due, or bool[S].
    """
    if spec.kind is Kind.SCALAR:
        one = jax.tree.map(_add_leading_axis, state)
        for column in columns(spec, one, np.asarray(step)[None], np.asarray(due)[None]):
            yield from column.points(spec.tag, np.array([wall_time]))
        return
    steps, rows = set[int](), list[Scalars]()
    for lane, value in _lanes_reducer(spec).items(state):
        if _at_lane(due, lane):
            lane_step = int(_at_lane(step, lane))
            steps.add(lane_step)
            for point in make_points(spec, lane_step, wall_time, value, f"seed_{lane}"):
                yield point
                if isinstance(point, Composed):
                    rows.append(point.scalars())
                elif isinstance(point, Scalars):
                    rows.append(point)
    if rows and len(steps) == 1:
        yield from _summary_rows(spec.run, rows)


def _lanes_reducer(spec: ReportSpec) -> LanesReducer:
    return cast("LanesReducer", reducer(spec))


def _add_leading_axis(x: int | np.ndarray) -> int | np.ndarray:
    return x if isinstance(x, int) else np.asarray(x)[None]


def _at_lane(x: int | bool | np.ndarray, lane: int) -> int | bool | np.ndarray:
    return x[lane] if isinstance(x, np.ndarray) and x.ndim else x


def is_summary(run: str) -> bool:
    """Return whether a run summarizes lanes."""
    return run.rpartition("/")[2] in SUMMARIES


def _summary_rows(run: str, rows: list[Scalars]) -> Iterator[Scalars]:
    """Yield the summaries of each tag of a run, from one row for each lane."""
    by_tag: dict[str, list[np.generic]] = {}
    for row in rows:
        for tag, number in zip(row.tags, row.values[0], strict=True):
            by_tag.setdefault(tag, []).append(number)
    first = rows[0]
    for tag, numbers in by_tag.items():
        values = np.array([numbers])
        summaries = _summarize(values, np.ones(values.shape, bool))
        for name, summary in zip(SUMMARIES, summaries, strict=True):
            path = join_runs(run, name)
            yield Scalars((tag,), first.steps, first.wall_times, summary[:, None], path)


def _first_valid(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the first valid value of each row, as [N, 1], of values [N, S]."""
    return np.take_along_axis(values, valid.argmax(axis=1)[:, None], axis=1)


def _summarize(values: np.ndarray, valid: np.ndarray) -> Iterator[np.ndarray]:
    """Yield mean, minimum and maximum [N] of the valid values [N, S] of each row.

    They are NaN if a valid value is.
    """
    fill = np.where(np.logical_or.reduce(valid, axis=1)[:, None], _first_valid(values, valid), 0)
    values = np.where(valid, values, fill)
    floating = np.issubdtype(values.dtype, np.floating)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.where(valid, values, 0).sum(axis=1, dtype=np.float64)
        mean = total / np.maximum(valid.sum(axis=1), 1)
        yield mean.astype(values.dtype if floating else np.float64)
    yield values.min(axis=1)
    yield values.max(axis=1)
