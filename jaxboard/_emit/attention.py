"""``attention_entropy`` and ``max_logit``: the two numbers that show that an attention collapses."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxboard import _compat
from jaxboard._emit import arguments, conversion
from jaxboard._emit.scalar import scalar
from jaxboard._safe_repr import describe_array
from jaxboard._trace import context
from jaxboard._types import Reportable, Runs, Step


@jax.jit
def _mean_entropy(weights: jax.Array) -> jax.Array:
    weights = jax.lax.stop_gradient(weights)
    weights = weights.astype(jnp.promote_types(weights.dtype, jnp.float32))
    # Zeros in the logarithm would be NaN in the product.
    logarithms = jnp.log(jnp.where(weights > 0, weights, 1))
    entropies = -jnp.sum(weights * logarithms, -1)
    counted = jnp.sum(weights, -1) != 0
    return jnp.sum(jnp.where(counted, entropies, 0)) / jnp.maximum(jnp.sum(counted), 1)


@jax.jit
def _largest(logits: jax.Array) -> jax.Array:
    return jnp.max(jax.lax.stop_gradient(logits))


def attention_entropy(
    tag: str,
    weights: Reportable,
    *,
    step: Step | None = None,
    every: int | None = None,
    reduce: str = "mean",
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the mean entropy of attention weights in nats: 0 if each query attends to one key, log N if to N keys equally.

    An entropy that falls towards zero precedes unstable training (Zhai et al., "Stabilizing Transformer Training by
    Preventing Attention Entropy Collapse", 2023). Queries without any weight, such as padding, are left out.

    Args:
        tag: the name of the curve.
        weights: the weights after the softmax: floats [..., queries, keys], whose last axis sums to 1.
        step: see :func:`scalar`.
        every: see :func:`scalar`.
        reduce: how the entropies of several reports become one; see :func:`scalar`. ``"stack"`` in a scan over layers
            has a curve for each layer.
        where: see :func:`scalar`.
        runs: see :func:`scalar`.

    Raises:
        ReportError: ``weights`` are not floats, or an argument is invalid.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.attention_entropy("entropy", jnp.array([[1.0, 0.0], [0.5, 0.5]]))
        >>> round(float(records[0].value), 4)  # the mean of 0 and log 2
        0.3466
    """
    value = _statistic(tag, "weights", weights, _mean_entropy)
    if value is not None:
        scalar(tag, value, step=step, every=every, reduce=reduce, where=where, runs=runs)


def max_logit(
    tag: str,
    logits: Reportable,
    *,
    step: Step | None = None,
    every: int | None = None,
    reduce: str = "max",
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the largest logit of an attention, which grows without a bound before training diverges.

    See Dehghani et al., "Scaling Vision Transformers to 22 Billion Parameters" (2023), section 2. Masked logits, of
    minus infinity or a large negative number, do not count, as they are not the largest.

    Args:
        tag: the name of the curve.
        logits: the logits before the softmax: floats [..., keys], at least one.
        step: see :func:`scalar`.
        every: see :func:`scalar`.
        reduce: how the maxima of several reports become one; see :func:`scalar`. ``"stack"`` in a scan over layers has a
            curve for each layer.
        where: see :func:`scalar`.
        runs: see :func:`scalar`.

    Raises:
        ReportError: ``logits`` are not floats, or an argument is invalid.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.max_logit("max_logit", jnp.array([[3.0, -jnp.inf], [7.5, 0.0]]))
        >>> float(records[0].value)
        7.5
    """
    value = _statistic(tag, "logits", logits, _largest)
    if value is not None:
        scalar(tag, value, step=step, every=every, reduce=reduce, where=where, runs=runs)


def _statistic(
    tag: str, name: str, values: Reportable, compute: Callable[[jax.Array], jax.Array]
) -> jax.Array | None:
    """Return a statistic of the values that a user passed as ``name``; None if reports are off.

    Raises:
        ReportError: the tag is invalid, or the values are not floats with at least one element and one axis.
    """
    arguments.check_tag(tag)
    if context.current().silent:
        return None
    with _compat.unchecked():
        array = conversion.as_array(tag, values)
        if not array.ndim or not array.size or not jnp.issubdtype(array.dtype, jnp.floating):
            raise arguments.report_error(
                tag,
                f"expected {name}= to be an array of floats [..., queries, keys], got {describe_array(array)}.",
            )
        return compute(conversion.as_jax(array))
