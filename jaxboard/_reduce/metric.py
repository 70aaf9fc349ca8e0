"""Metrics: states that their own class merges and computes."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Generator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard import _compat
from jaxboard._errors import ReportError
from jaxboard._reduce.finishing import FUNCTIONS, Finish
from jaxboard._reduce.metric_objects import MetricError, computed, merged, promoting
from jaxboard._reduce.metric_options import MetricOptions
from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    expand,
    flatten_lanes,
    flatten_weight,
    is_static,
    replicated,
)
from jaxboard._reduce.wide import WideInt, namespace
from jaxboard._reduce.words import from_words
from jaxboard._safe_repr import describe_object
from jaxboard._types import Array, PyTree
from jaxboard.records import Scalars


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class MetricValues:
    """The numbers that a metric computed.

    Attributes:
        names: their names; "" for a metric that computes one number.
        values: float64[K].
    """

    names: tuple[str, ...]
    values: np.ndarray

    def scalars(self, tag: str, step: int, wall_time: float, run: str = "") -> Scalars:
        """Return one row, with the tags ``tag/name``."""
        tags = tuple(f"{tag}/{name}" if name else tag for name in self.names)
        return Scalars(tags, np.array([step]), np.array([wall_time]), self.values[None], run)


class MetricReducer(Reducer):
    """Reduce the words of metrics: int32[L].

    The value of a state is the list of the metric's leaves, in their stored dtypes.

    Args:
        options: the class of the metric, and how it is merged.
    """

    name = "metric"
    elementwise = False

    def __init__(self, options: MetricOptions):
        self.options = options
        self._merge_on_host = jax.jit(self._merge_leaves)

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        if weight is None and values.ndim == rank:
            return State(from_words(self.options.leaves, values), 1)
        values, _ = flatten_lanes(values, rank)
        leaves = from_words(self.options.leaves, values)
        if weight is None:
            return self.collapse_lanes(State(leaves, 1))
        counted = (flatten_weight(weight) > 0).astype(np.int32)
        return self.collapse_lanes(State(leaves, WideInt.of(counted)))

    def merge(self, a: State, b: State) -> State:
        weight = a.weight + b.weight
        if self.options.replaces:
            return State(
                b.value if is_static(b.weight) else _pick(b.weight, b.value, a.value), weight
            )
        if is_static(a.weight) and is_static(b.weight):
            return State(self._merge_values(a.value, b.value), weight)
        return State(self._merge_counted(a, b).value, weight)

    def collapse(self, state: State) -> State:
        if not self.options.replaces:
            return self.collapse_lanes(state)
        leaves, weight = state
        if is_static(weight):
            return State([x[-1] for x in leaves], weight)
        has_value = weight.is_positive()
        # argmax finds the first index with a weight; the reversed array gives the last.
        index = len(has_value) - 1 - namespace(has_value).argmax(has_value[::-1])
        return State([x[index] for x in leaves], weight.sum())

    def collapse_lanes(self, state: State) -> State:
        leaves, weight = state
        count = len(leaves[0])
        total = collapsed_weight(weight, count)
        if count == 1:
            return State([x[0] for x in leaves], total)
        if namespace(*leaves) is np:
            each = (jax.tree.map(lambda x, i=i: _at(x, i), state) for i in range(count))
            return functools.reduce(self._merge_counted, each)
        counted = None if is_static(weight) else weight  # a static one is above zero

        def merge(*leaves: Array) -> list[Array]:
            return self._merge_stack(State(list(leaves), counted))

        return State(replicated(merge, *leaves), total)

    def finish(self, state: State) -> MetricValues | Exception:
        """Return what the metric computes, or what it raises."""
        try:
            with _on_host() as convert:
                metric = self._metric(list(map(convert, state.value)))
                result = jax.tree.map(np.asarray, computed(metric))
            return _as_values(_finished(self.options.finish, result))
        except Exception as fault:
            return fault

    def _merge_stack(self, state: State) -> list[Array]:
        """Merge along the leading axis: neighbours in pairs, until one is left. A weight of None counts."""
        while (count := len(state.value[0])) > 1:
            even = count - count % 2
            first, second, rest = (
                jax.tree.map(lambda x, part=part: x[part], state)
                for part in (slice(0, even, 2), slice(1, even, 2), slice(even, None))
            )
            state = jax.vmap(self._merge_pair)(first, second)
            if count % 2:
                state = jax.tree.map(lambda *x: jnp.concatenate(x), state, rest)
        return [x[0] for x in state.value]

    def _merge_pair(self, a: State, b: State) -> State:
        if a.weight is None:
            return State(self._merge_values(a.value, b.value), None)
        return self._merge_counted(a, b)

    def _merge_counted(self, a: State, b: State) -> State:
        """Merge two states, either of which may hold no observation: its leaves are then arbitrary."""
        if is_static(a.weight) and is_static(b.weight):
            return State(self._merge_values(a.value, b.value), a.weight + b.weight)
        both = self._merge_values(a.value, b.value)
        value = _pick(b.weight, _pick(a.weight, both, b.value), a.value)
        return State(value, a.weight + b.weight)

    def _merge_values(self, a: list[Array], b: list[Array]) -> list[Array]:
        if namespace(*a, *b) is not np:
            return self._merge_leaves(a, b)
        with _on_host() as convert:
            leaves = self._merge_on_host(list(map(convert, a)), list(map(convert, b)))
            return [np.asarray(leaf) for leaf in leaves]

    def _merge_leaves(self, a: list[Array], b: list[Array]) -> list[Array]:
        try:
            with promoting():
                both = merged(self._metric(a), self._metric(b))
        except MetricError as problem:
            raise ReportError(f"cannot merge lanes or devices: {problem}") from problem
        leaves = self.options.leaves
        return [
            jnp.asarray(x).astype(leaf.stored)
            for x, leaf in zip(jax.tree.leaves(both), leaves, strict=True)
        ]

    def _metric(self, leaves: Sequence[Array]) -> PyTree:
        arrays = [x.astype(leaf.dtype) for x, leaf in zip(leaves, self.options.leaves, strict=True)]
        return jax.tree.unflatten(self.options.structure, arrays)


def _at(x: Array | int, index: int) -> Array | int:
    return x if isinstance(x, int) else x[index]


def _pick(weight: Any, if_counted: list[Array], otherwise: list[Array]) -> list[Array]:
    """Return the first leaves if the weight is above zero, else the others."""
    if is_static(weight):
        return if_counted if weight > 0 else otherwise
    counted = weight.is_positive()
    return [
        namespace(x, y, counted).where(expand(counted, x), x, y)
        for x, y in zip(if_counted, otherwise, strict=True)
    ]


@functools.cache
def _cpu() -> Any:
    """Return a CPU of JAX, whatever other devices there are; None if JAX was configured without it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


@contextlib.contextmanager
def _on_host() -> Generator[Any]:
    """Let methods of metrics run on the CPU, in a thread that must not wait for another device.

    Yields:
        A function that makes the arrays for them from NumPy's.
    """
    device = _cpu()
    with contextlib.ExitStack() as stack:
        stack.enter_context(_compat.unchecked())
        stack.enter_context(jax.transfer_guard("allow"))
        stack.enter_context(promoting())
        stack.enter_context(np.errstate(all="ignore"))
        if device is not None:
            stack.enter_context(jax.default_device(device))
        yield np.asarray if device is None else functools.partial(jax.device_put, device=device)


def _finished(finish: Finish | None, result: PyTree) -> PyTree:
    """Return a result after the report's function: a known one of each number, the user's of the whole."""
    if finish is None:
        return result
    if isinstance(finish, str):
        return jax.tree.map(lambda x: FUNCTIONS[finish](np.asarray(x, np.float64)), result)
    with np.errstate(all="ignore"):
        return finish.function(result)


def _as_values(result: PyTree) -> MetricValues:
    names: list[str] = []
    values: list[float] = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(result):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if isinstance(leaf, str | bytes) or np.ndim(leaf):
            what = f"{name!r} is" if name else "the result is"
            raise TypeError(
                f"{what} {describe_object(leaf)}, not a number. Make numbers of it: finish=lambda result: ..."
            )
        names.append(name)
        values.append(float(leaf))
    return MetricValues(tuple(names), np.array(values))
