"""``scope``: a prefix for the tags of a block."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from jaxboard._emit import arguments
from jaxboard._trace import context
from jaxboard._trace.tag_prefix import OpenScope

P = ParamSpec("P")
R = TypeVar("R")


def scope(name: str) -> Scope:
    """Prefix the tags of a ``with`` block with ``name/``.

    The prefix holds in the current thread, in the current asyncio task, and in tasks that the block starts. A
    scope in the body of a generator holds while that body runs, not for its caller.

    If asyncio tasks with different scopes take turns on a thread, instrument the jitted functions that they call: JAX
    looks up a function that is only jitted without calling jaxboard, and may find the one that was traced in the scope
    of another task.

    Args:
        name: the prefix, without the slash. Nested scopes are joined.

    Raises:
        ReportError: ``name`` is not a string, is blank, is not UTF-8, or contains a traced value.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records, jb.scope("encoder"):
        ...     jb.scalar("norm", 1.0)
        >>> records[0].tag
        'encoder/norm'
    """
    arguments.check_tag(name)
    return Scope(name)


class Scope(contextlib.AbstractContextManager[None]):
    """The context manager, and decorator, that :func:`scope` returns. It may be entered several times."""

    def __init__(self, name: str):
        self._name = name
        self._entered: list[OpenScope] = []

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def in_scope(*args: P.args, **kwargs: P.kwargs) -> R:
            with Scope(self._name):
                return function(*args, **kwargs)

        return in_scope

    def __enter__(self) -> None:
        self._entered.append(context.enter_scope(self._name))

    def __exit__(self, *_: object) -> None:
        context.leave_scope(self._entered.pop())
