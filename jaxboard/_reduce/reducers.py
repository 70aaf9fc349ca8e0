"""Reducers of plain arrays: mean, sum, min, max, count, std, last.

A reducer works on states. A state is a pair: a value (a pytree of arrays) and the weight, that is, of
how many observations it is made. States merge: in pairs (the trips of a loop, the steps of a
window) or along a leading axis (the iterations of a scan, the devices of a mesh). The weight is a
Python number where it is known while tracing, which is nearly always; only masks (a branch not taken,
``where=``) make it an array.

The same code runs on the device (``jax.numpy``, traced) and on the host (NumPy).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class State(NamedTuple):
    """An accumulator: a value and of how many observations it is made."""

    value: Any
    weight: Any = 1


def namespace(*arrays: Any) -> Any:
    """NumPy if all of these are NumPy's, else ``jax.numpy``."""
    host = all(isinstance(a, np.ndarray | np.generic | int | float) for a in arrays)
    return np if host else jnp


def is_static(weight: Any) -> bool:
    """Whether a weight is known while tracing."""
    return isinstance(weight, int)


def replicated(function: Callable[..., Any], *arrays: Any) -> Any:
    """``function(*arrays)``, of arrays that may be sharded: every device has the whole result.

    Where shardings are part of the types, reshaping, slicing and scattering would each have to be told
    what they make; there the function is left to the compiler, as without such types.
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


def expand(weight: Any, value: Any) -> Any:
    """A weight with axes appended until it broadcasts against a value."""
    return weight.reshape(weight.shape + (1,) * (value.ndim - weight.ndim))


def _limit(dtype: Any, *, high: bool) -> Any:
    """What every value of a dtype is below, or above: where min and max start from."""
    if dtype == np.bool_:
        return high
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.iinfo(dtype).max if high else jnp.iinfo(dtype).min
    return np.inf if high else -np.inf


def floats(values: Any) -> Any:
    """Values as floats of 32 bits at least, in which sums round little."""
    if jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(np.float32) if values.dtype.itemsize < 4 else values
    return values.astype(np.float32 if values.dtype.itemsize < 8 else np.float64)


def on_cpu(*arrays: Any) -> bool:
    """Whether what is done with these is compiled for a CPU."""
    return namespace(*arrays) is not np and jax.default_backend() == "cpu"


class Reducer:
    """What the reducers share. ``start``, ``merge``, ``collapse`` and ``finish`` are the interface."""

    name: ClassVar[str]
    elementwise: ClassVar[bool] = True
    """Whether ``merge`` takes axes along, on the host, that all arrays of both states have in front."""

    def start(self, values: Any, weight: Any, rank: int) -> State:
        """The state of one report.

        Args:
            values: an array; its last ``rank`` axes are one observation, the axes before are the
                lanes of ``vmap``, each with an observation of its own.
            weight: None, or an array over the lanes (bool: which lanes count; else by how much).
            rank: see above.
        """
        raise NotImplementedError

    def merge(self, a: State, b: State) -> State:
        """The state of all observations in ``a`` and then those in ``b``."""
        raise NotImplementedError

    def collapse(self, state: State) -> State:
        """Merges along the leading axis that every array of the state has."""
        raise NotImplementedError

    def empty(self, like: State) -> State:
        """The state of no observation, with the shapes and dtypes of another."""
        value = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like.value)
        return State(value, self._no_weight(like))

    def finish(self, state: State) -> Any:
        """The reduced value (NumPy). Only meaningful where the weight is above 0."""
        return state.value

    @staticmethod
    def _no_weight(like: State) -> Any:
        dtype = jnp.int32 if is_static(like.weight) else like.weight.dtype
        return jnp.zeros((), dtype)


def flatten_lanes(values: Any, weight: Any, rank: int) -> tuple[Any, Any, int]:
    """Flattens the lanes of a report into one axis: values, weight, how many."""
    count = math.prod(values.shape[: values.ndim - rank])
    shape = (count, *values.shape[values.ndim - rank :])
    values = replicated(lambda x: x.reshape(shape), values)
    if weight is not None:
        weight = replicated(lambda x: x.reshape(count), weight)
        if weight.dtype == np.bool_:
            weight = weight.astype(np.int32)
    return values, weight, count


class Total(NamedTuple):
    """A sum as two floats, ``high + low``: twice the digits of one.

    A float32 alone that adds up 0.1 a million times is off by a hundredth.
    """

    high: Any
    low: Any


class IntTotal(Total):
    """A sum of integers: exact to 2**48, where an int32 would overflow at 2**31."""


def _add(a: Any, b: Any) -> tuple[Any, Any]:
    """``a + b``, and what rounding left out of it (Knuth, TAOCP 2, section 4.2.2, theorem B)."""
    xp = namespace(a, b)
    with np.errstate(invalid="ignore"):
        total = a + b
        part = total - a
        rest = (a - (total - part)) + (b - part)
    # Where the sum is infinite, the differences are NaN.
    return total, xp.where(xp.isfinite(total), rest, 0)


def _total(values: Any) -> Total:
    """Each value as the sum of itself."""
    dtype = values.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        values = floats(values)
        return Total(values, namespace(values).zeros_like(values))
    if dtype == np.bool_ or dtype.itemsize < 4:
        values = floats(values)
        return IntTotal(values, namespace(values).zeros_like(values))
    # A float does not hold all of these; each half it does.
    half = dtype.itemsize * 4
    upper, lower = floats(values >> half), floats(values & (2**half - 1))
    return IntTotal(*_add(upper * 2.0**half, lower))


class _Summing(Reducer):
    """Reducers whose value is a weighted sum of the observations."""

    def start(self, values: Any, weight: Any, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(_total(values), 1)
        values, weight, _ = flatten_lanes(values, weight, rank)
        total = _total(values)
        if weight is None:
            return self.collapse(State(total, 1))
        kind = type(total) if jnp.issubdtype(weight.dtype, jnp.integer) else Total
        xp = namespace(values, weight)
        factor = expand(weight, values).astype(total.high.dtype)
        # where() and not only the product: 0 * nan is nan.
        parts = [xp.where(factor > 0, part * factor, 0) for part in total]
        return self.collapse(State(kind(*parts), xp.where(weight > 0, weight, 0)))

    def merge(self, a: State, b: State) -> State:
        whole = isinstance(a.value, IntTotal) and isinstance(b.value, IntTotal)
        high, rest = _add(a.value.high, b.value.high)
        total = _add(high, rest + (a.value.low + b.value.low))
        return State((IntTotal if whole else Total)(*total), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        (high, low), weight = state
        weight = weight * high.shape[0] if is_static(weight) else weight.sum(0)
        return State(type(state.value)(*_add(high.sum(0), low.sum(0))), weight)


class Mean(_Summing):
    """The (weighted) mean, carried as the sum and the weight."""

    name = "mean"

    def finish(self, state: State) -> Any:
        (high, low), weight = state
        if is_static(weight) and weight == 1 and not isinstance(state.value, IntTotal):
            return high
        weight = expand(np.asarray(weight, np.float64), high)
        mean = (np.asarray(high, np.float64) + low) / np.where(weight > 0, weight, 1)
        return mean.astype(high.dtype)


class Sum(_Summing):
    """The (weighted) sum: int64 of integers, else a float."""

    name = "sum"

    def finish(self, state: State) -> Any:
        high, low = state.value
        if isinstance(state.value, IntTotal):
            return high.astype(np.int64) + low.astype(np.int64)
        return high + low


class Count(Reducer):
    """How many observations there were."""

    name = "count"

    def start(self, values: Any, weight: Any, rank: int) -> State:
        _, weight, count = flatten_lanes(values, weight, rank)
        if weight is None:
            return State(namespace(values).asarray(count, np.int32), count)
        count = (weight > 0).astype(np.int32).sum()
        return State(count, count)

    def merge(self, a: State, b: State) -> State:
        return State(a.value + b.value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        weight = weight * value.shape[0] if is_static(weight) else weight.sum(0)
        return State(value.sum(0), weight)


class _Extreme(Reducer):
    """The smallest or the largest observation."""

    high: ClassVar[bool]

    def start(self, values: Any, weight: Any, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(values, 1)
        values, weight, count = flatten_lanes(values, weight, rank)
        if weight is None:
            return State(self._along(values), count)
        start = _limit(values.dtype, high=self.high)
        xp = namespace(values, weight)
        values = xp.where(expand(weight > 0, values), values, xp.asarray(start, values.dtype))
        return State(self._along(values), (weight > 0).astype(np.int32).sum(0))

    def merge(self, a: State, b: State) -> State:
        xp = namespace(a.value, b.value)
        pick = xp.minimum if self.high else xp.maximum
        return State(pick(a.value, b.value), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        weight = weight * value.shape[0] if is_static(weight) else weight.sum(0)
        return State(self._along(value), weight)

    def empty(self, like: State) -> State:
        fill = _limit(like.value.dtype, high=self.high)
        return State(jnp.full(like.value.shape, fill, like.value.dtype), self._no_weight(like))

    def _along(self, values: Any) -> Any:
        return values.min(0) if self.high else values.max(0)


class Min(_Extreme):
    """The smallest observation; NaN if one is NaN."""

    name = "min"
    high = True


class Max(_Extreme):
    """The largest observation; NaN if one is NaN."""

    name = "max"
    high = False


class Last(Reducer):
    """The observation made last."""

    name = "last"

    def start(self, values: Any, weight: Any, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(values, 1)
        values, weight, _ = flatten_lanes(values, weight, rank)
        if weight is None:
            return State(values[-1], 1)
        return self.collapse(State(values, (weight > 0).astype(np.int32)))

    def merge(self, a: State, b: State) -> State:
        if is_static(b.weight):
            return b
        xp = namespace(a.value, b.value, b.weight)
        value = jax.tree.map(lambda x, y: xp.where(expand(b.weight > 0, y), y, x), a.value, b.value)
        return State(value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        if is_static(weight):
            return State(jax.tree.map(lambda x: x[-1], value), weight)
        xp = namespace(weight)
        # The last index with a weight: argmax finds the first one, so look from the back.
        index = weight.shape[0] - 1 - xp.argmax(weight[::-1] > 0)
        return State(jax.tree.map(lambda x: x[index], value), weight.sum(0))


class Std(Reducer):
    """The standard deviation of the observations (of the population: divided by n).

    Carried as mean and sum of squared deviations, merged as in Chan, Golub and LeVeque, "Updating
    formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    name = "std"

    def start(self, values: Any, weight: Any, rank: int) -> State:
        values, weight, _ = flatten_lanes(floats(values), weight, rank)
        xp = namespace(values)
        zeros = xp.zeros_like(values)
        if weight is None:
            return self.collapse(State((values, zeros), 1))
        weight = xp.where(weight > 0, weight, xp.zeros_like(weight))  # NaN is not above 0 either
        return self.collapse(State((values, zeros), weight))

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
            total = mean.mean(0)
            return State(
                (total, (squares + weight * (mean - total) ** 2).sum(0)), weight * mean.shape[0]
            )
        xp = namespace(mean, weight)
        factor = expand(weight, mean).astype(mean.dtype)
        mean = xp.where(factor > 0, mean, 0)
        squares = xp.where(factor > 0, squares, 0)
        sum_ = factor.sum(0)
        total = (mean * factor).sum(0) / xp.where(sum_ > 0, sum_, 1)
        return State((total, (squares + factor * (mean - total) ** 2).sum(0)), weight.sum(0))

    def finish(self, state: State) -> Any:
        (_, squares), weight = state
        weight = expand(np.asarray(weight), squares).astype(squares.dtype)
        return np.sqrt(squares / np.where(weight > 0, weight, 1))


_ALL = (Mean(), Sum(), Min(), Max(), Count(), Std(), Last())
REDUCTIONS: dict[str, Reducer] = {reducer.name: reducer for reducer in _ALL}
"""What ``reduce=`` may be for a scalar, by name."""
