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


def known(weight: Any) -> bool:
    """Whether a weight is known while tracing."""
    return isinstance(weight, int)


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


def _exact(values: Any, *, to_float: bool) -> Any:
    """Values in a dtype that sums do not overflow or round: never below 32 bits."""
    xp = namespace(values)
    dtype = values.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        return values.astype(xp.promote_types(dtype, np.float32))
    if to_float:
        return values.astype(xp.float32 if dtype.itemsize < 8 else xp.float64)
    if dtype == np.bool_ or dtype.itemsize < 4:
        return values.astype(xp.int32)
    return values


class Reducer:
    """What the reducers share. ``start``, ``merge``, ``collapse`` and ``finish`` are the interface."""

    name: ClassVar[str]

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
        dtype = jnp.int32 if known(like.weight) else like.weight.dtype
        return jnp.zeros((), dtype)


def _lanes(values: Any, weight: Any, rank: int) -> tuple[Any, Any, int]:
    """Flattens the lanes of a report into one axis: values, weight, how many."""
    count = math.prod(values.shape[: values.ndim - rank])
    values = values.reshape(count, *values.shape[values.ndim - rank :])
    if weight is not None:
        weight = namespace(weight).broadcast_to(weight, (count,)) if weight.ndim == 0 else weight
        weight = weight.reshape(count)
        if weight.dtype == np.bool_:
            weight = weight.astype(np.int32)
    return values, weight, count


class _Additive(Reducer):
    """Reducers whose value is a sum over the observations."""

    to_float: ClassVar[bool]
    weighted: ClassVar[bool]

    def start(self, values: Any, weight: Any, rank: int) -> State:
        values = _exact(values, to_float=self.to_float)
        if weight is None and values.ndim == rank:
            return State(values, 1)
        values, weight, count = _lanes(values, weight, rank)
        if weight is None:
            return State(values.sum(0), count)
        xp = namespace(values, weight)
        factor = weight if self.weighted else (weight > 0).astype(np.int32)
        counted = expand(factor > 0, values)
        # where() and not only the product: 0 * nan is nan.
        value = xp.where(counted, values * expand(factor, values).astype(values.dtype), 0)
        return State(value.sum(0), factor.sum(0))

    def merge(self, a: State, b: State) -> State:
        return State(a.value + b.value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        weight = weight * value.shape[0] if known(weight) else weight.sum(0)
        return State(value.sum(0), weight)


class Mean(_Additive):
    """The (weighted) mean, carried as the sum and the weight."""

    name = "mean"
    to_float = True
    weighted = True

    def finish(self, state: State) -> Any:
        value, weight = state
        if known(weight):
            return value if weight == 1 else (value / np.asarray(weight, value.dtype))
        weight = expand(weight, value).astype(value.dtype)
        return value / np.where(weight > 0, weight, 1).astype(value.dtype)


class Sum(_Additive):
    """The sum."""

    name = "sum"
    to_float = False
    weighted = True


class Count(_Additive):
    """How many observations there were."""

    name = "count"
    to_float = False
    weighted = False

    def start(self, values: Any, weight: Any, rank: int) -> State:
        ones = namespace(values).ones(values.shape[: values.ndim - rank], np.int32)
        return super().start(ones, weight, 0)


class _Extreme(Reducer):
    """The smallest or the largest observation."""

    high: ClassVar[bool]

    def start(self, values: Any, weight: Any, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(values, 1)
        values, weight, count = _lanes(values, weight, rank)
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
        weight = weight * value.shape[0] if known(weight) else weight.sum(0)
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
        values, weight, _ = _lanes(values, weight, rank)
        if weight is None:
            return State(values[-1], 1)
        return self.collapse(State(values, (weight > 0).astype(np.int32)))

    def merge(self, a: State, b: State) -> State:
        if known(b.weight):
            return b
        xp = namespace(a.value, b.value, b.weight)
        value = jax.tree.map(lambda x, y: xp.where(expand(b.weight > 0, y), y, x), a.value, b.value)
        return State(value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        value, weight = state
        if known(weight):
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
        values, weight, _ = _lanes(_exact(values, to_float=True), weight, rank)
        zeros = namespace(values).zeros_like(values)
        return self.collapse(State((values, zeros), 1 if weight is None else weight))

    def merge(self, a: State, b: State) -> State:
        pair = jax.tree.map(lambda x, y: namespace(x, y).stack([x, y]), a.value, b.value)
        if known(a.weight) and a.weight == b.weight:
            return self.collapse(State(pair, a.weight))
        xp = namespace(*pair)
        weights = [xp.asarray(w) for w in (a.weight, b.weight)]
        dtype = xp.result_type(*weights)
        return self.collapse(State(pair, xp.stack([w.astype(dtype) for w in weights])))

    def collapse(self, state: State) -> State:
        (mean, squares), weight = state
        if known(weight):
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
