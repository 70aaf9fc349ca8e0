"""Scopes of Flax Linen modules: three blocks that report ``rms`` have three curves. Requires ``pip install 'jaxboard-tb[flax]'``."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Generator
from typing import Any

import flax.linen as nn

import jaxboard as jb

_around: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("module", default=())
"""The path of the module whose method runs."""


@contextlib.contextmanager
def scopes() -> Generator[None]:
    """Prefix the tags of a ``with`` block with the path of the Linen module that reports: ``encoder/block_1/rms``.

    Put it around ``init`` and ``apply``, inside or outside of the jitted function: the tags are chosen while JAX
    traces. The outermost module has no prefix. A module that is shared has the prefix of the method around its call, too.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.integrations import linen
        >>> from jaxboard.testing import capture
        >>> class Block(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         jb.scalar("rms", jnp.sqrt(jnp.mean(x**2)))
        ...         return 2 * x
        >>> model = nn.Sequential([Block(), Block()])
        >>> with capture() as records, linen.scopes():
        ...     y = model.apply({}, jnp.ones(3))
        >>> {record.tag: float(record.value) for record in records}
        {'layers_0/rms': 1.0, 'layers_1/rms': 2.0}
    """
    with nn.intercept_methods(_in_scope):
        yield


def _in_scope(
    method: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    path, around = tuple(context.module.path), _around.get()
    # A method that the module calls on itself, or setup(), is in the scope already.
    inner = path[len(around) :] if path[: len(around)] == around else path
    with contextlib.ExitStack() as stack:
        if inner:
            stack.enter_context(jb.scope("/".join(inner)))
            token = _around.set(path)
            stack.callback(_around.reset, token)
        return method(*args, **kwargs)
