"""The first few items of a batch, such as images or sounds, converted on the device to a compact dtype."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxboard._reduce.reducers import (
    Last,
    State,
    count_positive,
    expand,
    flatten_lanes,
    flatten_weight,
    replicated,
)
from jaxboard._reduce.wide import Wide, namespace
from jaxboard._types import Array, PyTree

_ROUNDING = 1e-3
"""Floats that are this far outside of their range are rounding errors: less than a step of a byte."""


class Items(NamedTuple):
    """The value of the state.

    Attributes:
        kept: the items, in arrays with a leading axis of M items.
        valid: int32, how many of them a mask has not left out. They are the first.
        limits: float32[2], the smallest and the largest finite value before clipping; zeros if none was clipped.
            None for values that are never clipped.
    """

    kept: PyTree
    valid: Array
    limits: Array | None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Clipped:
    """The value of a record some of whose floats were clipped.

    Attributes:
        value: the value that sinks receive.
        low: the smallest value before clipping.
        high: the largest value before clipping.
    """

    value: Any
    low: float
    high: float


class FirstItems(Last):
    """Keep the first few items of the batch that was reported last. The lanes of a ``vmap`` are a batch, too.

    Args:
        max_items: how many items are kept.
        rank: the rank of one item.
    """

    def __init__(self, max_items: int, rank: int):
        self.max_items = max_items
        self.rank = rank

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None:
            return State(self._items(values, None), 1)
        values, _ = flatten_lanes(values, rank)
        weight = flatten_weight(weight)
        # Put the lanes that count first.
        values = values[namespace(weight).argsort(weight <= 0, stable=True)]
        count = count_positive(weight)
        return State(self._items(values, count), count)

    def finish(self, state: State) -> Any:
        kept, valid, limits = state.value
        count = int(valid)
        value = self.as_value(jax.tree.map(lambda x: np.asarray(x)[:count], kept))
        low, high = (0.0, 0.0) if limits is None else np.asarray(limits).tolist()
        return value if low == high == 0 else Clipped(value, low, high)

    def compact(self, items: Array) -> tuple[PyTree, Array | None]:
        """Return items [M, ...] in compact dtypes, and :attr:`Items.limits`."""
        raise NotImplementedError

    def as_value(self, items: PyTree) -> Any:
        """Return the value of the record, from the items that :meth:`compact` returned, on the host."""
        raise NotImplementedError

    def _items(self, values: Array, lanes: Wide | None) -> Items:
        """Return the state of values, of which the first ``lanes`` lanes count; None for all of them."""
        shape = values.shape[values.ndim - self.rank :]
        items = replicated(lambda x: x.reshape(-1, *shape)[: self.max_items], values)
        xp, size = namespace(items), len(items)
        count = xp.asarray(size, np.int32)
        if lanes is not None:
            in_each = math.prod(values.shape[1 : values.ndim - self.rank])
            # The number of lanes is below 2^31.
            count = xp.minimum(lanes.low * in_each, size).astype(np.int32)
            counts = xp.arange(size) < count
            items = xp.where(expand(counts, items), items, items.dtype.type(0))
        kept, limits = self.compact(items)
        return Items(kept, count, limits)


def limits(values: Array, low: float, high: float) -> Array:
    """Return :attr:`Items.limits` of floats that are clipped to ``low`` and ``high``."""

    def compute(values: Array) -> Array:
        xp = namespace(values)
        finite = xp.where(xp.isfinite(values), values, 0)
        with np.errstate(over="ignore"):  # A value beyond the largest float32 is clipped, too.
            smallest, largest = finite.min().astype(np.float32), finite.max().astype(np.float32)
        inside = (smallest >= low - _ROUNDING) & (largest <= high + _ROUNDING)
        return xp.where(inside, np.float32(0), xp.stack([smallest, largest]))

    return replicated(compute, values)
