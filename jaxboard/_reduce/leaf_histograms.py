"""Histograms of the leaves of a pytree, in one report: a row of integers for each leaf.

A row has the 132 counts of a histogram (see :class:`Buckets`), then the bits of ``low``, ``high``, ``sum`` and
``squares``.
"""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.histogram import NUM_COUNTS, Buckets, HistogramReducer, limits, merge_pair
from jaxboard._reduce.lanes import map_lanes
from jaxboard._reduce.named_values import NamedValues
from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    count_positive,
    expand,
    flatten_lanes,
    flatten_weight,
)
from jaxboard._reduce.wide import namespace
from jaxboard._types import Array
from jaxboard.records import Kind


def encode(buckets: Buckets) -> jax.Array:
    """Return histograms as int32[..., 136], or int32[..., 140] of 64-bit floats."""
    low, high, counts, sum_, squares = buckets
    bits = lax.bitcast_convert_type(jnp.stack([low, high, sum_, squares], -1), np.int32)
    return jnp.concatenate([cast("Array", counts), bits.reshape(*low.shape, -1)], -1)


def decode(rows: Array) -> Buckets:
    """Return histograms from the results of :func:`encode`, [..., 136] or [..., 140]."""
    counts, bits = rows[..., :NUM_COUNTS], rows[..., NUM_COUNTS:]
    words = bits.shape[-1] // 4
    dtype = np.float32 if words == 1 else np.float64
    if namespace(rows) is np:
        numbers = np.ascontiguousarray(bits).view(dtype)
    else:
        shape = (*bits.shape[:-1], 4) if words == 1 else (*bits.shape[:-1], 4, words)
        numbers = lax.bitcast_convert_type(bits.reshape(shape), dtype)
    low, high, sum_, squares = (numbers[..., n] for n in range(4))
    return Buckets(low, high, counts, sum_, squares)


class LeafHistogramsReducer(Reducer):
    """Merge the histograms of each leaf: int32[L, 136] or int32[L, 140].

    Args:
        names: the names of the L leaves.
    """

    name = "leaf_histograms"
    elementwise = False

    def __init__(self, names: tuple[str, ...]):
        self.names = names
        self._leaf = HistogramReducer()

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(decode(values), 1)
        values, _ = flatten_lanes(values, rank)
        buckets = decode(values)
        if weight is None:
            return self.collapse(State(buckets, 1))
        weight = flatten_weight(weight)
        xp = namespace(values, weight)
        low, high = limits(buckets.low.dtype)
        zero = np.zeros((), buckets.sum.dtype)
        empty = Buckets(low, high, np.zeros((), np.int32), zero, zero)
        counted = jax.tree.map(
            lambda x, none: xp.where(expand(weight > 0, x), x, none), buckets, empty
        )
        return State(self.collapse(State(counted)).value, count_positive(weight))

    def merge(self, a: State, b: State) -> State:
        return merge_pair(self, a, b)

    def collapse(self, state: State) -> State:
        value, weight = state
        xp = namespace(*jax.tree.leaves(value))
        by_leaf = jax.tree.map(lambda x: xp.moveaxis(x, 0, 1), value)
        merged = map_lanes(lambda x: self._leaf.collapse(State(x)).value, by_leaf)
        return State(merged, collapsed_weight(weight, value.low.shape[0]))

    def widen(self, state: State) -> State:
        return self._leaf.widen(state)

    def empty(self, like: State) -> State:
        value = jax.vmap(lambda x: self._leaf.empty(State(x)).value)(like.value)
        return State(value, self._no_weight(like))

    def finish(self, state: State) -> NamedValues:
        return NamedValues(
            Kind.HISTOGRAM,
            tuple(
                (name, self._leaf.finish(State(jax.tree.map(lambda x, n=n: x[n], state.value))))
                for n, name in enumerate(self.names)
            ),
        )
