"""``metric``: objects that merge on the device and compute on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard import _compat
from jaxboard._check import is_one_of
from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array
from jaxboard._frame import Composite
from jaxboard._log import describe
from jaxboard._reduce import MetricOptions
from jaxboard._reduce.metric_objects import (
    MetricError,
    accumulates,
    is_metric,
    merged,
    promoting,
    unwrapped,
)
from jaxboard._reduce.words import Leaf, to_words
from jaxboard._safe_repr import describe_array, safe_repr
from jaxboard._trace import context
from jaxboard._types import Array, PyTree, Reportable, Runs, Step

_words = jax.jit(to_words, static_argnums=0)


def metric(
    tag: str,
    state: PyTree,
    *,
    finish: Literal["exp", "sqrt"] | Callable[[Any], Any] | None = None,
    reduce: Literal["merge", "last"] | None = None,
    step: Step | None = None,
    every: int | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the result of a metric: of Flax, CLU or metrax, or an object of your own.

    A metric is a pytree of numbers and arrays with the methods ``merge(other)``, which returns the metric of the data of
    both and which JAX traces, and ``compute()``, which returns a number or a pytree of numbers. Merging must be
    associative, and keep shapes and dtypes. The run's own thread calls ``compute``, on a CPU.

    The states of one point are merged: those of the steps of a window, batches of an evaluation, iterations, lanes and
    devices. The metrics of ``flax.nnx`` accumulate what they have seen themselves, until they are reset. Their
    point is the last state, which is what ``state.compute()`` returns there; lanes and devices are merged.

    Args:
        tag: the name of the curve. A metric that computes a dict, or another pytree, has the curves ``tag/name``.
        state: a metric, a dict of metrics, or a ``MultiMetric`` or ``Collection`` of them. jaxboard merges
            ``Average``, ``Accuracy``, ``Welford`` and their subclasses in ``flax.nnx.metrics``; other classes there need
            a ``merge``.
        finish: ``"exp"`` or ``"sqrt"`` of each number, or a function of what ``compute`` returns, with NumPy arrays; it
            returns a number or a pytree of numbers. The run's own thread calls it.
        reduce: ``"merge"`` for states that each hold new data, ``"last"`` for a state that accumulates. None is
            ``"last"`` for metrics of ``flax.nnx``, else ``"merge"``.
        step: see :func:`scalar`.
        every: make one point of this many steps. With ``"merge"``, it has the data of all of them.
        where: see :func:`scalar`.
        runs: see :func:`scalar`.

    Raises:
        ReportError: ``state`` is no metric, its ``merge`` fails or changes a shape, or an argument is invalid. An
            error of ``compute`` or ``finish`` loses that point only: :meth:`Run.flush` raises it.

    Example:
        >>> from typing import NamedTuple
        >>> import jax, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> class Ratio(NamedTuple):
        ...     above: jax.Array
        ...     below: jax.Array
        ...
        ...     def merge(self, other):
        ...         return Ratio(self.above + other.above, self.below + other.below)
        ...
        ...     def compute(self):
        ...         return self.above / self.below
        >>> with capture() as records:
        ...     jb.metric("ratio", Ratio(1.0, 2.0))
        ...     jb.metric("ratio", Ratio(2.0, 2.0))
        >>> [float(record.value) for record in records]
        [0.75]
    """
    arguments.check_tag(tag)
    finish_key = arguments.check_finish(tag, finish)
    if reduce is not None and not is_one_of(reduce, ("merge", "last")):
        raise arguments.report_error(
            tag, f"expected reduce= to be 'merge', 'last' or None, got {safe_repr(reduce)}."
        )
    if context.current().silent:
        return
    arrays, structure, cumulative = _flattened(tag, state)
    leaves = tuple(Leaf(x.shape, str(x.dtype)) for x in arrays)
    replaces = cumulative if reduce is None else reduce == "last"
    options = MetricOptions(structure, leaves, replaces, finish_key)
    if not replaces:
        _check_merge(tag, options)

    def check(_: str, arrays: Sequence[Array]) -> Array:
        if all(isinstance(x, np.ndarray) for x in arrays):
            return to_words(leaves, arrays)
        with _compat.unchecked():
            return _words(leaves, list(arrays))

    report_array(
        Composite.METRIC,
        tag,
        arrays,
        check,
        step=step,
        every=every,
        where=where,
        runs=runs,
        reduce="last" if replaces else "merge",
        options=options,
    )


def _flattened(tag: str, state: PyTree) -> tuple[list[Array], Any, bool]:
    """Return the leaves of a state as arrays, its structure, and whether its metrics accumulate themselves."""
    try:
        parts = unwrapped(state)
        metrics = jax.tree.leaves(parts, is_leaf=is_metric)
        found = bool(metrics) and all(map(is_metric, metrics))
        leaves, structure = jax.tree.flatten(parts)
        hash(structure)
        cumulative = accumulates(state)
    except Exception as error:
        raise arguments.report_error(
            tag, f"JAX cannot flatten the metric: {describe(error)}"
        ) from error
    if not found:
        raise arguments.report_error(
            tag,
            f"expected a metric, or a dict of metrics, got {safe_repr(state)}. A metric is a pytree with the methods "
            "merge(other) and compute().",
        )
    if not leaves:
        raise arguments.report_error(tag, "the metric holds no numbers.")
    if any(map(is_metric, leaves)):
        name = type(next(filter(is_metric, leaves))).__name__
        raise arguments.report_error(
            tag, f"the metric {name} is no pytree. Register it: jax.tree_util.register_dataclass."
        )
    return [_as_leaf(tag, leaf) for leaf in leaves], structure, cumulative


def _as_leaf(tag: str, leaf: object) -> Array:
    """Return a leaf with the dtype that JAX gives it."""
    array = conversion.as_array(tag, leaf)  # pyright: ignore[reportArgumentType] (it checks the type)
    if not isinstance(array, np.ndarray):
        return array
    dtype = jax.dtypes.canonicalize_dtype(array.dtype)
    if array.size and dtype.kind in "iu":
        info = jnp.iinfo(dtype)
        if array.min() < info.min or array.max() > info.max:
            raise arguments.report_error(
                tag, f"the metric holds {array.max()}, and {dtype} cannot. Use a float."
            )
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _check_merge(tag: str, options: MetricOptions) -> None:
    try:
        _try_merge(options.structure, options.leaves)
    except Exception as error:
        raise arguments.report_error(tag, f"merging failed: {describe(error)}") from error


@functools.lru_cache(maxsize=256)
def _try_merge(structure: Any, leaves: tuple[Leaf, ...]) -> None:
    """Raise unless merging two states returns one of the same type."""

    def merge(arrays: list[Array]) -> PyTree:
        with promoting():
            return merged(*(jax.tree.unflatten(structure, arrays) for _ in range(2)))

    before = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    after = jax.eval_shape(merge, before)
    if jax.tree.structure(after) != structure:
        raise MetricError("merge() returns another structure than it gets.")
    for leaf, new in zip(leaves, jax.tree.leaves(after), strict=True):
        if leaf.shape != new.shape or not np.can_cast(new.dtype, leaf.dtype, "same_kind"):
            raise MetricError(
                f"merge() makes {describe_array(new)} of {describe_array(leaf)}; it must keep shapes and dtypes."
            )
