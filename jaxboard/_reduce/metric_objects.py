"""Objects that merge on the device and compute on the host: metrics of Flax, CLU and metrax, and those of users.

A metric is a pytree with two methods: ``merge(other)`` returns the metric of the data of both, and ``compute()`` the
result, a number or a pytree of numbers. Flax's NNX metrics have no ``merge``. Here they have a rule for each class.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any, cast

import jax
import jax.numpy as jnp

from jaxboard._types import PyTree


class MetricError(TypeError):
    """An object is not a metric, or cannot be merged. The message names its class."""


def is_metric(node: object) -> bool:
    """Return whether an object is a metric."""
    is_object = not isinstance(node, type) and callable(getattr(node, "compute", None))
    return is_object and (callable(getattr(node, "merge", None)) or is_nnx(node))


def is_nnx(node: object) -> bool:
    """Return whether an object is one of Flax's NNX metrics. These accumulate what they have seen themselves."""
    return _has_base(node, "Metric")


def unwrapped(state: PyTree) -> PyTree:
    """Return a state whose metrics are all pytrees.

    A ``MultiMetric`` becomes a dict of its metrics, and metrax's wrapper for NNX the metric inside.
    """
    if is_nnx(state):
        if type(state).compute is _multi_metric_compute(state):
            parts = vars(state).items()
            return {name: unwrapped(part) for name, part in parts if is_nnx(part)}
        if hasattr(state, "clu_metric"):
            return state.clu_metric
    if isinstance(state, dict):
        return {name: unwrapped(part) for name, part in cast("dict[Any, Any]", state).items()}
    if type(state) in (list, tuple):
        return type(state)(map(unwrapped, state))
    return state


def accumulates(state: PyTree) -> bool:
    """Return whether a state has metrics that accumulate what they have seen themselves."""
    return any(map(is_nnx, jax.tree.leaves(state, is_leaf=is_metric)))


@contextlib.contextmanager
def promoting() -> Generator[None]:
    """Let dtypes and ranks be promoted, as libraries expect: strict promotion is for the user's own arithmetic."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def merged(a: PyTree, b: PyTree) -> PyTree:
    """Return the state of the data of two states.

    Raises:
        MetricError: a metric has no rule.
    """
    return jax.tree.map(_merged, a, b, is_leaf=is_metric)


def computed(state: PyTree) -> PyTree:
    """Return the result of each metric of a state."""
    return jax.tree.map(lambda metric: metric.compute(), state, is_leaf=is_metric)


def _merged(a: Any, b: Any) -> Any:
    if callable(getattr(a, "merge", None)):
        return a.merge(b)
    if _has_base(a, "Average"):  # sums and counts
        return jax.tree.map(jnp.add, a, b)
    if _has_base(a, "Welford"):
        return _merged_welford(a, b)
    raise MetricError(
        f"the metric {type(a).__name__} has no merge(). Define it: merge(self, other) returns the metric of the data "
        "of both."
    )


def _merged_welford(a: Any, b: Any) -> Any:
    """Merge counts, means and sums of squared deviations; see :class:`jaxboard._reduce.reducers.Std`."""
    x, y = ({name: metric[name][...] for name in _WELFORD} for metric in map(vars, (a, b)))
    count = x["count"] + y["count"]
    dtype = x["mean"].dtype
    share = y["count"].astype(dtype) / jnp.maximum(count, 1).astype(dtype)
    delta = y["mean"] - x["mean"]
    both = jax.tree.map(lambda leaf: leaf, a)  # a copy
    both.count[...] = count
    both.mean[...] = x["mean"] + delta * share
    both.m2[...] = x["m2"] + y["m2"] + delta * delta * (x["count"].astype(dtype) * share)
    return both


_WELFORD = ("count", "mean", "m2")


def _has_base(node: object, name: str) -> bool:
    """Return whether an object is of a class of Flax's NNX metrics, which need not be imported."""
    return any(
        base.__name__ == name and base.__module__.startswith("flax.nnx")
        for base in type(node).__mro__
    )


def _multi_metric_compute(node: object) -> Callable[..., Any] | None:
    for base in type(node).__mro__:
        if base.__name__ == "MultiMetric" and base.__module__.startswith("flax.nnx"):
            return base.compute
    return None
