"""``trace``: names for parts of a program, on the host and on the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr


@contextlib.contextmanager
def trace(name: str) -> Iterator[None]:
    """Name a block, or a function that it decorates, in profiles.

    In plain Python, the block is a span on its thread's line in the trace viewer. In traced code, the
    operations of the block carry the name (``jax.named_scope``), which the graph and memory viewers
    show; the span then covers the time of tracing. Names nest. Without a profile, a block costs a few
    microseconds.

    Args:
        name: the name of the block.

    Raises:
        UsageError: ``name`` is not a string, or is empty.

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
        raise UsageError(f"trace({safe_repr(name)}): expected a string, the name of the block.")
    with jax.profiler.TraceAnnotation(name), jax.named_scope(name):
        yield
