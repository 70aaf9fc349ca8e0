"""Stacks: scalars of lanes, iterations or devices side by side, each a curve of its own."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    flatten_lanes,
    flatten_weight,
    floats,
    namespace,
)
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

    sums: Array
    weights: Array


class StackReducer(Reducer):
    """Stack lanes, iterations and devices. Repeated reports and trips of a while loop merge place by place."""

    name = "stack"
    elementwise = False

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        values, count = flatten_lanes(floats(values), rank)
        xp = namespace(values)
        if weight is None:
            return State(Row(values, xp.ones(count, np.int32)), count)
        # where() in addition to the product: 0 * nan is nan.
        weight = flatten_weight(weight)
        weights = xp.where(weight > 0, weight, 0)
        sums = xp.where(weights > 0, values * weights.astype(values.dtype), 0)
        return State(Row(sums, weights), weights.sum())

    def merge(self, a: State, b: State) -> State:
        xp = namespace(*a.value, *b.value)
        places = max(a.value.sums.shape[0], b.value.sums.shape[0])

        def add(x: Array, y: Array) -> Array:
            x, y = (xp.pad(part, (0, places - part.shape[0])) for part in (x, y))
            return x + y

        return State(Row(*map(add, a.value, b.value)), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        sums, weights = state.value
        weight = collapsed_weight(state.weight, sums.shape[0])
        return State(Row(sums.reshape(-1), weights.reshape(-1)), weight)

    def finish(self, state: State) -> Stack:
        sums, weights = (np.asarray(x) for x in state.value)
        has_value = weights > 0
        means = sums / np.where(has_value, weights, 1).astype(sums.dtype)
        return Stack(np.flatnonzero(has_value), means[has_value])
