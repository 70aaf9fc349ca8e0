"""The verb ``graph``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxboard._emit import arguments
from jaxboard._emit.reporting import report_record
from jaxboard._log import describe, logger
from jaxboard._safe_repr import describe_object
from jaxboard.records import Graph, Kind


def graph(function: Callable[..., Any], /, *args: Any, tag: str = "", **kwargs: Any) -> None:
    """Report the operations of a function, for the Graphs dashboard. Only for plain Python.

    The function is traced, not run. Its operations are nested by :func:`jax.named_scope`, by the modules of Flax, and
    by what JAX makes of the function: ``jvp`` is the forward pass of a gradient, ``transpose_jvp`` the backward pass, and a
    loop, a branch or a custom derivative rule has a scope of its own. Each operation has its shapes, its dtypes, an
    estimate of its floating-point operations, and its sharding, if it has an explicit one. Reports are operations
    named ``report``.

    TensorBoard draws a few thousand operations quickly. In a larger graph, scopes that are equal to another one, and
    then the innermost ones, become one node each, and a log line has their number.

    Args:
        function: any function of JAX arrays; it may be jitted and instrumented.
        *args: its arguments. In place of an array, :class:`jax.ShapeDtypeStruct` is enough.
        tag: the name of the graph. Without one, it is the graph of the run, which the dashboard shows first; a later
            one replaces it.
        **kwargs: its keyword arguments.

    Raises:
        ReportError: JAX is tracing, JAX cannot trace the function, or an argument is invalid.

    Example:
        >>> import jax, jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> def model(w, x):
        ...     with jax.named_scope("layer"):
        ...         return jnp.tanh(x @ w)
        >>> with capture() as records:
        ...     jb.graph(model, jnp.ones((3, 2)), jnp.ones(3))
        >>> [node.name for node in records[0].value.nodes]
        ['inputs/w', 'inputs/x', 'layer/dot_general', 'layer/tanh', 'outputs/value']
    """
    if tag != "":
        arguments.check_tag(tag)
    if not callable(function):
        got = describe_object(function)
        raise arguments.report_error(tag, f"expected a function, got {got}.")
    name = getattr(function, "__name__", type(function).__name__)

    def make_graph() -> Graph:
        # Imported when the first graph is reported, as most programs report none.
        from jaxboard._graph import graph_of

        try:
            value, left_out = graph_of(function, args, kwargs)
        except Exception as error:
            raise arguments.report_error(
                tag, f"JAX cannot trace {name}: {describe(error)}"
            ) from error
        if left_out:
            logger.warning("jaxboard: graph of %s: %s", name, left_out)
        return value

    report_record("graph", Kind.GRAPH, tag, make_graph, step=None, every=1)
