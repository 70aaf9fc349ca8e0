"""Histograms of many small arrays on a CPU, with one copy of the code for all of them.

The arrays are joined in rows of equal length. Each starts a row of its own, and the rest of its last row is NaN. One loop
over the rows finds the range of each array, a second one counts its elements.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard import _compat
from jaxboard._reduce.histogram import (
    NAN,
    NUM_COUNTS,
    Buckets,
    add_range,
    grid_of,
    indexer,
    limits,
    scatter_add,
)
from jaxboard._reduce.scans import scan
from jaxboard._types import Array

_ROW = 1 << 13
"""Elements of a row, which stay in the cache of a CPU. Most arrays of a model are longer."""

MAX_JOINED = 1 << 26
"""The most elements that are joined: they are copied."""


class _Rows(NamedTuple):
    """The rows of all arrays, with a leading axis of rows.

    Attributes:
        elements: floats [R, 8192].
        array: uint32[R], the index of the array that each row is part of.
    """

    elements: Array
    array: Array


def joinable(sizes: Sequence[int]) -> list[int]:
    """Return which of some arrays to join, given their numbers of elements: the smallest ones, if they are several."""
    by_size = sorted((n for n, size in enumerate(sizes) if size), key=sizes.__getitem__)
    totals = itertools.accumulate(-(-sizes[n] // _ROW) * _ROW for n in by_size)
    joined = [n for n, total in zip(by_size, totals, strict=True) if total <= MAX_JOINED]
    return sorted(joined) if len(joined) > 1 else []


def count_joined(arrays: Sequence[Array]) -> Buckets:
    """Return the histograms of L float arrays of one dtype, none of them empty: [L] and int32[L, 132]."""
    sizes = np.array([x.size for x in arrays])
    missing = -sizes % _ROW
    parts = [
        part
        for x, count in zip(arrays, missing.tolist(), strict=True)
        for part in (x.reshape(-1), np.full(count, np.nan, x.dtype))
        if part.size
    ]
    elements = jnp.concatenate(parts).reshape(-1, _ROW)
    rows = _Rows(elements, np.repeat(np.arange(len(arrays), dtype=np.uint32), -(-sizes // _ROW)))
    axes = _compat.varying(elements)

    def add_row_to_range(ranges: Array, row: _Rows) -> tuple[Array, None]:
        values = row.elements
        added = add_range(tuple(_at(ranges, row.array)), values, jnp.isfinite(values))
        return lax.dynamic_update_index_in_dim(ranges, jnp.stack(added), row.array, 0), None

    no_elements = np.array([*limits(elements.dtype), 0, 0], elements.dtype)
    empty = _compat.vary(jnp.tile(no_elements, (len(arrays), 1)), axes)
    low, high, sum_, squares = scan(add_row_to_range, empty, rows)[0].T
    exponent, first = grid_of(low, high)

    def count_row(counts: Array, row: _Rows) -> tuple[Array, None]:
        index = indexer(_at(exponent, row.array), _at(first, row.array))(row.elements)
        places = index + row.array.astype(np.int32) * NUM_COUNTS
        return scatter_add(counts, places, jnp.ones(_ROW, np.int32)), None

    # The rest of the last rows does not count.
    before = np.zeros((len(arrays), NUM_COUNTS), np.int32)
    before[:, NAN] = -missing
    counts = scan(count_row, _compat.vary(jnp.asarray(before.reshape(-1)), axes), rows)[0]
    return Buckets(low, high, counts.reshape(before.shape), sum_, squares)


def _at(array: Array, index: Array) -> Array:
    return lax.dynamic_index_in_dim(array, index, keepdims=False)
