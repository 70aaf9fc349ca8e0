"""Lanes that a report keeps apart become runs, and beside them what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxboard._frame import Spec
from jaxboard._record import Kind, Record, Scalars
from jaxboard.reduce import State, reducer

SUMMARIES = ("mean", "min", "max")
"""The runs of all lanes together."""


def columns(
    spec: Spec, state: State, keep: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The runs of a scalar.

    Args:
        spec: the report.
        state: its accumulator; an axis of N points in front of all its arrays.
        keep: bool[N], which points count.

    Yields:
        The name of a run, its values [N], and which of them it has.
    """
    lanes: Any = reducer(spec)
    values = lanes.finish(state)
    held = np.broadcast_to(lanes.held(state) & keep[:, None], values.shape)
    for lane in range(values.shape[1]):
        yield f"seed_{lane}", values[:, lane], held[:, lane]
    some = np.logical_or.reduce(held, axis=1)
    for run, over_all in zip(SUMMARIES, _summaries(values, held), strict=True):
        yield run, over_all, some


def points(spec: Spec, state: State, step: int, wall_time: float) -> Iterator[Record | Scalars]:
    """The runs of one point of a report of any kind."""
    if spec.kind is Kind.SCALAR:
        one = jax.tree.map(lambda x: x if isinstance(x, int) else np.asarray(x)[None], state)
        for run, values, held in columns(spec, one, np.ones(1, bool)):
            if held[0]:
                times = np.array([wall_time])
                yield Scalars((spec.tag,), np.array([step]), times, values[:, None], run)
        return
    lanes: Any = reducer(spec)
    found: dict[str, list[Any]] = {}
    for lane, value in lanes.each(state):
        yield Record(spec.kind, spec.tag, step, wall_time, value, f"seed_{lane}")
        if spec.kind in (Kind.NORMS, Kind.STACK):
            block = value.scalars(spec.tag, step, wall_time)
            for tag, number in zip(block.tags, block.values[0], strict=True):
                found.setdefault(tag, []).append(number)
    for tag, numbers in found.items():
        values = np.array([numbers])
        over_all = _summaries(values, np.ones(values.shape, bool))
        for run, number in zip(SUMMARIES, over_all, strict=True):
            yield Scalars((tag,), np.array([step]), np.array([wall_time]), number[:, None], run)


def _summaries(values: np.ndarray, held: np.ndarray) -> Iterator[np.ndarray]:
    """Mean, smallest and largest [N] of values [N, S], of those that are held. NaN if one is."""
    # What is not held becomes a copy of what is, and zero where nothing is.
    some = np.take_along_axis(values, held.argmax(axis=1)[:, None], axis=1)
    values = np.where(held, values, np.where(np.logical_or.reduce(held, axis=1)[:, None], some, 0))
    floating = np.issubdtype(values.dtype, np.floating)
    with np.errstate(invalid="ignore", over="ignore"):
        total = np.where(held, values, 0).sum(axis=1, dtype=np.float64)
        mean = total / np.maximum(held.sum(axis=1), 1)
        yield mean.astype(values.dtype if floating else np.float64)
    yield values.min(axis=1)
    yield values.max(axis=1)
