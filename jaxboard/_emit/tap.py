"""``tap``: the gradient that flows back through a value."""

from __future__ import annotations

from typing import Literal, TypeVar

import jax
import jax.numpy as jnp

from jaxboard._emit import arguments, verbs
from jaxboard._frame import ReportSpec
from jaxboard._trace import context
from jaxboard._trace.tap_primitives import tap as tapped
from jaxboard.records import Kind

Tree = TypeVar("Tree")


def tap(
    tag: str,
    x: Tree,
    *,
    every: int | None = None,
    reduce: str = "mean",
    runs: Literal["vmap", False] | None = None,
) -> Tree:
    """Returns ``x``, and reports the norm of the gradient that flows back through it.

    The norm is the square root of the sum of squares, of each leaf on its own, and of each lane of a
    ``vmap``. Where nobody differentiates in reverse, or no gradient reaches ``x``, nothing is reported. Of a
    gradient of a gradient, the inner one is.

    Args:
        tag: its name; of a pytree, the first part of the names of its leaves.
        x: an array or a pytree. Leaves that hold no floats have no gradient, and pass.
        every: see :func:`scalar`.
        reduce: how several in one step (layers of a scan, lanes) become one; see :func:`scalar`.
        runs: see :func:`scalar`.

    Returns:
        ``x``. Neither results nor gradients change.

    Raises:
        ReportError: an argument is not what is said here.

    Example:
        >>> import jax, jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     gradient = jax.grad(lambda x: 3 * jb.tap("grad/x", x))(1.0)
        >>> [(record.tag, float(record.value)) for record in records]
        [('grad/x', 3.0)]
    """
    arguments.check_tag(tag)
    arguments.check_every(tag, every)
    arguments.check_reduce(tag, reduce)
    lanes = arguments.lanes(tag, runs)
    around = context.current()
    cadence = around.every if every is None else every
    leaves, structure = jax.tree.flatten(x)
    # A list of numbers is one array to the other verbs; here each has a gradient of its own.
    named = tuple(x) if isinstance(x, list) else x
    names = [name for name, _ in verbs.leaves(tag, named)]
    passed = []
    for name, leaf in zip(names, leaves, strict=True):
        place = f"{around.scope}{tag}/{name}" if name else around.scope + tag
        kind = Kind.STACK if reduce == "stack" else Kind.SCALAR
        spec = ReportSpec(kind, place, reduce, cadence, lanes=lanes)
        left_out = around.silent or (cadence in around.muted and not spec.windowed)
        has_gradient = jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
        passed.append(tapped(spec, leaf) if has_gradient and not left_out else leaf)
    return jax.tree.unflatten(structure, passed)
