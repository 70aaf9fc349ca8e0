"""Histograms that are computed on the device and merge exactly.

A kilobyte leaves the device instead of the array. All histograms share one grid: a bucket is a power of two
wide and begins at a multiple of its width. Each histogram uses the smallest width for which at most 128
buckets reach from its smallest to its largest element; 65 or more of them are then in use. A bucket of
twice the width is two of the narrower ones, so histograms merge without loss: each is made as coarse as
the common range requires, then counts are added. Merging in any order gives exactly the histogram of all
elements.

Logarithmic buckets would merge too, but show nothing if the spread is small compared to the mean (the
scales of a norm layer, near 1). These buckets have the resolution of the actual range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.pieces import fold
from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    count_positive,
    expand,
    is_counted,
    on_cpu,
    replicated,
)
from jaxboard._reduce.wide import WideInt, floats, namespace
from jaxboard._types import Array
from jaxboard.records import Histogram

BUCKETS = 128
"""The most buckets of a histogram."""

_BITS = 30
"""A bucket is at least 2**-30 times the largest magnitude wide, so that bucket numbers fit an int32."""


class Buckets(NamedTuple):
    """The value of a histogram's state.

    Attributes:
        low: the smallest finite element; the highest value of its dtype if there is none.
        high: the largest finite element; the lowest value of its dtype if there is none.
        counts: [132]: int32, as unsigned numbers, of one array; integers in two words after merging. The first 128 are the counts of the buckets, from the one that contains ``low``
            upwards, without zeros. The others are the numbers of elements that are +inf, zero, NaN and -inf.
        sum: the sum of the finite elements.
        squares: the sum of their squares.
    """

    low: Array
    high: Array
    counts: Array | WideInt
    sum: Array
    squares: Array


_Range: TypeAlias = tuple[Array, Array, Array, Array]
"""The result of the first pass: ``low``, ``high``, ``sum`` and ``squares`` of :class:`Buckets`."""

_POSINF, _ZERO, NAN, _NEGINF, NUM_COUNTS = range(BUCKETS, BUCKETS + 5)
"""The indices in ``counts`` behind those of the buckets, and the length of ``counts``."""

_IGNORED = NUM_COUNTS
"""The index of elements that do not count."""

_MANY = 1 << 16
"""From this many elements on, adding them in pairs is faster on a CPU."""


# --- The grid that all histograms share.


def as_float(x: Array) -> Array:
    """Return integers as floats. Rounding keeps their order."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(np.float32 if x.dtype.itemsize < 8 else np.float64)


def _exponent_above(x: Array) -> Array:
    """Return the exponent of the smallest power of two above x, finite and not negative.

    A subnormal x gets an exponent that is low enough for the smallest of them.
    """
    if namespace(x) is np:
        return np.frexp(x)[1]
    # A tenth of the operations of jnp.frexp. Every histogram of a program needs them.
    info = jnp.finfo(x.dtype)
    bits = lax.bitcast_convert_type(x, f"int{info.bits}")
    return (bits >> info.nmant).astype(np.int32) + info.minexp


def _power_of_two(exponent: Array, dtype: np.dtype) -> Array:
    """Return two to an exponent. The result must be a normal number."""
    info = jnp.finfo(dtype)
    if namespace(exponent) is np:
        return np.ldexp(np.ones((), dtype), exponent)
    bits = (exponent + (1 - info.minexp)).astype(f"int{info.bits}") << info.nmant
    return lax.bitcast_convert_type(bits, dtype)


def _width_exponent(low: Array, high: Array) -> Array:
    """Return the exponent of the bucket width for a range. A part of the range has no larger one."""
    xp = namespace(low, high)
    first, last = as_float(low), as_float(high)
    half = last / 2 - first / 2  # last - first may overflow
    # Two to minus this exponent must be finite too.
    finest = xp.maximum(
        _exponent_above(xp.maximum(xp.abs(first), xp.abs(last))) - _BITS,
        jnp.finfo(first.dtype).minexp + 8,
    )
    wide = _exponent_above(half) + 1 - (BUCKETS.bit_length() - 1)
    exponent = xp.maximum(xp.where(half > 0, wide, finest), finest).astype(np.int32)
    fits = _bucket_numbers(high, exponent) - _bucket_numbers(low, exponent) < BUCKETS
    return xp.where(fits, exponent, exponent + 1)


def _bucket_numbers(x: Array, exponent: Array) -> Array:
    """Return the bucket of the grid that contains each x, counted from zero, in the dtype of x. Exact."""
    xp = namespace(x, exponent)
    if jnp.issubdtype(x.dtype, jnp.floating):
        scaled = x * _power_of_two(-exponent, x.dtype)
        # A negative number that underflows to zero is still in the bucket below zero.
        return xp.floor(xp.where((x < 0) & (scaled == 0), -1, scaled))
    up, down = (xp.maximum(e, 0).astype(x.dtype) for e in (exponent, -exponent))
    return (x >> up) << down


def _int_bucket_numbers(x: Array, exponent: Array) -> Array:
    """Return the bucket numbers of finite x as int32."""
    return _bucket_numbers(x, exponent).astype(np.int32)


def _bounds(low: Array, high: Array) -> tuple[Array, Array]:
    """Return a range as it is, or 0 and 0 for the range of no element."""
    xp = namespace(low, high)
    return xp.where(low <= high, low, 0), xp.where(low <= high, high, 0)


# --- Passes over the elements.


def scatter_add(counts: Array, places: Array, numbers: Array) -> Array:
    """Return counts, of rank 1, with numbers added at places, which must be in bounds."""
    if namespace(counts, places) is np:
        added = np.bincount(places.reshape(-1), numbers.reshape(-1), len(counts))
        return counts + added.astype(counts.dtype)
    # counts.at[places].add would check each place for being negative.
    dimensions = lax.ScatterDimensionNumbers((), (0,), (0,))
    return lax.scatter_add(counts, places[..., None], numbers, dimensions, mode="promise_in_bounds")


def add_range(state: _Range, values: Array, counted: Array | None = None) -> _Range:
    """Add values to the first pass: minimum, maximum, sum and sum of squares of the finite elements."""
    xp = namespace(values)
    finite = xp.isfinite(values)
    if counted is not None:
        finite &= counted
    largest, smallest = limits(values.dtype)
    lows, highs = xp.where(finite, values, largest), xp.where(finite, values, smallest)
    floats = xp.where(finite, as_float(values), 0)
    if xp is np or counted is not None:  # jet has no rule for the one loop below
        with np.errstate(over="ignore"):
            added = (
                lows.min(initial=largest),
                highs.max(initial=smallest),
                floats.sum(),
                (floats * floats).sum(),
            )
        return _merge_ranges(state, added)
    # One loop: four of them would take four times as long to compile.
    start = (largest, smallest, *[np.zeros((), floats.dtype)] * 2)
    operands = (lows, highs, floats, floats * floats)
    added = lax.reduce(operands, start, _merge_ranges, tuple(range(values.ndim)))
    return _merge_ranges(state, added)


def _merge_ranges(a: _Range, b: _Range) -> _Range:
    xp = namespace(*a, *b)
    return xp.minimum(a[0], b[0]), xp.maximum(a[1], b[1]), a[2] + b[2], a[3] + b[3]


def _range_of_finite(values: Array) -> _Range:
    """Return the result of the first pass for finite elements, in a third of its time on a CPU."""
    floats = as_float(values)
    squares = (floats * floats).sum()
    return values.min(), values.max(), floats.sum(), squares


def limits(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Return the ``low`` and the ``high`` of no element."""
    if jnp.issubdtype(dtype, jnp.floating):
        return np.asarray(np.inf, dtype), np.asarray(-np.inf, dtype)
    info = jnp.iinfo(dtype)
    return np.asarray(info.max, dtype), np.asarray(info.min, dtype)


def grid_of(low: Array, high: Array) -> tuple[Array, Array]:
    """Return the exponent of the bucket width for a range, and the number of its first bucket."""
    low, high = _bounds(low, high)
    exponent = _width_exponent(low, high)
    return exponent, _bucket_numbers(low, exponent)


def indexer(exponent: Array, first: Array) -> Callable[..., Array]:
    """Return a function from elements in a range, and a mask of those that count, to indices in ``counts``.

    Args:
        exponent: that of :func:`grid_of`.
        first: likewise.
    """

    def indices(values: Array, counted: Array | None = None) -> Array:
        xp = namespace(values, first)
        with np.errstate(invalid="ignore"):
            index = _bucket_numbers(values, exponent) - first
        # Both comparisons are false for NaN.
        negative_or_nan = xp.where(index < 0, _NEGINF, NAN)
        index = xp.where(index >= 0, xp.where(index < _POSINF, index, _POSINF), negative_or_nan)
        index = xp.where(values == 0, _ZERO, index).astype(np.int32)
        return index if counted is None else xp.where(counted, index, _IGNORED)

    return indices


def _counts(indices: Callable[..., Array], zero: Array, *arrays: Array) -> Array:
    """Return the result of the second pass: how many elements have each index, int32, as unsigned numbers.

    Args:
        indices: maps elements to indices (see :func:`indexer`).
        zero: an int32 zero that varies over the same mesh axes as the elements.
        arrays: the elements, and the mask of those that count if there is one.
    """
    xp = namespace(zero, *arrays)
    width = _IGNORED + 1

    def add_elements(counts: Array, *arrays: Array) -> Array:
        index = indices(*arrays)
        return scatter_add(counts, index, xp.ones(index.shape, np.int32))

    if arrays[0].size < _MANY or not on_cpu(zero):
        return fold(add_elements, xp.broadcast_to(zero, (width,)), *arrays)[:NUM_COUNTS]

    # The additions take most of the time. One element of each half of a piece are therefore added as a pair, to
    # a table of all pairs of indices.
    def add_pairs(table: Array, *arrays: Array) -> Array:
        index = indices(*arrays).reshape(-1)
        if index.size % 2:
            index = jnp.append(index, _IGNORED)
        # A sum over two rows: XLA would compute the sum of two slices element by element.
        rows = index.reshape(2, index.size // 2) * np.array([[width], [1]], np.int32)
        return scatter_add(table, rows.sum(0, dtype=np.int32), jnp.ones(rows.shape[1], np.int32))

    table = fold(add_pairs, jnp.broadcast_to(zero, (width * width,)), *arrays)
    table = table.reshape(width, width)
    return (table.sum(0, dtype=np.int32) + table.sum(1, dtype=np.int32))[:NUM_COUNTS]


def count_elements(values: Array, *counted: Array) -> Buckets:
    """Return the histogram of an array, or of the elements that a mask selects."""
    xp = namespace(values, *counted)
    zero_sum = xp.zeros((), as_float(values).dtype)
    start = (*limits(values.dtype), zero_sum, zero_sum)
    if counted or not values.size or not on_cpu(values):
        low, high, sum_, squares = fold(add_range, start, values, *counted)
    else:
        fast = _range_of_finite(values)
        low, high, sum_, squares = lax.cond(
            jnp.isfinite(fast[-1]), lambda: fast, lambda: fold(add_range, start, values)
        )
    # A zero that varies over the mesh axes of the elements: a loop could not carry a constant.
    zero = (low != low).astype(np.int32)  # noqa: PLR0124
    counts = _counts(indexer(*grid_of(low, high)), zero, values, *counted)
    return Buckets(low, high, counts, sum_, squares)


def count_nonfinite(buckets: Buckets) -> tuple[Array, Array]:
    """Return the numbers of NaN and of infinite elements of one or several arrays, before any merging."""
    counts = cast("Array", buckets.counts)
    return counts[..., NAN], counts[..., _POSINF] + counts[..., _NEGINF]


def as_wide_counts(counts: Array | WideInt) -> WideInt:
    """Return counts as integers in two words."""
    if isinstance(counts, WideInt):
        return counts
    return WideInt(namespace(counts).zeros_like(counts), counts)


def _regroup(counts: WideInt, places: Array) -> WideInt:
    """Return histograms with the buckets of each row added at new places, exactly.

    Args:
        counts: [N, 132], see :class:`Buckets`.
        places: int32[N, 128], the new place of each bucket.
    """
    xp = namespace(counts.low, places)
    rows = counts.low.shape[0]
    places = places + xp.arange(rows, dtype=np.int32)[:, None] * np.int32(NUM_COUNTS)

    def add(numbers: Array) -> Array:
        table = xp.zeros(rows * NUM_COUNTS, numbers.dtype)
        table = scatter_add(table, places, numbers[:, :BUCKETS]).reshape(rows, NUM_COUNTS)
        return xp.where(xp.arange(NUM_COUNTS) < BUCKETS, table, numbers)

    if xp is np:
        return WideInt.of(add(np.asarray(counts)))
    # Sums of 128 numbers of 16 bits fit in 32 bits.
    upper, lower = add(counts.low >> 16 & 0xFFFF), add(counts.low & 0xFFFF)
    carried: WideInt = jax.tree.map(
        lambda *x: xp.stack(x),
        *(WideInt(add(counts.high), lower), WideInt(upper >> 16, upper << 16)),
    )
    return carried.sum()


def merge_pair(reducer: Reducer, a: State, b: State) -> State:
    """Merge two states that hold histograms, as a reducer merges a leading axis of them."""
    xp = namespace(*jax.tree.leaves((a.value, b.value)))
    both = jax.tree.map(lambda *x: xp.stack(x), reducer.widen(a).value, reducer.widen(b).value)
    return State(reducer.collapse(State(both)).value, a.weight + b.weight)


class HistogramReducer(Reducer):
    """Count all elements of all observations in buckets."""

    name = "histogram"
    elementwise = False

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        xp = namespace(values) if weight is None else namespace(values, weight)
        if values.dtype == np.bool_ or values.dtype.itemsize < 4:
            values = floats(values)
        arrays = [values]
        if weight is not None:
            arrays.append(xp.broadcast_to(expand(is_counted(weight), values), values.shape))
        buckets = replicated(count_elements, *arrays)
        return State(buckets, 1 if weight is None else count_positive(weight))

    def merge(self, a: State, b: State) -> State:
        return merge_pair(self, a, b)

    def collapse(self, state: State) -> State:
        (lows, highs, _, sums, squares), weight = state
        xp = namespace(lows)
        low, high = lows.min(0), highs.max(0)
        bounds = _bounds(low, high)
        exponent = _width_exponent(*bounds)
        old_bounds = _bounds(lows, highs)
        old_exponents = _width_exponent(*old_bounds)
        # Each old bucket is part of one new bucket, whose number is the old one without its last bits.
        numbers = xp.arange(BUCKETS, dtype=np.int32)[None]
        numbers = _int_bucket_numbers(old_bounds[0], old_exponents)[:, None] + numbers
        coarser = xp.clip(exponent - old_exponents, 0, 31)[:, None]
        places = (numbers >> coarser) - _int_bucket_numbers(bounds[0], exponent)
        # Empty buckets may be out of bounds.
        places = xp.clip(places, 0, BUCKETS - 1)
        total = _regroup(as_wide_counts(state.value.counts), places).sum()
        merged = Buckets(low, high, total, sums.sum(0), squares.sum(0))
        return State(merged, collapsed_weight(weight, lows.shape[0]))

    def widen(self, state: State) -> State:
        buckets: Buckets = state.value
        return State(buckets._replace(counts=as_wide_counts(buckets.counts)), state.weight)

    def empty(self, like: State) -> State:
        zeros = super().empty(like)
        low, high = (jnp.asarray(x) for x in limits(like.value.low.dtype))
        return State(zeros.value._replace(low=low, high=high), zeros.weight)

    def finish(self, state: State) -> Histogram:
        low, high, all_counts, sum_, squares = map(np.asarray, self.widen(state).value)
        counts = all_counts[:BUCKETS].copy()
        posinf, zeros, nan, neginf = (int(n) for n in all_counts[BUCKETS:])
        edges = np.empty(0)
        if counts.sum() + zeros == 0:
            counts = counts[:0]
        elif low == high:
            edges, counts = np.array([low, high], np.float64), counts[:1]
            counts[0] += zeros
        else:
            exponent = _width_exponent(low, high)
            first = int(_int_bucket_numbers(low, exponent))
            last = int(_int_bucket_numbers(high, exponent))
            if zeros:
                counts[-first] += zeros
            width = np.ldexp(1.0, int(exponent))
            edges = (first + np.arange(last - first + 2)) * width
            edges[0], edges[-1] = low, high
            counts = counts[: len(edges) - 1]
            # If the largest element is on an edge, its bucket has no width.
            if edges[-2] == edges[-1]:
                edges = edges[:-1]
                counts = np.append(counts[:-2], counts[-2] + counts[-1])
        return Histogram(
            edges,
            counts,
            nan=nan,
            posinf=posinf,
            neginf=neginf,
            zeros=zeros,
            sum=float(sum_),
            sum_squares=float(squares),
        )
