"""Stacks of scalars: those of devices, iterations or lanes side by side, each a curve of its own."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    flatten_weight,
    product,
    replicated,
)
from jaxboard._reduce.stack_tags import stack_tags
from jaxboard._reduce.wide import Wide, WideFloat, WideInt, as_wide, floats, namespace
from jaxboard._types import Array
from jaxboard.records import Scalars


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """The scalars that devices, iterations or lanes reported.

    Attributes:
        axes: the names of the A axes, the outermost first.
        places: int64[K, A], in ascending order: the indices of each place with a value.
        values: [K], the mean of the reports of each.
    """

    axes: tuple[str, ...]
    places: np.ndarray
    values: np.ndarray

    def scalars(self, tag: str, step: int, wall_time: float, run: str = "") -> Scalars:
        """Return one row, with the tags of all places."""
        values = self.values[None]
        return Scalars(self.tags(tag), np.array([step]), np.array([wall_time]), values, run)

    def tags(self, tag: str) -> tuple[str, ...]:
        """Return the tag of each place, such as ``tag/device_01/iteration_03``."""
        return stack_tags(tag, self.axes, self.places)


class Row(NamedTuple):
    """The value of the state.

    Attributes:
        sums: the weighted sum of the observations at each place; one axis for each axis of the stack.
        weights: the sum of their weights, of the same shape.
    """

    sums: WideFloat
    weights: Wide


class StackReducer(Reducer):
    """Keep the values along axes separate. Repeated reports and iterations of a while loop merge place by place.

    Args:
        axes: the names of the axes, the outermost first.
    """

    name = "stack"
    elementwise = False

    def __init__(self, axes: tuple[str, ...]):
        self.axes = axes

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        values = replicated(lambda x: x, floats(values))
        xp = namespace(values)
        if weight is None:
            ones = WideInt.of(xp.ones(values.shape, np.int32))
            return State(Row(WideFloat.of(values), ones), values.size)
        # where() in addition to the product: 0 * nan is nan.
        flat = flatten_weight(weight)
        weight = flat.reshape(values.shape)
        values = xp.where(weight > 0, values, values.dtype.type(0))
        weights = as_wide(weight)
        sums = product(WideFloat.of(values), weights).as_float(values.dtype)
        return State(Row(sums, weights), as_wide(flat).sum())

    def merge(self, a: State, b: State) -> State:
        x, y = a.value, b.value
        if x.sums.high.shape != y.sums.high.shape:
            shape = np.maximum(x.sums.high.shape, y.sums.high.shape)
            x, y = (jax.tree.map(lambda array: pad_leading(array, shape), row) for row in (x, y))
        return State(Row(x.sums + y.sums, x.weights + y.weights), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        # The leading axis becomes one of the axes of the stack.
        return State(state.value, collapsed_weight(state.weight, len(state.value.sums.high)))

    def finish(self, state: State) -> Stack:
        sums, weights = (np.asarray(x) for x in state.value)
        has_value = weights > 0
        means = sums / np.where(has_value, weights, 1)
        means = means.astype(state.value.sums.high.dtype)
        return Stack(self.axes, np.argwhere(has_value), means[has_value])


def pad_leading(array: Array, shape: np.ndarray) -> Array:
    """Append zeros to the leading axes of an array until they have a shape."""
    sizes = zip(shape.tolist(), array.shape, strict=False)
    padding = [(0, target - size) for target, size in sizes]
    padding += [(0, 0)] * (array.ndim - len(padding))
    return namespace(array).pad(array, padding)
