"""Reports from inside an Optax optimizer, and of its hyperparameters. Requires ``pip install 'jaxboard-tb[optax]'``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.tree_util import DictKey, SequenceKey

import jaxboard as jb


def report(
    tag: str, *, what: str | Sequence[str] = "norm", every: int | None = None
) -> optax.GradientTransformation:
    """Return a gradient transformation that reports the updates and does not change them.

    In a chain it reports the output of the transformation before it. If the optimizer receives the
    parameters, ``tag/ratio`` is the norm of the updates divided by the norm of the parameters.

    Args:
        tag: the first part of the names.
        what: see :func:`jaxboard.watch`.
        every: see :func:`jaxboard.scalar`.

    Returns:
        A gradient transformation without state.

    Raises:
        ReportError: an argument is invalid; raised by the ``update`` function.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from jaxboard.integrations.optax import report
        >>> from jaxboard.testing import capture
        >>> optimizer = optax.chain(optax.clip_by_global_norm(1.0), report("clipped"), optax.sgd(0.1))
        >>> gradient = jnp.array([3.0, 4.0])
        >>> with capture() as records:
        ...     updates, _ = optimizer.update(gradient, optimizer.init(gradient))
        >>> [(record.tag, round(float(record.value), 6)) for record in records]
        [('clipped/norm', 1.0)]
    """

    def init(params: optax.Params) -> optax.OptState:  # noqa: ARG001 (Optax's signature)
        return optax.EmptyState()

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        jb.watch(tag, updates, what=what, every=every, relative_to=params)
        return updates, state

    return optax.GradientTransformation(init, update)


def report_hyperparams(
    state: optax.OptState,
    *,
    names: str | Sequence[str] | None = None,
    tag: str = "hyperparams",
    every: int | None = None,
) -> None:
    """Report the learning rate and other numbers that ``optax.inject_hyperparams`` keeps in the state.

    The state that ``update`` returns has the values of that update, also of schedules. States are found at any depth: in
    chains, in ``multi_transform``, in ``MultiSteps``. If there are several, their tags have the keys of the path to
    each, such as the labels of ``multi_transform``, and the indices of chains where keys are not enough.

    Args:
        state: the state of the optimizer, traced or not. Without injected hyperparameters, nothing is reported.
        names: the names of the hyperparameters to report, such as ``"learning_rate"``. By default all, also constant ones.
        tag: the first part of the names.
        every: see :func:`jaxboard.scalar`.

    Raises:
        ReportError: an argument is invalid, or hyperparameters were injected, but none has one of the ``names``.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> from jaxboard.integrations.optax import report_hyperparams
        >>> from jaxboard.testing import capture
        >>> schedule = optax.linear_schedule(1.0, 0.0, transition_steps=4)
        >>> optimizer = optax.chain(optax.clip(1.0), optax.inject_hyperparams(optax.sgd)(schedule))
        >>> state = optimizer.init(jnp.ones(2))
        >>> with capture() as records:
        ...     for _ in range(2):
        ...         updates, state = optimizer.update(jnp.ones(2), state)
        ...     report_hyperparams(state)
        >>> [(record.tag, float(record.value)) for record in records]
        [('hyperparams/learning_rate', 0.75)]
    """
    found = optax.tree_utils.tree_get_all_with_path(state, "hyperparams")
    numbers = [
        {name: value for name, value in values.items() if np.ndim(value) == 0}
        for _, values in found
    ]
    if names is not None and found:
        selected = _checked_names(names, {name for each in numbers for name in each})
        numbers = [{name: each[name] for name in each if name in selected} for each in numbers]
    for path, each in zip(_distinct_names([path for path, _ in found]), numbers, strict=True):
        jb.scalars("/".join((tag, *path)) if path else tag, each, every=every)


def _checked_names(names: str | Sequence[str], known: set[str]) -> tuple[str, ...]:
    """Return the names of hyperparameters to report.

    Raises:
        ReportError: no injected hyperparameter has one of them, or they are not names.
    """
    try:
        selected = (names,) if isinstance(names, str) else tuple(names)
        unknown = [name for name in selected if name not in known]
    except TypeError:
        selected, unknown = (), [names]
    if unknown:
        has = ", ".join(map(repr, sorted(known))) or "none"
        raise jb.ReportError(
            f"report_hyperparams(names={names!r}): {unknown[0]!r} is not the name of an injected hyperparameter. The state "
            f"has {has}."
        )
    return selected


def _distinct_names(paths: list[tuple[Any, ...]]) -> list[tuple[str, ...]]:
    """Return the shortest names that distinguish paths in a state: empty, keys, or keys and indices."""
    kinds: tuple[tuple[type, ...], ...] = ((), (DictKey,), (DictKey, SequenceKey))
    names: list[tuple[str, ...]] = []
    for kind in kinds:
        names = [
            tuple(
                jax.tree_util.keystr((key,), simple=True) for key in path if isinstance(key, kind)
            )
            for path in paths
        ]
        if len(set(names)) == len(names):
            break
    return names
