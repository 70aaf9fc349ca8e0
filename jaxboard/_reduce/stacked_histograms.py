"""Stacks of histograms: one for each device, iteration or lane."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.lanes import map_in_loop, map_lanes
from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    expand,
    is_static,
    replicated,
)
from jaxboard._reduce.stack import pad_leading
from jaxboard._reduce.stack_tags import stack_tags
from jaxboard._reduce.wide import Wide, WideInt, namespace
from jaxboard._types import Array, PyTree
from jaxboard.records import Histogram, Kind


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class HistogramStack:
    """The histograms that devices, iterations or lanes reported.

    Attributes:
        axes: the names of the A axes, the outermost first.
        places: int64[K, A], in ascending order: the indices of each place with a histogram.
        histograms: those of the K places.
    """

    kind: ClassVar = Kind.HISTOGRAM
    axes: tuple[str, ...]
    places: np.ndarray
    histograms: tuple[Histogram, ...]

    def tagged(self, tag: str) -> Iterator[tuple[str, Histogram]]:
        """Yield the tag of each place, such as ``tag/iteration_03``, and its histogram."""
        return zip(stack_tags(tag, self.axes, self.places), self.histograms, strict=True)


class Histograms(NamedTuple):
    """The value of the state of :class:`HistogramStackReducer`.

    Attributes:
        value: the histograms. Every array has a leading axis for each axis of the stack.
        weights: how many observations there are at each place: integers with those axes.
    """

    value: PyTree
    weights: Wide


class HistogramStackReducer(Reducer):
    """Keep histograms along axes separate. Repeated reports and iterations of a while loop merge place by place.

    Args:
        axes: the names of the axes, the outermost first.
        inner: the reducer of one histogram.
    """

    name = "histogram_stack"
    elementwise = False

    def __init__(self, axes: tuple[str, ...], inner: Reducer):
        self.axes = axes
        self.inner = inner

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        shape = values.shape[: values.ndim - rank]
        operands = (values,) if weight is None else (values, weight)
        # The axes of the stack may be sharded.
        operands = replicated(lambda *x: x, *operands)

        def start_place(values: Array, weight: Array | None = None) -> Histograms:
            value, counted = self.inner.start(values, weight, rank)
            if is_static(counted):
                counted = jax.tree.map(namespace(values).asarray, WideInt.of(counted))
            return Histograms(value, counted)

        if not shape:
            stack = start_place(*operands)
            return State(stack, 1 if weight is None else stack.weights)
        flat = map_in_loop(start_place)(*_flattened(operands, len(shape)))
        total = math.prod(shape) if weight is None else flat.weights.sum()
        return State(_unflattened(flat, shape), total)

    def merge(self, a: State, b: State) -> State:
        x, y = (self.widen(state).value for state in (a, b))
        if x.weights.low.shape == y.weights.low.shape:
            value = self._merge_places(x.value, y.value)
        else:
            shape = np.maximum(x.weights.low.shape, y.weights.low.shape)
            x, y = (jax.tree.map(lambda leaf: pad_leading(leaf, shape), each) for each in (x, y))
            value = _where_counted(x, y, self._merge_places(x.value, y.value))
        return State(Histograms(value, x.weights + y.weights), a.weight + b.weight)

    def _merge_places(self, x: PyTree, y: PyTree) -> PyTree:
        def merge_place(x: PyTree, y: PyTree) -> PyTree:
            return self.inner.merge(State(x), State(y)).value

        if not self.axes:
            return merge_place(x, y)
        shape = jax.tree.leaves(x)[0].shape[: len(self.axes)]
        flat = _flattened((x, y), len(self.axes))
        return _unflattened(map_lanes(merge_place, *flat), shape)

    def collapse(self, state: State) -> State:
        # The leading axis becomes one of the axes of the stack.
        size = state.value.weights.low.shape[0]
        return State(state.value, collapsed_weight(state.weight, size))

    def widen(self, state: State) -> State:
        value, weights = state.value
        return State(Histograms(self.inner.widen(State(value)).value, weights), state.weight)

    def empty(self, like: State) -> State:
        value, weights = like.value
        shape = weights.low.shape
        empty = self.inner.empty
        if shape:
            flat = jax.vmap(lambda x: empty(State(x)).value)(_flattened(value, len(shape)))
            value = _unflattened(flat, shape)
        else:
            value = empty(State(value)).value
        weights = jax.tree.map(jnp.zeros_like, weights)
        return State(Histograms(value, weights), self._no_weight(like))

    def finish(self, state: State) -> HistogramStack:
        value, weights = state.value
        places = np.argwhere(np.asarray(weights) > 0)
        return HistogramStack(
            self.axes,
            places,
            tuple(
                self.inner.finish(State(jax.tree.map(lambda x, at=tuple(place): x[at], value)))
                for place in places.tolist()
            ),
        )


def _where_counted(x: Histograms, y: Histograms, merged: PyTree) -> PyTree:
    """Return the merged histograms where both states have one, and elsewhere that of the state that has one.

    A place without observations has zeros in place of a histogram, which must not be merged.
    """
    has_x, has_y = x.weights.is_positive(), y.weights.is_positive()

    def select(x: Array, y: Array, merged: Array) -> Array:
        where = namespace(x, y).where
        one = where(expand(has_y, y), y, x)
        return where(expand(has_x & has_y, merged), merged, one)

    return jax.tree.map(select, x.value, y.value, merged)


def _flattened(tree: PyTree, count: int) -> PyTree:
    """Return arrays whose first ``count`` axes are merged into one."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[count:]), tree)


def _unflattened(tree: PyTree, shape: tuple[int, ...]) -> PyTree:
    """Return arrays whose leading axis is split into axes of this shape."""
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[1:]), tree)
