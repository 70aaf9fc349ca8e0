"""Lanes kept apart: an accumulator for each lane of the outermost map, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.reducers import Reducer, State, is_static, namespace, replicated


class Lanes(NamedTuple):
    """The value of the state.

    Attributes:
        value: what another reducer makes of each lane: every array has an axis of S lanes in front.
        weights: [S], of each lane, the state's being their sum; None if each has that of the state.
    """

    value: Any
    weights: Any


class LanesReducer(Reducer):
    """Another reducer, of each lane by itself. What is inside of a lane merges as that one says.

    Args:
        inner: the other reducer.
    """

    name = "lanes"

    def __init__(self, inner: Reducer):
        self.inner = inner

    def start(self, values: Any, weight: Any, rank: int) -> State:
        # The axis of the lanes may be sharded.
        values = replicated(lambda x: x, values)
        start = lambda v, w: self.inner.start(v, w, rank)  # noqa: E731
        if self.inner.elementwise:
            return _apart(start, values, weight)
        # One after the other: what branches on its elements would go into both branches side by side.
        return _apart(start, values, weight, each=_one_by_one)

    def merge(self, a: State, b: State) -> State:
        alike = a.value.weights is None and b.value.weights is None
        x, y = (State(s.value.value, s.weight if alike else _weights(s)) for s in (a, b))
        if self.inner.elementwise and namespace(*jax.tree.leaves((x, y))) is np:
            value = self.inner.merge(x, y).value
        elif alike:
            merge = lambda v, w: self.inner.merge(State(v, x.weight), State(w, y.weight)).value  # noqa: E731
            value = _each(merge, x.value, y.value)
        else:
            value = _each(lambda x, y: self.inner.merge(x, y).value, x, y)
        weight = x.weight + y.weight
        return State(Lanes(value, None), weight) if alike else _weighed(value, weight)

    def collapse(self, state: State) -> State:
        (value, weights), weight = state
        if weights is not None:
            return _weighed(*jax.vmap(self._collapsed, in_axes=1)(value, weights))
        merged = jax.vmap(lambda v: self._collapsed(v, weight).value, in_axes=1)(value)
        count = jax.tree.leaves(value)[0].shape[0]
        return State(Lanes(merged, None), weight * count if is_static(weight) else weight.sum(0))

    def empty(self, like: State) -> State:
        value, weights = like.value
        value = jax.vmap(lambda v: self.inner.empty(State(v)).value)(value)
        weights = None if weights is None else jnp.zeros_like(weights)
        return State(Lanes(value, weights), self._no_weight(like))

    def finish(self, state: State) -> Any:
        """Of scalars, whose arrays may have more axes in front: an array over those and the lanes."""
        (value, weights), weight = state
        return np.asarray(self.inner.finish(State(value, weight if weights is None else weights)))

    def held(self, state: State) -> Any:
        """Which lanes have a value: bool, broadcasts against what ``finish`` makes of scalars."""
        weights = state.value.weights
        return (np.asarray(state.weight)[..., None] if weights is None else weights) > 0

    def each(self, state: State) -> Iterator[tuple[int, Any]]:
        """The lanes that have a value, and what it is."""
        weights = _weights(state)
        for lane in np.flatnonzero(weights > 0).tolist():
            value = jax.tree.map(lambda x, lane=lane: x[lane], state.value.value)
            yield lane, self.inner.finish(State(value, weights[lane]))

    def side_by_side(self, state: State) -> State:
        """More lanes: those of devices, which every array has a leading axis of."""
        (value, weights), weight = state
        flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        if weights is None and not is_static(weight):
            lanes = jax.tree.leaves(value)[0].shape[:2]
            weights = jnp.broadcast_to(weight[:, None], lanes)
        value = jax.tree.map(flat, value)
        return (
            State(Lanes(value, None), weight) if weights is None else _weighed(value, flat(weights))
        )

    def around(self, state: State) -> State:
        """The lanes of a map around the others, which every array has a leading axis of.

        Those that were apart until now are no longer the outermost, and merge.
        """
        value, weight = state
        if is_static(weight):
            return _apart(lambda v: self._whole(State(v, weight)), value)
        return _apart(lambda v, w: self._whole(State(v, w)), value, weight)

    def _whole(self, state: State) -> State:
        if not isinstance(state.value, Lanes):
            return state
        weight = state.weight if is_static(state.weight) else _weights(state)
        return self._collapsed(state.value.value, weight)

    def _collapsed(self, value: Any, weight: Any) -> State:
        return self.inner.collapse(State(value, weight))


def _one_by_one(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *operands: jax.lax.map(lambda lane: function(*lane), operands)


def _apart(function: Callable[..., State], *operands: Any, each: Any = jax.vmap) -> State:
    """``function`` of each lane."""
    counts: list[int] = []

    def lane(*operands: Any) -> Any:
        value, weight = function(*operands)
        if is_static(weight):  # in all lanes alike, and vmap would make an array of it
            counts.append(weight)
            return value, None
        return value, weight

    value, weights = each(lane)(*operands)
    return State(Lanes(value, None), counts[0]) if weights is None else _weighed(value, weights)


def _weighed(value: Any, weights: Any) -> State:
    return State(Lanes(value, weights), weights.sum())


def _weights(state: State) -> Any:
    """Of each lane."""
    value, weights = state.value
    if weights is not None:
        return weights
    first = jax.tree.leaves(value)[0]
    xp = namespace(first, state.weight)
    return xp.broadcast_to(xp.asarray(state.weight), first.shape[:1])


def _each(function: Callable[..., Any], *operands: Any) -> Any:
    """``function`` of each lane, of values that have an axis of lanes in front."""
    leaves = jax.tree.leaves(operands)
    if namespace(*leaves) is not np:
        return jax.vmap(function)(*operands)
    lanes = range(leaves[0].shape[0])
    made = [function(*jax.tree.map(lambda x, i=i: x[i], operands)) for i in lanes]
    return jax.tree.map(lambda *parts: np.stack(parts), *made)
