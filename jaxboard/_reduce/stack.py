"""Stacks: scalars of lanes, iterations or devices side by side, each a curve of its own."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    flatten_lanes,
    flatten_weight,
    product,
)
from jaxboard._reduce.wide import Wide, WideFloat, WideInt, as_wide, floats, namespace
from jaxboard._types import Array
from jaxboard.records import Scalars


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The scalars that lanes, iterations or devices reported.

    Attributes:
        places: int64[K], ascending: the indices of the lanes or iterations that reported.
        values: [K], the mean of the reports of each.
    """

    places: np.ndarray
    values: np.ndarray

    def scalars(self, tag: str, step: int, wall_time: float, run: str = "") -> Scalars:
        """Return one row, with the tag ``tag/place`` for each place."""
        tags = tuple(f"{tag}/{place}" for place in self.places)
        return Scalars(tags, np.array([step]), np.array([wall_time]), self.values[None], run)


class Row(NamedTuple):
    """The value of the state.

    Attributes:
        sums: [K], the weighted sum of the observations at each place.
        weights: [K], the sum of their weights.
    """

    sums: WideFloat
    weights: Wide


class StackReducer(Reducer):
    """Stack lanes, iterations and devices. Repeated reports and trips of a while loop merge place by place."""

    name = "stack"
    elementwise = False

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        values, count = flatten_lanes(floats(values), rank)
        xp = namespace(values)
        if weight is None:
            ones = WideInt.of(xp.ones(count, np.int32))
            return State(Row(WideFloat.of(values), ones), count)
        # where() in addition to the product: 0 * nan is nan.
        weight = flatten_weight(weight)
        values = xp.where(weight > 0, values, values.dtype.type(0))
        weights = as_wide(weight)
        sums = product(WideFloat.of(values), weights).as_float(values.dtype)
        return State(Row(sums, weights), weights.sum())

    def merge(self, a: State, b: State) -> State:
        xp = namespace(*jax.tree.leaves((a.value, b.value)))
        places = max(row.sums.high.shape[0] for row in (a.value, b.value))
        pad = lambda x: xp.pad(x, (0, places - x.shape[0]))  # noqa: E731
        x, y = jax.tree.map(pad, (a.value, b.value))
        return State(Row(x.sums + y.sums, x.weights + y.weights), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        weight = collapsed_weight(state.weight, state.value.sums.high.shape[0])
        return State(jax.tree.map(lambda x: x.reshape(-1), state.value), weight)

    def finish(self, state: State) -> Stack:
        sums, weights = (np.asarray(x) for x in state.value)
        has_value = weights > 0
        means = sums / np.where(has_value, weights, 1)
        means = means.astype(state.value.sums.high.dtype)
        return Stack(np.flatnonzero(has_value), means[has_value])
