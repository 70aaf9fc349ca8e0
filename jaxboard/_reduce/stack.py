"""A stack: observations side by side, each a scalar of its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxboard._reduce.reducers import Reducer, State, flatten_lanes, floats, is_static, namespace
from jaxboard.records import Stack


class Row(NamedTuple):
    """The value of the state.

    Attributes:
        sums: [K], of the observations at each place.
        weights: [K], of how much they are.
    """

    sums: Any
    weights: Any


class StackReducer(Reducer):
    """Lanes, iterations and devices side by side; trips of a while loop and repeated reports, place by place."""

    name = "stack"
    elementwise = False

    def start(self, values: Any, weight: Any, rank: int) -> State:
        values, weight, count = flatten_lanes(floats(values), weight, rank)
        xp = namespace(values)
        if weight is None:
            return State(Row(values, xp.ones(count, np.int32)), count)
        # where() and not only the product: 0 * nan is nan.
        weight = xp.where(weight > 0, weight, 0)
        sums = xp.where(weight > 0, values * weight.astype(values.dtype), 0)
        return State(Row(sums, weight), weight.sum())

    def merge(self, a: State, b: State) -> State:
        xp = namespace(*a.value, *b.value)
        places = max(a.value.sums.shape[0], b.value.sums.shape[0])

        def add(x: Any, y: Any) -> Any:
            x, y = (xp.pad(part, (0, places - part.shape[0])) for part in (x, y))
            return x + y

        return State(Row(*map(add, a.value, b.value)), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        sums, weights = state.value
        weight = state.weight
        weight = weight * sums.shape[0] if is_static(weight) else weight.sum(0)
        return State(Row(sums.reshape(-1), weights.reshape(-1)), weight)

    def finish(self, state: State) -> Stack:
        sums, weights = (np.asarray(x) for x in state.value)
        held = weights > 0
        means = sums / np.where(held, weights, 1).astype(sums.dtype)
        return Stack(np.flatnonzero(held), means[held])
