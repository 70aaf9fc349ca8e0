"""``trace``: one name for a piece of a program, on the host and on the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from jaxboard._errors import ReportError


@contextlib.contextmanager
def trace(name: str) -> Iterator[None]:
    """Names a block, or a function that it decorates, in profiles.

    In plain Python the block is a span on its thread's line in the trace viewer. In traced code its
    operations carry the name (``jax.named_scope``), which the graph viewer and the memory viewer show,
    and the span is that of tracing. Names nest. Without a profile it costs a few microseconds.

    Args:
        name: what the block is called.

    Raises:
        ReportError: ``name`` is not a string, or empty.

    Example:
        >>> import jax, jaxboard as jb
        >>> @jax.jit
        ... @jb.trace("encoder")
        ... def encode(x):
        ...     with jb.trace("norm"):
        ...         return x / x.sum()
        >>> "encoder/norm/" in encode.lower(jax.numpy.ones(3)).compile().as_text()
        True
    """
    if not isinstance(name, str) or not name.strip():
        raise ReportError(f"trace({name!r}): expected a string that names the block.")
    with jax.profiler.TraceAnnotation(name), jax.named_scope(name):
        yield
