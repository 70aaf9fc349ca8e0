"""``tap``: the gradient that flows back through a value."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._emit import arguments
from jaxboard._emit.trees import named_leaves
from jaxboard._frame import Composite, ReportSpec
from jaxboard._host.active_channel import named_target
from jaxboard._log import warn_once
from jaxboard._reduce import StackOptions
from jaxboard._trace import context
from jaxboard._trace.tap_primitives import tap as tap_array
from jaxboard._types import Runs
from jaxboard.records import Kind

Tree = TypeVar("Tree")


def tap(
    tag: str, x: Tree, *, every: int | None = None, reduce: str = "mean", runs: Runs = None
) -> Tree:
    """Return ``x`` unchanged, and report the norm of the gradient that flows back through it.

    The norm is the square root of the sum of squares, for each leaf separately and for each lane of a
    ``vmap``. Nothing is reported without reverse-mode differentiation, or if no gradient reaches the result. In
    a gradient of a gradient, only the inner gradient is reported. A call whose result is discarded issues a warning; jaxboard
    does not see whether a variable is used.

    Args:
        tag: the name; for a pytree, the first part of the names of its leaves.
        x: an array of any shape, or a pytree. Leaves that are not floats have no gradient and are only passed on.
        every: see :func:`scalar`.
        reduce: how several norms of one step (layers of a scan, lanes) become one; see :func:`scalar`.
        runs: see :func:`scalar`.

    Returns:
        ``x``. Results and gradients do not change.

    Raises:
        ReportError: an argument is invalid.

    Example:
        >>> import jax, jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     gradient = jax.grad(lambda x: 3 * jb.tap("grad/x", x))(1.0)
        >>> [(record.tag, float(record.value)) for record in records]
        [('grad/x', 3.0)]
    """
    arguments.check_tag(tag)
    every = arguments.check_every(tag, every)
    arguments.check_reduce(tag, reduce)
    surroundings = context.current()
    lanes = arguments.initial_lanes(tag, runs, surroundings)
    cadence = surroundings.every if every is None else every
    is_stack = reduce == "stack"
    kind = Composite.STACK if is_stack else Kind.SCALAR
    options = StackOptions() if is_stack else None
    target = named_target() or surroundings.target
    named = named_leaves(tag, x)
    leaves, structure = jax.tree.flatten(x)
    tapped = []
    for (name, _), leaf in zip(named, leaves, strict=True):
        leaf_tag = f"{surroundings.scope}{tag}/{name}" if name else surroundings.scope + tag
        spec = ReportSpec(
            kind, leaf_tag, reduce, cadence, options=options, lanes=lanes, target=target
        )
        is_tapped = _has_gradient(leaf) and not surroundings.silent
        tapped.append(_tapped(tag, spec, leaf) if is_tapped else leaf)
    if arguments.result_is_discarded():
        _warn_of_no_effect(tag)
    return jax.tree.unflatten(structure, tapped)


def _tapped(tag: str, spec: ReportSpec, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        arguments.check_usable(tag, leaf)
    try:
        # JAX turns numbers beyond the largest float32 into infinity.
        with np.errstate(over="ignore"):
            return tap_array(spec, leaf)
    except jax.errors.UnexpectedTracerError as error:
        raise arguments.escaped_tracer(tag) from error


def _warn_of_no_effect(tag: str) -> None:
    site = arguments.call_site()
    warn_once(
        ("unused tap", tag, site),
        f"tap {tag!r} ({site}) reports nothing, as its result is not used: it reports the gradient of what it returns. "
        "Go on with that: x = jaxboard.tap(tag, x).",
    )


def _has_gradient(leaf: object) -> bool:
    """Return whether a leaf is an array of floats, or a float. Others, such as functions, texts and Refs, are not."""
    if isinstance(leaf, jax.Ref):  # A traced one may be an instance of jax.Array, too.
        return False
    if isinstance(leaf, np.ndarray | np.generic):
        # JAX takes neither masked arrays, nor foreign byte orders, nor floats beyond 64 bits.
        dtype = leaf.dtype
        if isinstance(leaf, np.ma.MaskedArray) or not dtype.isnative or dtype.char in "gG":
            return False
    if isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return jnp.issubdtype(leaf.dtype, jnp.inexact)
    return isinstance(leaf, float | complex)
