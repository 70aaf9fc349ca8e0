"""Separate lanes: one accumulator for each lane of the outermost ``vmap``, for seed runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    is_static,
    replicated,
)
from jaxboard._reduce.scans import map_over
from jaxboard._reduce.wide import Wide, WideInt, namespace
from jaxboard._types import Array, PyTree


class Lanes(NamedTuple):
    """The value of the state.

    Attributes:
        value: the values of the inner reducer. Every array has a leading axis of S lanes.
        weights: [S], the weight of each lane, if they may differ; the state's weight is their sum. None if
            every lane has the state's weight.
    """

    value: PyTree
    weights: Wide | None


class LanesReducer(Reducer):
    """Apply another reducer to each lane separately. Axes inside a lane merge as that reducer defines.

    Args:
        inner: the reducer of one lane.
    """

    name = "lanes"

    def __init__(self, inner: Reducer):
        self.inner = inner
        self.elementwise = inner.elementwise

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        # The axis of the lanes may be sharded.
        if weight is None:
            values = replicated(lambda x: x, values)
        else:
            values, weight = replicated(lambda *x: x, values, weight)

        def start_lane(value: Array, weight: Array | None) -> State:
            return self.inner.start(value, weight, rank)

        # A vmapped reducer that branches on its elements would execute both branches: use a loop for those.
        mapped = jax.vmap if self.inner.elementwise else map_in_loop
        return _start_lanes(start_lane, values, weight, mapped=mapped)

    def merge(self, a: State, b: State) -> State:
        uniform = a.value.weights is None and b.value.weights is None
        x, y = (State(s.value.value, s.weight if uniform else _lane_weights(s)) for s in (a, b))
        if self.inner.elementwise and namespace(*jax.tree.leaves((x, y))) is np:
            value = self.inner.merge(x, y).value
        elif uniform:
            merge = lambda v, w: self.inner.merge(State(v, x.weight), State(w, y.weight)).value  # noqa: E731
            value = map_lanes(merge, x.value, y.value)
        else:
            value = map_lanes(lambda x, y: self.inner.merge(x, y).value, x, y)
        weight = x.weight + y.weight
        return State(Lanes(value, None), weight) if uniform else _with_weights(value, weight)

    def collapse(self, state: State) -> State:
        (value, weights), weight = state
        if weights is not None:
            merged = jax.vmap(self._collapse_lane, in_axes=1)(value, weights)
            return _with_weights(merged.value, merged.weight)
        merged = jax.vmap(lambda v: self._collapse_lane(v, weight).value, in_axes=1)(value)
        count = jax.tree.leaves(value)[0].shape[0]
        return State(Lanes(merged, None), collapsed_weight(weight, count))

    def widen(self, state: State) -> State:
        value, weights = state.value
        return State(Lanes(self.inner.widen(State(value)).value, weights), state.weight)

    def empty(self, like: State) -> State:
        value, weights = like.value
        value = jax.vmap(lambda v: self.inner.empty(State(v)).value)(value)
        weights = jax.tree.map(jnp.zeros_like, weights)
        return State(Lanes(value, weights), self._no_weight(like))

    def finish(self, state: State) -> np.ndarray:
        """Return the values of scalars: [..., S], with the leading axes that the arrays of the state have."""
        (value, weights), weight = state
        return np.asarray(self.inner.finish(State(value, weight if weights is None else weights)))

    def has_value(self, state: State) -> Array:
        """Return which lanes have a value: bool, broadcasts against the result of ``finish`` for scalars."""
        weights = state.value.weights
        if weights is None:
            return np.asarray(state.weight)[..., None] > 0
        return np.asarray(weights) > 0

    def items(self, state: State) -> Iterator[tuple[int, Any]]:
        """Yield the index and the value of each lane that has a value."""
        weights = _lane_weights(state)
        for lane in np.flatnonzero(np.asarray(weights) > 0).tolist():
            one = jax.tree.map(lambda x, lane=lane: x[lane], State(state.value.value, weights))
            yield lane, self.inner.finish(one)

    def concatenate_devices(self, state: State) -> State:
        """Concatenate the lanes of all devices, which are the leading axis of every array."""
        (value, weights), weight = state
        flat = lambda x: x.reshape(-1, *x.shape[2:])  # noqa: E731
        if weights is None and not is_static(weight):
            shape = jax.tree.leaves(value)[0].shape[:2]
            weights = jax.tree.map(lambda x: jnp.broadcast_to(x[:, None], shape), weight)
        value = jax.tree.map(flat, value)
        if weights is None:
            return State(Lanes(value, None), weight)
        return _with_weights(value, jax.tree.map(flat, weights))

    def from_outer_map(self, state: State) -> State:
        """Make the leading axis of every array, an outer ``vmap``, the lanes.

        Lanes that were separate until now are no longer the outermost, and merge.
        """
        value, weight = state
        if is_static(weight):
            return _start_lanes(lambda v: self._merge_lanes(State(v, weight)), value)
        return _start_lanes(lambda v, w: self._merge_lanes(State(v, w)), value, weight)

    def _merge_lanes(self, state: State) -> State:
        """Return the state of the inner reducer that merges all lanes."""
        if not isinstance(state.value, Lanes):
            return state
        weight = state.weight if is_static(state.weight) else _lane_weights(state)
        return self.inner.collapse_lanes(State(state.value.value, weight))

    def _collapse_lane(self, value: PyTree, weight: Wide | int) -> State:
        return self.inner.collapse(State(value, weight))


def map_in_loop(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Return ``function`` mapped over the leading axis of its operands, one lane after the other."""
    return lambda *operands: map_over(lambda lane: function(*lane), operands)


def _start_lanes(
    function: Callable[..., State],
    *operands: PyTree,
    mapped: Callable[[Callable[..., PyTree]], Callable[..., PyTree]] = jax.vmap,
) -> State:
    """Return the lanes whose states ``function`` returns, mapped over the leading axis of the operands."""
    static_weights: list[int] = []

    def lane(*operands: PyTree) -> tuple[PyTree, Wide | None]:
        value, weight = function(*operands)
        if is_static(weight):  # vmap would make it an array
            static_weights.append(weight)
            return value, None
        return value, weight

    value, weights = mapped(lane)(*operands)
    if weights is None:
        return State(Lanes(value, None), static_weights[0])
    return _with_weights(value, weights)


def _with_weights(value: PyTree, weights: Wide) -> State:
    """Return the state of lanes that each have a weight of their own. They are the last axis of the weights."""
    lanes_first = jax.tree.map(lambda x: namespace(x).moveaxis(x, -1, 0), weights)
    return State(Lanes(value, weights), lanes_first.sum())


def _lane_weights(state: State) -> Wide:
    """Return the weight of each lane: [S]."""
    value, weights = state.value
    if weights is not None:
        return weights
    first = jax.tree.leaves(value)[0]
    weight = WideInt.of(state.weight) if is_static(state.weight) else state.weight
    xp = namespace(first, *jax.tree.leaves(weight))
    return jax.tree.map(lambda x: xp.broadcast_to(x, first.shape[:1]), weight)


def map_lanes(function: Callable[..., PyTree], *operands: PyTree) -> PyTree:
    """Return ``function`` mapped over the leading axis of the operands, on the device or on the host."""
    leaves = jax.tree.leaves(operands)
    if namespace(*leaves) is not np:
        return jax.vmap(function)(*operands)
    lanes = range(leaves[0].shape[0])
    results = [function(*jax.tree.map(lambda x, i=i: x[i], operands)) for i in lanes]
    return jax.tree.map(lambda *parts: np.stack(parts), *results)
