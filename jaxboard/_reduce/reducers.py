"""Reducers of plain arrays: mean, sum, min, max, count, std, last. They work on the device, traced, and on the host (NumPy).

A reducer works on states. A state is a pair of a value (a pytree of arrays) and a weight: how many
observations the value holds. States merge in pairs (the iterations of a while loop, the steps of a window) or along a
leading axis (the iterations of a scan, the devices of a mesh). The weight is a Python int if it is static,
known while tracing, which is nearly always; only masks (a branch not taken, ``where=``) and ``weight=`` make it
a number in two words (``wide.py``), which does not overflow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._reduce.wide import Wide, WideFloat, WideInt, as_wide, floats, namespace
from jaxboard._types import Array, PyTree

if TYPE_CHECKING:
    from typing_extensions import TypeIs


class State(NamedTuple):
    """An accumulator.

    Attributes:
        value: a pytree of arrays.
        weight: how many observations the value holds, or the sum of their weights: an int if it is static,
            else a number in two words.
    """

    value: PyTree
    weight: Any = 1


def is_static(weight: Wide | int) -> TypeIs[int]:
    """Return whether a weight is known while tracing."""
    return isinstance(weight, int)


def collapsed_weight(weight: Wide | int, count: int) -> Wide | int:
    """Return the total weight of ``count`` states that are stacked along a leading axis.

    Args:
        weight: the weight of each state if static, else numbers with that axis.
        count: the length of the axis.
    """
    return weight * count if is_static(weight) else weight.sum()


def is_positive(weight: Wide | int) -> Array | bool:
    """Return whether a state has any observation that counts."""
    return weight > 0 if is_static(weight) else weight.is_positive()


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


def at_least_32_bits(values: Array) -> Array:
    """Return values in a dtype that every reduction supports: floats and integers of at least 32 bits."""
    if jnp.issubdtype(values.dtype, jnp.floating):
        return floats(values)
    narrow = values.dtype != np.bool_ and values.dtype.itemsize < 4
    return values.astype(np.int32) if narrow else values


def on_cpu(*arrays: Array) -> bool:
    """Return whether operations on these arrays are compiled for a CPU."""
    return namespace(*arrays) is not np and jax.default_backend() == "cpu"


class Reducer:
    """The interface of the reducers: ``start``, ``merge``, ``collapse``, ``collapse_lanes``, ``widen``, ``empty``, ``finish``."""

    name: ClassVar[str]
    elementwise: bool = True
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

    def collapse_lanes(self, state: State) -> State:
        """Merge like :meth:`collapse` if the axis is that of lanes or devices, of which none is the last."""
        return self.collapse(state)

    def widen(self, state: State) -> State:
        """Return the state in the form that ``merge`` returns."""
        return state

    def empty(self, like: State) -> State:
        """Return the state of no observation, with the shapes and dtypes of ``like``."""
        value = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like.value)
        return State(value, self._no_weight(like))

    def finish(self, state: State) -> Any:
        """Return the reduced value (NumPy). It is meaningful only if the weight is above 0."""
        return state.value

    @staticmethod
    def _no_weight(like: State) -> Wide:
        if is_static(like.weight):
            return WideInt(jnp.zeros((), np.int32), jnp.zeros((), np.int32))
        return jax.tree.map(lambda x: jnp.zeros((), x.dtype), like.weight)


def flatten_lanes(values: Array, rank: int) -> tuple[Array, int]:
    """Flatten the lanes of a report into one axis. Return the values and the number of lanes."""
    count = math.prod(values.shape[: values.ndim - rank])
    shape = (count, *values.shape[values.ndim - rank :])
    return replicated(lambda x: x.reshape(shape), values), count


def flatten_weight(weight: Array) -> Array:
    """Flatten the weight of a report in the same way. Only weights above zero remain, not NaN either."""
    weight = replicated(lambda x: x.reshape(-1), weight)
    if weight.dtype == np.bool_:
        return weight.astype(np.int32)
    weight = at_least_32_bits(weight)
    return namespace(weight).where(weight > 0, weight, weight.dtype.type(0))


def is_counted(weight: Array) -> Array:
    """Return which observations count: those with a weight above zero, or a mask as it is."""
    return weight if weight.dtype == np.bool_ else at_least_32_bits(weight) > 0


def count_positive(weight: Array) -> WideInt:
    """Return how many observations count."""
    return WideInt.of(is_counted(weight).astype(np.int32).sum(dtype=np.int32))


class _Summing(Reducer):
    """Base class of weighted sums: in two words, or one array of floats as long as the second word would be zero."""

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(_unmerged(values), 1)
        values, _ = flatten_lanes(at_least_32_bits(values), rank)
        if weight is None:
            return self.collapse(State(_unmerged(values), 1))
        is_mask = weight.dtype == np.bool_
        weight = flatten_weight(weight)
        xp = namespace(values, weight)
        # where() in addition to the product: 0 * nan is nan.
        values = xp.where(expand(weight > 0, values), values, values.dtype.type(0))
        total, factor = as_wide(values), as_wide(weight)
        if not is_mask:
            factors = jax.tree.map(lambda x: expand(x, values), factor)
            total = product(total, factors)
        return State(total.sum(), factor.sum())

    def merge(self, a: State, b: State) -> State:
        return State(self.widen(a).value + self.widen(b).value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        total = value.sum() if isinstance(value, Wide) else value.sum(0)
        return State(total, collapsed_weight(weight, jax.tree.leaves(value)[0].shape[0]))

    def widen(self, state: State) -> State:
        value, weight = state
        return State(value if isinstance(value, Wide) else as_wide(value), weight)


def _unmerged(values: Array) -> PyTree:
    """Return the sum of one observation: an array of floats, or a number in two words."""
    return floats(values) if jnp.issubdtype(values.dtype, jnp.floating) else as_wide(values)


def product(a: Wide, b: Wide) -> Wide:
    """Return the product, an integer if both factors are integers."""
    if isinstance(a, WideInt) and isinstance(b, WideInt):
        return a * b
    wide = [x.high.dtype for x in (a, b) if isinstance(x, WideFloat)]
    dtype = max(wide, key=lambda dtype: dtype.itemsize)
    return a.as_float(dtype) * b.as_float(dtype)


class Mean(_Summing):
    """The weighted mean, carried as the sum and the weight."""

    name = "mean"

    def finish(self, state: State) -> Any:
        total, weight = self.widen(state)
        if isinstance(total, WideInt):
            return np.asarray(total) / _divisor(weight, total.high)
        if is_static(weight) and weight == 1:
            return total.high
        mean = np.asarray(total) / _divisor(weight, total.high)
        return mean.astype(total.high.dtype)


def _divisor(weight: Wide | int, value: Array) -> np.ndarray:
    """Return a weight as float64, and 1 where there is none."""
    divisor = expand(np.asarray(weight, np.float64), value)
    return np.where(divisor > 0, divisor, 1)


class Sum(_Summing):
    """The weighted sum: int64 for integers, else a float."""

    name = "sum"

    def finish(self, state: State) -> Any:
        value = self.widen(state).value
        return np.asarray(value) if isinstance(value, WideInt) else value.high + value.low


class Count(Reducer):
    """The number of observations."""

    name = "count"

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None:
            count = math.prod(values.shape[: values.ndim - rank])
            return State(jax.tree.map(namespace(values).asarray, WideInt.of(count)), count)
        positive = count_positive(flatten_weight(weight))
        return State(positive, positive)

    def merge(self, a: State, b: State) -> State:
        return State(a.value + b.value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        return State(value.sum(), collapsed_weight(weight, value.high.shape[0]))

    def finish(self, state: State) -> Any:
        return np.asarray(state.value)


class _Extreme(Reducer):
    """Base class of the smallest and the largest observation."""

    starts_high: ClassVar[bool]

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        values = at_least_32_bits(values)
        if weight is None and values.ndim == rank:
            return State(values, 1)
        values, count = flatten_lanes(values, rank)
        if weight is None:
            return State(self._extreme(values), count)
        weight = flatten_weight(weight)
        neutral = _bound(values.dtype, high=self.starts_high)
        xp = namespace(values, weight)
        values = xp.where(expand(weight > 0, values), values, xp.asarray(neutral, values.dtype))
        return State(self._extreme(values), count_positive(weight))

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
        values = at_least_32_bits(values)
        if weight is None and values.ndim == rank:
            return State(values, 1)
        values, _ = flatten_lanes(values, rank)
        if weight is None:
            return State(values[-1], 1)
        return self.collapse(State(values, WideInt.of(flatten_weight(weight) > 0)))

    def merge(self, a: State, b: State) -> State:
        if is_static(b.weight):
            return b
        has_value = b.weight.is_positive()
        xp = namespace(*jax.tree.leaves((a.value, b.value)), has_value)
        value = jax.tree.map(lambda x, y: xp.where(expand(has_value, y), y, x), a.value, b.value)
        return State(value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        if is_static(weight):
            return State(jax.tree.map(lambda x: x[-1], value), weight)
        has_value = weight.is_positive()
        # argmax finds the first index with a weight; the reversed array gives the last.
        index = len(has_value) - 1 - namespace(has_value).argmax(has_value[::-1])
        return State(jax.tree.map(lambda x: x[index], value), weight.sum())


class Std(Reducer):
    """The standard deviation of the observations, of the population (divided by n).

    The state holds the mean and the sum of squared deviations, merged as in Chan, Golub and LeVeque, "Updating
    formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    name = "std"

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        values, _ = flatten_lanes(floats(values), rank)
        zeros = namespace(values).zeros_like(values)
        counted = 1 if weight is None else as_wide(flatten_weight(weight))
        return self.collapse(State((values, zeros), counted))

    def merge(self, a: State, b: State) -> State:
        pair = jax.tree.map(lambda x, y: namespace(x, y).stack([x, y]), a.value, b.value)
        weight = a.weight + b.weight
        if is_static(a.weight) and is_static(b.weight) and a.weight == b.weight:
            return State(self.collapse(State(pair, a.weight)).value, weight)
        mean, squares = pair
        xp, dtype = namespace(mean, squares), mean.dtype
        factors = xp.stack([xp.asarray(_as_factor(w, dtype)) for w in (a.weight, b.weight)])
        return State(_combine(mean, squares, factors), weight)

    def collapse(self, state: State) -> State:
        (mean, squares), weight = state
        if is_static(weight):
            overall = mean.mean(0)
            squares = (squares + float(weight) * (mean - overall) ** 2).sum(0)
            return State((overall, squares), weight * mean.shape[0])
        return State(_combine(mean, squares, _as_factor(weight, mean.dtype)), weight.sum())

    def finish(self, state: State) -> Any:
        (_, squares), weight = state
        return np.sqrt(squares / _divisor(weight, squares).astype(squares.dtype))


def _as_factor(weight: Wide | int, dtype: np.dtype) -> Array:
    """Return a weight as one float."""
    return np.asarray(weight, dtype) if is_static(weight) else weight.as_float(dtype).high


def _combine(mean: Array, squares: Array, weight: Array) -> tuple[Array, Array]:
    """Merge means and sums of squared deviations along the leading axis."""
    xp = namespace(mean, weight)
    factor = expand(weight, mean)
    zero = mean.dtype.type(0)
    mean = xp.where(factor > 0, mean, zero)
    squares = xp.where(factor > 0, squares, zero)
    total = factor.sum(0)
    overall = (mean * factor).sum(0) / xp.where(total > 0, total, mean.dtype.type(1))
    return overall, (squares + factor * (mean - overall) ** 2).sum(0)


_ALL = (Mean(), Sum(), Min(), Max(), Count(), Std(), Last())
REDUCTIONS: dict[str, Reducer] = {reducer.name: reducer for reducer in _ALL}
"""The reducers that ``reduce=`` names, except ``"stack"``."""
