"""Reports from inside an Optax optimizer. Requires ``pip install 'jaxboard-tb[optax]'``."""

from __future__ import annotations

from collections.abc import Sequence

import optax

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
