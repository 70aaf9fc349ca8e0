"""Reducers of plain arrays: mean, sum, min, max, count, std, last.

A reducer works on states. A state is a pair of a value (a pytree of arrays) and a weight: how many
observations the value holds. States merge in pairs (the trips of a loop, the steps of a window) or along a
leading axis (the iterations of a scan, the devices of a mesh). The weight is a Python int if it is static,
known while tracing, which is nearly always; only masks (a branch not taken, ``where=``) make it an array.

The same code runs on the device (``jax.numpy``, traced) and on the host (NumPy).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._types import Array, PyTree

if TYPE_CHECKING:
    from typing_extensions import TypeIs


class State(NamedTuple):
    """An accumulator.

    Attributes:
        value: a pytree of arrays.
        weight: how many observations the value holds, or the sum of their weights: an int if it is static,
            else an array.
    """

    value: PyTree
    weight: Any = 1


def namespace(*arrays: object) -> ModuleType:
    """Return NumPy if all arguments are NumPy arrays or numbers, else ``jax.numpy``."""
    on_host = all(isinstance(a, np.ndarray | np.generic | int | float) for a in arrays)
    return np if on_host else jnp


def is_static(weight: Array | int) -> TypeIs[int]:
    """Return whether a weight is known while tracing."""
    return isinstance(weight, int)


def collapsed_weight(weight: Array | int, count: int) -> Array | int:
    """Return the total weight of ``count`` states that are stacked along a leading axis.

    Args:
        weight: the weight of each state if static, else an array with that axis.
        count: the length of the axis.
    """
    return weight * count if is_static(weight) else weight.sum(0)


def replicated(function: Callable[..., PyTree], *arrays: Array) -> PyTree:
    """Return ``function(*arrays)`` for arrays that may be sharded: every device gets the whole result.

    If shardings are part of array types (explicit mesh axes), every reshape, slice and scatter would need an
    output sharding. This leaves the whole function to the compiler, as with automatic axes.
    """
    if namespace(*arrays) is np:
        return function(*arrays)
    mesh = jax.typeof(arrays[0]).sharding.mesh
    kinds = zip(mesh.axis_names, mesh.axis_types or (), strict=False)
    explicit = tuple(name for name, kind in kinds if kind == jax.sharding.AxisType.Explicit)
    if not explicit:
        return function(*arrays)
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.sharding.auto_axes(function, axes=explicit, out_sharding=everywhere)(*arrays)


def expand(weight: Array, value: Array) -> Array:
    """Return a weight with axes appended until it broadcasts against a value."""
    return weight.reshape(weight.shape + (1,) * (value.ndim - weight.ndim))


def _bound(dtype: np.dtype, *, high: bool) -> float:
    """Return an upper or a lower bound of the values of a dtype."""
    if dtype == np.bool_:
        return high
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).max if high else jnp.iinfo(dtype).min
    return np.inf if high else -np.inf


def floats(values: Array) -> Array:
    """Return values as floats of at least 32 bits, to keep rounding errors of sums small."""
    if jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(np.float32) if values.dtype.itemsize < 4 else values
    return values.astype(np.float32 if values.dtype.itemsize < 8 else np.float64)


def on_cpu(*arrays: Array) -> bool:
    """Return whether operations on these arrays are compiled for a CPU."""
    return namespace(*arrays) is not np and jax.default_backend() == "cpu"


class Reducer:
    """The interface of the reducers: ``start``, ``merge``, ``collapse``, ``empty`` and ``finish``."""

    name: ClassVar[str]
    elementwise: ClassVar[bool] = True
    """True if ``merge`` on the host accepts states whose arrays all have the same extra leading axes."""

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        """Return the state of one report.

        Args:
            values: an array. Its last ``rank`` axes are one observation; the axes before them are the
                lanes of ``vmap``, each with one observation.
            weight: None, or an array over the lanes: which lanes count (bool), or their weights.
            rank: the rank of one observation.
        """
        raise NotImplementedError

    def merge(self, a: State, b: State) -> State:
        """Return the state of the observations in ``a`` followed by those in ``b``."""
        raise NotImplementedError

    def collapse(self, state: State) -> State:
        """Merge states that are stacked along a leading axis of every array."""
        raise NotImplementedError

    def empty(self, like: State) -> State:
        """Return the state of no observation, with the shapes and dtypes of ``like``."""
        value = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like.value)
        return State(value, self._no_weight(like))

    def finish(self, state: State) -> Any:
        """Return the reduced value (NumPy). It is meaningful only if the weight is above 0."""
        return state.value

    @staticmethod
    def _no_weight(like: State) -> jax.Array:
        dtype = jnp.int32 if is_static(like.weight) else like.weight.dtype
        return jnp.zeros((), dtype)


def flatten_lanes(values: Array, rank: int) -> tuple[Array, int]:
    """Flatten the lanes of a report into one axis. Return the values and the number of lanes."""
    count = math.prod(values.shape[: values.ndim - rank])
    shape = (count, *values.shape[values.ndim - rank :])
    return replicated(lambda x: x.reshape(shape), values), count


def flatten_weight(weight: Array) -> Array:
    """Flatten the weight of a report in the same way. A mask becomes int32."""
    weight = replicated(lambda x: x.reshape(-1), weight)
    return weight.astype(np.int32) if weight.dtype == np.bool_ else weight


class Total(NamedTuple):
    """A sum as two floats, ``high + low``, with twice the digits of one.

    A single float32 that adds 0.1 a million times is off by a hundredth.
    """

    high: Array
    low: Array


class IntTotal(Total):
    """A sum of integers: exact up to 2**48, where an int32 would overflow at 2**31."""


def _add(a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``a + b`` and its rounding error (Knuth, TAOCP 2, section 4.2.2, theorem B)."""
    xp = namespace(a, b)
    with np.errstate(invalid="ignore"):
        total = a + b
        part = total - a
        rest = (a - (total - part)) + (b - part)
    # The differences are NaN if the sum is infinite.
    return total, xp.where(xp.isfinite(total), rest, 0)


def _as_totals(values: Array) -> Total:
    """Return each value as a sum of one term."""
    dtype = values.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        values = floats(values)
        return Total(values, namespace(values).zeros_like(values))
    if dtype == np.bool_ or dtype.itemsize < 4:
        values = floats(values)
        return IntTotal(values, namespace(values).zeros_like(values))
    # A float32 does not hold every int32, but it holds each half of the bits exactly.
    half = dtype.itemsize * 4
    upper, lower = floats(values >> half), floats(values & (2**half - 1))
    return IntTotal(*_add(upper * 2.0**half, lower))


class _Summing(Reducer):
    """Base class of reducers whose value is a weighted sum of the observations."""

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(_as_totals(values), 1)
        values, _ = flatten_lanes(values, rank)
        total = _as_totals(values)
        if weight is None:
            return self.collapse(State(total, 1))
        weight = flatten_weight(weight)
        kind = type(total) if jnp.issubdtype(weight.dtype, jnp.integer) else Total
        xp = namespace(values, weight)
        factor = expand(weight, values).astype(total.high.dtype)
        # where() in addition to the product: 0 * nan is nan.
        parts = [xp.where(factor > 0, part * factor, 0) for part in total]
        return self.collapse(State(kind(*parts), xp.where(weight > 0, weight, 0)))

    def merge(self, a: State, b: State) -> State:
        is_integer = isinstance(a.value, IntTotal) and isinstance(b.value, IntTotal)
        high, rest = _add(a.value.high, b.value.high)
        total = _add(high, rest + (a.value.low + b.value.low))
        return State((IntTotal if is_integer else Total)(*total), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        (high, low), weight = state
        total = type(state.value)(*_add(high.sum(0), low.sum(0)))
        return State(total, collapsed_weight(weight, high.shape[0]))


class Mean(_Summing):
    """The weighted mean, carried as the sum and the weight."""

    name = "mean"

    def finish(self, state: State) -> Any:
        (high, low), weight = state
        if is_static(weight) and weight == 1 and not isinstance(state.value, IntTotal):
            return high
        weight = expand(np.asarray(weight, np.float64), high)
        mean = (np.asarray(high, np.float64) + low) / np.where(weight > 0, weight, 1)
        return mean.astype(high.dtype)


class Sum(_Summing):
    """The weighted sum: int64 for integers, else a float."""

    name = "sum"

    def finish(self, state: State) -> Any:
        high, low = state.value
        if isinstance(state.value, IntTotal):
            return high.astype(np.int64) + low.astype(np.int64)
        return high + low


class Count(Reducer):
    """The number of observations."""

    name = "count"

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None:
            count = math.prod(values.shape[: values.ndim - rank])
            return State(namespace(values).asarray(count, np.int32), count)
        positive = (flatten_weight(weight) > 0).astype(np.int32).sum()
        return State(positive, positive)

    def merge(self, a: State, b: State) -> State:
        return State(a.value + b.value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        return State(value.sum(0), collapsed_weight(weight, value.shape[0]))


class _Extreme(Reducer):
    """Base class of the smallest and the largest observation."""

    starts_high: ClassVar[bool]

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(values, 1)
        values, count = flatten_lanes(values, rank)
        if weight is None:
            return State(self._extreme(values), count)
        weight = flatten_weight(weight)
        neutral = _bound(values.dtype, high=self.starts_high)
        xp = namespace(values, weight)
        values = xp.where(expand(weight > 0, values), values, xp.asarray(neutral, values.dtype))
        return State(self._extreme(values), (weight > 0).astype(np.int32).sum(0))

    def merge(self, a: State, b: State) -> State:
        xp = namespace(a.value, b.value)
        pick = xp.minimum if self.starts_high else xp.maximum
        return State(pick(a.value, b.value), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        return State(self._extreme(value), collapsed_weight(weight, value.shape[0]))

    def empty(self, like: State) -> State:
        neutral = _bound(like.value.dtype, high=self.starts_high)
        return State(jnp.full(like.value.shape, neutral, like.value.dtype), self._no_weight(like))

    def _extreme(self, values: Array) -> Array:
        return values.min(0) if self.starts_high else values.max(0)


class Min(_Extreme):
    """The smallest observation; NaN if one is NaN."""

    name = "min"
    starts_high = True


class Max(_Extreme):
    """The largest observation; NaN if one is NaN."""

    name = "max"
    starts_high = False


class Last(Reducer):
    """The last observation."""

    name = "last"

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(values, 1)
        values, _ = flatten_lanes(values, rank)
        if weight is None:
            return State(values[-1], 1)
        return self.collapse(State(values, (flatten_weight(weight) > 0).astype(np.int32)))

    def merge(self, a: State, b: State) -> State:
        if is_static(b.weight):
            return b
        xp = namespace(a.value, b.value, b.weight)
        has_value = b.weight > 0
        value = jax.tree.map(lambda x, y: xp.where(expand(has_value, y), y, x), a.value, b.value)
        return State(value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        if is_static(weight):
            return State(jax.tree.map(lambda x: x[-1], value), weight)
        xp = namespace(weight)
        # argmax finds the first index with a weight; the reversed array gives the last.
        index = weight.shape[0] - 1 - xp.argmax(weight[::-1] > 0)
        return State(jax.tree.map(lambda x: x[index], value), weight.sum(0))


class Std(Reducer):
    """The standard deviation of the observations, of the population (divided by n).

    The state holds the mean and the sum of squared deviations, merged as in Chan, Golub and LeVeque, "Updating
    formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    name = "std"

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        values, _ = flatten_lanes(floats(values), rank)
        xp = namespace(values)
        zeros = xp.zeros_like(values)
        if weight is None:
            return self.collapse(State((values, zeros), 1))
        weight = flatten_weight(weight)
        # This drops NaN too, which is not above 0.
        positive = xp.where(weight > 0, weight, xp.zeros_like(weight))
        return self.collapse(State((values, zeros), positive))

    def merge(self, a: State, b: State) -> State:
        pair = jax.tree.map(lambda x, y: namespace(x, y).stack([x, y]), a.value, b.value)
        if is_static(a.weight) and is_static(b.weight) and a.weight == b.weight:
            return self.collapse(State(pair, a.weight))
        xp = namespace(*pair)
        weights = [xp.asarray(w) for w in (a.weight, b.weight)]
        dtype = xp.result_type(*weights)
        return self.collapse(State(pair, xp.stack([w.astype(dtype) for w in weights])))

    def collapse(self, state: State) -> State:
        (mean, squares), weight = state
        if is_static(weight):
            overall = mean.mean(0)
            squares = (squares + weight * (mean - overall) ** 2).sum(0)
            return State((overall, squares), weight * mean.shape[0])
        xp = namespace(mean, weight)
        factor = expand(weight, mean).astype(mean.dtype)
        mean = xp.where(factor > 0, mean, 0)
        squares = xp.where(factor > 0, squares, 0)
        total_weight = factor.sum(0)
        overall = (mean * factor).sum(0) / xp.where(total_weight > 0, total_weight, 1)
        squares = (squares + factor * (mean - overall) ** 2).sum(0)
        return State((overall, squares), weight.sum(0))

    def finish(self, state: State) -> Any:
        (_, squares), weight = state
        weight = expand(np.asarray(weight), squares).astype(squares.dtype)
        return np.sqrt(squares / np.where(weight > 0, weight, 1))


_ALL = (Mean(), Sum(), Min(), Max(), Count(), Std(), Last())
REDUCTIONS: dict[str, Reducer] = {reducer.name: reducer for reducer in _ALL}
"""The reducers that ``reduce=`` names, except ``"stack"``."""
