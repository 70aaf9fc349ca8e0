"""Lanes that a report keeps apart become runs, and beside them what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxboard._frame import Composite, ReportSpec
from jaxboard._reduce import State, reducer
from jaxboard.records import Kind, Record, Scalars

SUMMARIES = ("mean", "min", "max")
"""The runs of all lanes together."""


def columns(
    spec: ReportSpec, state: State, steps: np.ndarray, due: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """The runs of a scalar.

    Args:
        spec: the report.
        state: its accumulator; an axis of N points in front of all its arrays.
        steps: int[N], or [N, S] where lanes bring steps of their own.
        due: bool, of the same shape: which of them count.

    Yields:
        The name of a run, its steps [N], its values [N], and which of them it has. All lanes together have
        one where those that count are at the same step.
    """
    lanes: Any = reducer(spec)
    values = lanes.finish(state)
    steps, due = (np.broadcast_to(x.reshape(len(x), -1), values.shape) for x in (steps, due))
    held = lanes.held(state) & due
    for lane in range(values.shape[1]):
        yield f"seed_{lane}", steps[:, lane], values[:, lane], held[:, lane]
    common = _one_that_is(held, steps)
    some = np.logical_or.reduce(held, axis=1)
    alike = some & np.logical_and.reduce((steps == common) | ~held, axis=1)
    for run, over_all in zip(SUMMARIES, _summaries(values, held), strict=True):
        yield run, common[:, 0], over_all, alike


def points(
    spec: ReportSpec, state: State, step: Any, wall_time: float, due: Any = True
) -> Iterator[Record | Scalars]:
    """The runs of one point of a report of any kind.

    Args:
        spec: the report.
        state: its accumulator.
        step: an int, or int[S] where lanes bring steps of their own.
        wall_time: seconds since the epoch.
        due: whether it counts: a bool, or bool[S].
    """
    wall_times = np.array([wall_time])
    if spec.kind is Kind.SCALAR:
        one = jax.tree.map(lambda x: x if isinstance(x, int) else np.asarray(x)[None], state)
        for run, steps, values, held in columns(spec, one, *map(_one_row, (step, due))):
            if held[0]:
                yield Scalars((spec.tag,), steps, wall_times, values[:, None], run)
        return
    made = []
    lanes: Any = reducer(spec)
    for lane, value in lanes.each(state):
        own, counts = (x if np.ndim(x) == 0 else x[lane] for x in (step, due))
        if counts:
            run = f"seed_{lane}"
            made.append(Record(spec.kind, spec.tag, int(own), wall_time, value, run))
    yield from made
    if isinstance(spec.kind, Composite) and len({record.step for record in made}) == 1:
        for tag, numbers in _by_tag(made).items():
            values = np.array([numbers])
            over_all = _summaries(values, np.ones(values.shape, bool))
            for run, number in zip(SUMMARIES, over_all, strict=True):
                yield Scalars((tag,), _one_row(made[0].step), wall_times, number[:, None], run)


def _one_row(x: Any) -> np.ndarray:
    return np.asarray(x)[None]


def _by_tag(made: list[Record]) -> dict[str, list[Any]]:
    """The scalars that records of norms or stacks become, by their tags."""
    found: dict[str, list[Any]] = {}
    for record in made:
        block = record.value.scalars(record.tag, record.step, record.wall_time)
        for tag, number in zip(block.tags, block.values[0], strict=True):
            found.setdefault(tag, []).append(number)
    return found


def _one_that_is(held: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[N, 1]: of values [N, S] the first that is held."""
    return np.take_along_axis(values, held.argmax(axis=1)[:, None], axis=1)


def _summaries(values: np.ndarray, held: np.ndarray) -> Iterator[np.ndarray]:
    """Mean, smallest and largest [N] of values [N, S], of those that are held. NaN if one is."""
    some = np.where(np.logical_or.reduce(held, axis=1)[:, None], _one_that_is(held, values), 0)
    values = np.where(held, values, some)
    floating = np.issubdtype(values.dtype, np.floating)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.where(held, values, 0).sum(axis=1, dtype=np.float64)
        mean = total / np.maximum(held.sum(axis=1), 1)
        yield mean.astype(values.dtype if floating else np.float64)
    yield values.min(axis=1)
    yield values.max(axis=1)
