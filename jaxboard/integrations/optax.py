"""Reports from inside an Optax optimizer: ``pip install 'jaxboard-tb[optax]'``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import optax

import jaxboard as jb


def report(
    tag: str, *, what: str | Sequence[str] = "norm", every: int | None = None
) -> optax.GradientTransformation:
    """A gradient transformation that reports the updates where it stands, and passes them on.

    In a chain it shows what the transformations before it made. Where the optimizer is given the
    parameters, ``tag/ratio`` is the norm of the updates divided by theirs.

    Args:
        tag: the first part of the names.
        what: see :func:`jaxboard.watch`.
        every: see :func:`jaxboard.scalar`.

    Returns:
        A transformation without state.

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

    def update(updates: optax.Updates, state: optax.OptState, params: Any = None) -> Any:
        jb.watch(tag, updates, what=what, every=every, relative_to=params)
        return updates, state

    return optax.GradientTransformation(init, update)
