"""Histograms with buckets that the user chooses: their edges, or their number.

Given edges are the same for all observations, so counts add up. A given number of buckets of equal width, from the smallest
to the largest element, is counted for one array exactly. Arrays with another range are counted on the grid of
:mod:`jaxboard._reduce.histogram` as well, which merges exactly; only then are counts estimated from that grid.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple, cast

import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.histogram import (
    Buckets,
    HistogramReducer,
    as_float,
    as_wide_counts,
    count_elements,
    limits,
    merge_pair,
    scatter_add,
)
from jaxboard._reduce.pieces import fold
from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    count_positive,
    expand,
    is_counted,
    replicated,
)
from jaxboard._reduce.wide import WideInt, floats, namespace
from jaxboard._types import Array, PyTree
from jaxboard.records import Histogram

_ABOVE, _NAN, _POSINF, _NEGINF, _ZERO, _IGNORED = range(6)
"""The places behind the buckets in the counts of given edges; the last one is not kept."""


class BinCounts(NamedTuple):
    """The value of the state for given edges.

    Attributes:
        counts: [k + 6]: int32, as unsigned numbers, of one array; integers in two words after merging. The first is the
            number of elements below the buckets, followed by the counts of the k buckets and the numbers of elements
            that are above, NaN, +inf, -inf and zero.
        sum: the sum of the finite elements.
        squares: the sum of their squares.
    """

    counts: Array | WideInt
    sum: Array
    squares: Array


class EqualBins(NamedTuple):
    """The value of the state for a number of buckets.

    Attributes:
        grid: the histogram of all elements on the grid that merges.
        counts: [n]: int32, as unsigned numbers, or integers in two words: the elements in each bucket, of those arrays that
            have the range of all elements.
        edges: [n + 1], floats, the edges of the buckets.
    """

    grid: Buckets
    counts: Array | WideInt
    edges: Array


def _started(
    count: Callable[..., PyTree], values: Array, weight: Array | None
) -> tuple[PyTree, WideInt | int]:
    """Return ``count(values)`` or ``count(values, counted)`` for the elements of a report, and its weight."""
    xp = namespace(values) if weight is None else namespace(values, weight)
    if values.dtype == np.bool_ or values.dtype.itemsize < 4:
        values = floats(values)
    if weight is None:
        return replicated(count, values), 1
    counted = xp.broadcast_to(expand(is_counted(weight), values), values.shape)
    return replicated(count, values, counted), count_positive(weight)


def _search(edges: Array, values: Array) -> Array:
    """Return how many of the edges are not above each value, int32."""
    if namespace(edges, values) is np:
        return np.searchsorted(edges, values, side="right").astype(np.int32)
    return jnp.searchsorted(jnp.asarray(edges), values, side="right", method="scan_unrolled")


def _thresholds(edges: tuple[float, ...], dtype: np.dtype) -> np.ndarray:
    """Return the smallest number of a dtype that is in each bucket, and the smallest one above the last bucket.

    Comparing elements with these numbers is exact, also where the dtype cannot hold an edge. Numbers that no element
    reaches are left out.
    """
    if jnp.issubdtype(dtype, jnp.floating):
        exact = np.array(edges)
        with np.errstate(over="ignore"):
            near = exact.astype(dtype)
        is_low = near < exact
        is_low[-1] = near[-1] <= exact[-1]
        return np.where(is_low, np.nextafter(near, dtype.type(np.inf)), near)
    info = jnp.iinfo(dtype)
    numbers = [*map(math.ceil, edges[:-1]), math.floor(edges[-1]) + 1]
    return np.array([max(n, info.min) for n in numbers if n <= info.max], dtype)


class FixedBinsReducer(Reducer):
    """Count all elements of all observations between given edges.

    Args:
        edges: k + 1 finite numbers in ascending order.
    """

    name = "fixed_bins"
    elementwise = False

    def __init__(self, edges: tuple[float, ...]):
        self.edges = edges

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        return State(*_started(self._count, values, weight))

    def _count(self, values: Array, *counted: Array) -> BinCounts:
        xp = namespace(values, *counted)
        thresholds = _thresholds(self.edges, values.dtype)
        behind = len(self.edges)

        def add(state: BinCounts, values: Array, *counted: Array) -> BinCounts:
            place = _search(thresholds, values)
            infinite = xp.where(values > 0, np.int32(behind + _POSINF), np.int32(behind + _NEGINF))
            odd = xp.where(xp.isnan(values), np.int32(behind + _NAN), infinite)
            finite, is_zero = xp.isfinite(values), values == 0
            place = xp.where(finite, place, odd)
            if counted:
                place = xp.where(counted[0], place, np.int32(behind + _IGNORED))
                finite, is_zero = finite & counted[0], is_zero & counted[0]
            counts = scatter_add(cast("Array", state.counts), place, xp.ones(place.shape, np.int32))
            zeros = is_zero.astype(np.int32).sum(dtype=np.int32)
            is_place = xp.arange(len(counts), dtype=np.int32) == behind + _ZERO
            numbers = xp.where(finite, as_float(values), 0)
            with np.errstate(over="ignore"):
                squares = state.squares + (numbers * numbers).sum()
            return BinCounts(
                counts + xp.where(is_place, zeros, 0), state.sum + numbers.sum(), squares
            )

        zero = xp.zeros((), as_float(values).dtype)
        counts = xp.zeros(behind + _IGNORED + 1, np.int32)
        state = fold(add, BinCounts(counts, zero, zero), values, *counted)
        return state._replace(counts=cast("Array", state.counts)[:-1])

    def merge(self, a: State, b: State) -> State:
        return merge_pair(self, a, b)

    def collapse(self, state: State) -> State:
        counts, sums, squares = state.value
        total = as_wide_counts(counts).sum()
        merged = BinCounts(total, sums.sum(0), squares.sum(0))
        return State(merged, collapsed_weight(state.weight, sums.shape[0]))

    def widen(self, state: State) -> State:
        counts: BinCounts = state.value
        return State(counts._replace(counts=as_wide_counts(counts.counts)), state.weight)

    def finish(self, state: State) -> Histogram:
        counts, sum_, squares = map(np.asarray, self.widen(state).value)
        size = len(self.edges)
        above, nan, posinf, neginf, zeros = counts[size:].tolist()
        return Histogram(
            np.array(self.edges),
            counts[1:size],
            nan=nan,
            posinf=posinf,
            neginf=neginf,
            zeros=zeros,
            sum=float(sum_),
            sum_squares=float(squares),
            outside=int(counts[0]) + above,
        )


class EqualBinsReducer(Reducer):
    """Count all elements of all observations in buckets of equal width, from the smallest to the largest element.

    Args:
        number: how many buckets.
    """

    name = "equal_bins"
    elementwise = False

    def __init__(self, number: int):
        self.number = number
        self._grid = HistogramReducer()

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        return State(*_started(self._count, values, weight))

    def _count(self, values: Array, *counted: Array) -> EqualBins:
        xp = namespace(values, *counted)
        grid = count_elements(values, *counted)
        low, high = (as_float(xp.where(grid.low <= grid.high, x, 0)) for x in (grid.low, grid.high))
        part = (np.arange(self.number + 1) / self.number).astype(low.dtype)
        edges = low * (1 - part) + high * part
        inner = edges[1:-1]

        def add(counts: Array, values: Array, *counted: Array) -> Array:
            place = _search(inner, as_float(values))
            is_used = xp.isfinite(values)
            if counted:
                is_used = is_used & counted[0]
            place = xp.where(is_used, place, np.int32(self.number))
            return scatter_add(counts, place, xp.ones(place.shape, np.int32))

        # Zeros that vary over the mesh axes of the elements: a loop could not carry constants.
        zeros = xp.zeros(self.number + 1, np.int32) + (low != low).astype(np.int32)  # noqa: PLR0124
        return EqualBins(grid, fold(add, zeros, values, *counted)[:-1], edges)

    def merge(self, a: State, b: State) -> State:
        return merge_pair(self, a, b)

    def collapse(self, state: State) -> State:
        grid, counts, edges = state.value
        merged = self._grid.collapse(State(grid, state.weight))
        total: Buckets = merged.value
        xp = namespace(edges)
        is_whole = (grid.low == total.low) & (grid.high == total.high)
        wide = as_wide_counts(counts)
        kept = WideInt(*(xp.where(is_whole[:, None], x, 0) for x in (wide.high, wide.low)))
        # Arrays of one range have the same edges.
        shared = xp.where(is_whole[:, None], edges, -np.inf).max(0)
        shared = xp.where(is_whole.any(), shared, 0)
        return State(EqualBins(total, kept.sum(), shared), merged.weight)

    def widen(self, state: State) -> State:
        grid, counts, edges = state.value
        grid = self._grid.widen(State(grid)).value
        return State(EqualBins(grid, as_wide_counts(counts), edges), state.weight)

    def empty(self, like: State) -> State:
        zeros = super().empty(like)
        low, high = (jnp.asarray(x) for x in limits(like.value.grid.low.dtype))
        grid = zeros.value.grid._replace(low=low, high=high)
        return State(zeros.value._replace(grid=grid), zeros.weight)

    def finish(self, state: State) -> Histogram:
        grid, counts, edges = self.widen(state).value
        counts, edges = np.asarray(counts), np.asarray(edges, np.float64)
        exact = self._grid.finish(State(grid, state.weight))
        total = exact.counts.sum()
        if not total:
            return exact
        low, high = exact.edges[[0, -1]]
        if low == high:  # as in numpy.histogram
            edges = np.linspace(low - 0.5, low + 0.5, self.number + 1)
            counts = np.where(np.arange(self.number) == self.number // 2, total, 0)
        elif counts.sum() != total:
            below = np.concatenate([[0], exact.counts.cumsum()])
            edges = np.linspace(low, high, self.number + 1)
            counts = np.diff(np.rint(np.interp(edges, exact.edges, below)).astype(np.int64))
        return dataclasses.replace(exact, edges=edges, counts=counts)


@functools.cache
def bins_reducer(bins: int | tuple[float, ...]) -> Reducer:
    """Return the reducer for a number of buckets, or for their edges."""
    return EqualBinsReducer(bins) if isinstance(bins, int) else FixedBinsReducer(bins)
