"""Histograms made on the device, which merge exactly.

A kilobyte leaves the device instead of the array. All histograms share one grid: buckets are a power of
two wide, and begin at multiples of their width. Each histogram takes the smallest width for which at
most 128 buckets reach from its smallest to its largest element, so 65 or more of them are in use.
A bucket of twice the width is just two of the narrower ones. Hence histograms merge without loss: each is
made as coarse as the common range asks for, then counts are added. In whatever order, the result
is to the last count the histogram of all elements at once.

Logarithmic buckets would merge too, but tell nothing where the spread is small beside the mean (scales
of a norm, near 1), where these have the resolution of the range that there is.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.pieces import fold
from jaxboard._reduce.reducers import (
    Reducer,
    State,
    expand,
    is_static,
    namespace,
    on_cpu,
    replicated,
)
from jaxboard.records import Histogram

BUCKETS = 128

_BITS = 30
"""How much finer a bucket may be than the largest magnitude: the numbers of buckets fit an int32."""


class Buckets(NamedTuple):
    """The value of a histogram's state.

    Attributes:
        low: the smallest finite element; the highest value of its dtype if there is none.
        high: the largest finite element; the lowest value if there is none.
        counts: int32[132]: from the bucket that ``low`` lies in upwards, without zeros; then how
            many elements are +inf, zero, NaN and -inf.
        sum: the sum of the finite elements.
        squares: the sum of their squares.
    """

    low: Any
    high: Any
    counts: Any
    sum: Any
    squares: Any


_ABOVE, _ZERO, _NAN, _BELOW, _SIZE = range(BUCKETS, BUCKETS + 5)
"""Places in ``counts``, and how many there are."""

_NOWHERE = _SIZE
"""The place of what is not counted."""

_MANY = 1 << 16
"""From so many elements on it is worth making a table of pairs, on a CPU."""


# ---------------------------------------------------------------- the grid that histograms share


def _float(x: Any) -> Any:
    """An integer bound as a float; rounding keeps the order."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return x
    return x.astype(np.float32 if x.dtype.itemsize < 8 else np.float64)


def _above(x: Any) -> Any:
    """The exponent of the smallest power of two above a finite x >= 0; low enough for the smallest x."""
    if namespace(x) is np:
        return np.frexp(x)[1]
    # A tenth of the operations of `jnp.frexp`, which a program has for each histogram in it.
    info = jnp.finfo(x.dtype)
    bits = lax.bitcast_convert_type(x, f"int{info.bits}")
    return (bits >> info.nmant).astype(np.int32) + info.minexp


def _power(exponent: Any, dtype: Any) -> Any:
    """Two to an exponent, which must be that of a normal number."""
    info = jnp.finfo(dtype)
    if namespace(exponent) is np:
        return np.ldexp(np.ones((), dtype), exponent)
    bits = (exponent + (1 - info.minexp)).astype(f"int{info.bits}") << info.nmant
    return lax.bitcast_convert_type(bits, dtype)


def _exponent(low: Any, high: Any) -> Any:
    """The width of the buckets for a range, as a power of two. A range within another has no larger one."""
    xp = namespace(low, high)
    first, last = _float(low), _float(high)
    half = last / 2 - first / 2  # the whole may be infinite
    # Two to the minus exponent has to be a number too.
    finest = xp.maximum(
        _above(xp.maximum(xp.abs(first), xp.abs(last))) - _BITS, jnp.finfo(first.dtype).minexp + 8
    )
    wide = _above(half) + 1 - (BUCKETS.bit_length() - 1)
    exponent = xp.maximum(xp.where(half > 0, wide, finest), finest).astype(np.int32)
    fits = _grid(high, exponent) - _grid(low, exponent) < BUCKETS
    return xp.where(fits, exponent, exponent + 1)


def _grid(x: Any, exponent: Any) -> Any:
    """Which bucket of the grid each x lies in, counted from zero, in the dtype of x. Exact."""
    xp = namespace(x, exponent)
    if jnp.issubdtype(x.dtype, jnp.floating):
        scaled = x * _power(-exponent, x.dtype)
        # What is too small to be scaled still lies on its side of zero.
        return xp.floor(xp.where((x < 0) & (scaled == 0), -1, scaled))
    up, down = (xp.maximum(e, 0).astype(x.dtype) for e in (exponent, -exponent))
    return (x >> up) << down


def _place(x: Any, exponent: Any) -> Any:
    """As _grid, of finite x: int32."""
    return _grid(x, exponent).astype(np.int32)


def _bounds(low: Any, high: Any) -> tuple[Any, Any]:
    """A range as it is, and that of no element as a point."""
    xp = namespace(low, high)
    return xp.where(low <= high, low, 0), xp.where(low <= high, high, 0)


# ---------------------------------------------------------------- one pass over the elements


def _scatter_add(counts: Any, places: Any, numbers: Any) -> Any:
    """Adds numbers to the counts at places, all of which exist."""
    if namespace(counts, places) is np:
        added = np.bincount(places.reshape(-1), numbers.reshape(-1), len(counts))
        return counts + added.astype(np.int32)
    # Not `counts.at[places].add`: it would look at each place for whether it is negative.
    dimensions = lax.ScatterDimensionNumbers((), (0,), (0,))
    return lax.scatter_add(counts, places[..., None], numbers, dimensions, mode="promise_in_bounds")


def _range(state: Any, values: Any, counted: Any = None) -> Any:
    """A step of the first pass: smallest, largest, sum and sum of squares of what is finite."""
    low, high, sum_, squares = state
    xp = namespace(values)
    finite = xp.isfinite(values)
    if counted is not None:
        finite &= counted
    largest, smallest = _limits(values.dtype)
    low = xp.minimum(low, xp.min(xp.where(finite, values, largest), initial=largest))
    high = xp.maximum(high, xp.max(xp.where(finite, values, smallest), initial=smallest))
    floats = xp.where(finite, _float(values), 0)
    with np.errstate(over="ignore"):
        return low, high, sum_ + floats.sum(), squares + (floats * floats).sum()


def _range_of_finite(values: Any) -> Any:
    """What the first pass finds where all elements are finite, in a third of its time on a CPU."""
    floats = _float(values)
    squares = (floats * floats).sum()
    return values.min(), values.max(), floats.sum(), squares


def _limits(dtype: Any) -> tuple[Any, Any]:
    if jnp.issubdtype(dtype, jnp.floating):
        return np.asarray(np.inf, dtype), np.asarray(-np.inf, dtype)
    info = jnp.iinfo(dtype)
    return np.asarray(info.max, dtype), np.asarray(info.min, dtype)


def _placing(low: Any, high: Any) -> Callable[..., Any]:
    """For a range: a function of elements, and of which are counted, to the places where they are counted."""
    low, high = _bounds(low, high)
    exponent = _exponent(low, high)
    first = _grid(low, exponent)

    def places(values: Any, counted: Any = None) -> Any:
        xp = namespace(values, first)
        with np.errstate(invalid="ignore"):
            place = _grid(values, exponent) - first
        # Of NaN, both comparisons are false.
        odd = xp.where(place < 0, _BELOW, _NAN)
        place = xp.where(place >= 0, xp.where(place < _ABOVE, place, _ABOVE), odd)
        place = xp.where(values == 0, _ZERO, place).astype(np.int32)
        return place if counted is None else xp.where(counted, place, _NOWHERE)

    return places


def _counts(places: Callable[..., Any], none: Any, *arrays: Any) -> Any:
    """The second pass: how many elements have each place, ``none`` being a zero of the right type."""
    xp = namespace(none, *arrays)
    sides = _NOWHERE + 1

    def one_by_one(counts: Any, *arrays: Any) -> Any:
        place = places(*arrays)
        return _scatter_add(counts, place, xp.ones(place.shape, np.int32))

    if arrays[0].size < _MANY or not on_cpu(none):
        return fold(one_by_one, xp.broadcast_to(none, (sides,)), *arrays)[:_SIZE]

    # Adding is what takes long. So an element and one of the other half of the piece are a pair, which has a
    # place in a table.
    def in_pairs(table: Any, *arrays: Any) -> Any:
        place = places(*arrays).reshape(-1)
        if place.size % 2:
            place = jnp.append(place, _NOWHERE)
        # Two slices, rather than a sum over two rows, XLA would compute an element at a time.
        rows = place.reshape(2, place.size // 2) * np.array([[sides], [1]], np.int32)
        return _scatter_add(table, rows.sum(0, dtype=np.int32), jnp.ones(rows.shape[1], np.int32))

    table = fold(in_pairs, jnp.broadcast_to(none, (sides * sides,)), *arrays)
    table = table.reshape(sides, sides)
    return (table.sum(0, dtype=np.int32) + table.sum(1, dtype=np.int32))[:_SIZE]


def _buckets(values: Any, *counted: Any) -> Buckets:
    """The histogram of an array, or of those of its elements that are counted."""
    xp = namespace(values, *counted)
    zero = xp.zeros((), _float(values).dtype)
    start = (*_limits(values.dtype), zero, zero)
    look = functools.partial(fold, _range, start, values, *counted)
    if counted or not values.size or not on_cpu(values):
        low, high, sum_, squares = look()
    else:
        found = _range_of_finite(values)
        low, high, sum_, squares = lax.cond(jnp.isfinite(found[-1]), lambda: found, look)
    # Zero, that varies over the axes of a mesh as the elements do; else it couldn't go through a loop.
    none = (low != low).astype(np.int32)  # noqa: PLR0124
    counts = _counts(_placing(low, high), none, values, *counted)
    return Buckets(low, high, counts, sum_, squares)


class HistogramReducer(Reducer):
    """The distribution of all elements of all observations."""

    name = "histogram"
    elementwise = False

    def start(self, values: Any, weight: Any, rank: int) -> State:
        xp = namespace(values) if weight is None else namespace(values, weight)
        if values.dtype == np.bool_ or values.dtype.itemsize < 4:
            values = values.astype(np.float32)
        arrays = [values]
        if weight is not None:
            arrays.append(xp.broadcast_to(expand(weight > 0, values), values.shape))
        buckets = replicated(_buckets, *arrays)
        lanes = 1 if weight is None else (weight > 0).astype(np.int32).sum()
        return State(buckets, lanes)

    def merge(self, a: State, b: State) -> State:
        xp = namespace(a.value.counts, b.value.counts)
        both = Buckets(*(xp.stack([x, y]) for x, y in zip(a.value, b.value, strict=True)))
        return State(self.collapse(State(both)).value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        (lows, highs, counts, sums, squares), weight = state
        xp = namespace(counts)
        low, high = lows.min(0), highs.max(0)
        bounds = _bounds(low, high)
        exponent = _exponent(*bounds)
        # Each old bucket lies in one new one: its number, less its last bits.
        before = _exponent(*_bounds(lows, highs))
        numbers = xp.arange(BUCKETS, dtype=np.int32)[None]
        numbers = _place(_bounds(lows, highs)[0], before)[:, None] + numbers
        coarser = xp.clip(exponent - before, 0, 31)[:, None]
        places = (numbers >> coarser) - _place(bounds[0], exponent)
        # Buckets without an element may lie anywhere.
        places = xp.clip(places, 0, BUCKETS - 1)
        merged = _scatter_add(xp.zeros(_SIZE, np.int32), places, counts[:, :BUCKETS])
        beside = xp.where(xp.arange(_SIZE) < BUCKETS, 0, counts.sum(0, dtype=np.int32))
        weight = weight * lows.shape[0] if is_static(weight) else weight.sum(0)
        total = Buckets(low, high, merged + beside, sums.sum(0), squares.sum(0))
        return State(total, weight)

    def empty(self, like: State) -> State:
        nothing = super().empty(like)
        low, high = (jnp.asarray(x) for x in _limits(like.value.low.dtype))
        return State(nothing.value._replace(low=low, high=high), nothing.weight)

    def finish(self, state: State) -> Histogram:
        value = Buckets(*(np.asarray(x) for x in state.value))
        counts = value.counts[:BUCKETS].astype(np.int64)
        above, zeros, nans, below = (int(n) for n in value.counts[BUCKETS:])
        edges = np.empty(0)
        if counts.sum() + zeros == 0:
            counts = counts[:0]
        elif value.low == value.high:
            edges, counts = np.array([value.low, value.high], np.float64), counts[:1]
            counts[0] += zeros
        else:
            exponent = _exponent(value.low, value.high)
            first, last = _place(value.low, exponent), _place(value.high, exponent)
            if zeros:
                counts[-first] += zeros
            width = np.ldexp(1.0, exponent)
            edges = (first + np.arange(last - first + 2)) * width
            edges[0], edges[-1] = value.low, value.high
            counts = counts[: len(edges) - 1]
            if (
                edges[-2] == edges[-1]
            ):  # the largest element lies on an edge: its bucket has no width
                edges = edges[:-1]
                counts = np.append(counts[:-2], counts[-2] + counts[-1])
        return Histogram(
            edges,
            counts,
            nan=nans,
            posinf=above,
            neginf=below,
            zeros=zeros,
            sum=float(value.sum),
            sum_squares=float(value.squares),
        )
