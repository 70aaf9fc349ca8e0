"""``noise_scale``: the batch size up to which more examples make a better gradient."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax

from jaxboard import _compat
from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array
from jaxboard._emit.watch import float_leaves
from jaxboard._frame import Composite
from jaxboard._reduce import NoiseScaleOptions
from jaxboard._safe_repr import describe_array, describe_object
from jaxboard._trace import context
from jaxboard._types import Array, PyTree, Reportable, Runs, Step


@functools.cache
def _jitted():  # noqa: ANN202 (JAX does not export the type)
    from jaxboard._reduce.gradient_noise import squared_norms

    return jax.jit(squared_norms)


def noise_scale(
    tag: str,
    small: PyTree,
    large: PyTree,
    small_batch: int,
    large_batch: int,
    *,
    step: Step | None = None,
    every: int | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the gradient noise scale, the number of examples above which a larger batch helps less and less.

    It is the simple noise scale of McCandlish et al., "An Empirical Model of Large-Batch Training" (2018), appendix A.1,
    from gradients g and G of batches of b and B examples:

        ``tag/signal`` = (B |G|² - b |g|²) / (B - b), an unbiased estimate of the squared norm of the true gradient;
        ``tag/noise`` = (|g|² - |G|²) / (1/b - 1/B), an unbiased estimate of the trace of the covariance matrix of the
        gradients of single examples;
        ``tag/scale`` = noise / signal.

    The estimates of one step vary much, and if one of the two is negative, there is no scale. All values of a point are
    averaged before the division: those of ``every`` steps, of lanes and of iterations. Pass the gradient of one
    microbatch, or of one device, as ``small``, and that of the whole batch as ``large``; from a ``vmap`` or a scan over
    microbatches, all of them count.

    Args:
        tag: the first part of the names.
        small: the gradient of the mean loss of ``small_batch`` examples: a pytree of arrays, or its norm.
        large: the gradient of the mean loss of ``large_batch`` examples, with the same leaves, or its norm.
        small_batch: the number of examples of ``small``.
        large_batch: the number of examples of ``large``, greater than ``small_batch``.
        step: see :func:`scalar`.
        every: make one point of this many steps, for example 100.
        where: see :func:`scalar`.
        runs: see :func:`scalar`.

    Raises:
        ReportError: a gradient contains no array of floats, the gradients have different leaves, ``large_batch`` is not
            greater than ``small_batch``, or an argument is invalid.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.noise_scale("noise", {"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([1.0, 1.0])}, 1, 4)
        >>> {record.tag: float(record.value) for record in records}
        {'noise/scale': 4.0, 'noise/signal': 1.0, 'noise/noise': 4.0}
    """
    arguments.check_tag(tag)
    few = arguments.check_positive(tag, "small_batch", small_batch)
    many = arguments.check_positive(tag, "large_batch", large_batch)
    if few >= many:
        raise arguments.report_error(
            tag, f"expected large_batch= to be greater than small_batch={few}, got {many}."
        )
    if context.current().silent:
        return
    gradients = _leaves(tag, "small", small), _leaves(tag, "large", large)
    _check_equal_shapes(tag, *gradients)
    with _compat.unchecked():
        norms = _jitted()(*(list(leaves.values()) for leaves in gradients))
    report_array(
        Composite.NOISE_SCALE,
        tag,
        norms,
        conversion.as_array,
        step=step,
        every=every,
        where=where,
        runs=runs,
        reduce="mean",
        options=NoiseScaleOptions(few, many),
    )


def _leaves(tag: str, argument: str, tree: PyTree) -> Mapping[str, Array]:
    leaves = dict(float_leaves(tag, tree))
    if not leaves:
        raise arguments.report_error(
            tag,
            f"expected {argument}= to contain arrays of floats, got {describe_object(tree)}.",
        )
    return leaves


def _check_equal_shapes(tag: str, small: Mapping[str, Array], large: Mapping[str, Array]) -> None:
    """Raise unless both gradients have the same leaves. A norm, which is a number, has no leaves to compare."""
    if any(len(leaves) == 1 and x.ndim == 0 for leaves in (small, large) for x in leaves.values()):
        return
    for name in {**small, **large}:
        few, many = small.get(name), large.get(name)
        if few is None or many is None or few.shape != many.shape:
            raise arguments.report_error(
                tag,
                f"expected small= and large= to be gradients of the same parameters. The leaf {name!r} of small= is "
                f"{_described(few)}, that of large= {_described(many)}.",
            )


def _described(leaf: Array | None) -> str:
    return "missing" if leaf is None else describe_array(leaf)
