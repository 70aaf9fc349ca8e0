"""Blocks that change the reports in them: ``scope``, a prefix of their tags, and ``silent``."""

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
    """Prefix the tags of a ``with`` block, or of a decorated function, with ``name/``.

    The prefix holds in the current thread, in the current asyncio task, and in tasks that the block starts. A
    scope in the body of a generator holds while that body runs, not for its caller.

    If asyncio tasks with different scopes take turns on a thread, instrument the jitted functions that they call: JAX
    looks up a function that is only jitted without calling jaxboard, and may find the one that was traced in the scope
    of another task.

    Args:
        name: the prefix, without the slash. Nested scopes are joined: ``encoder/layer``.

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


def silent() -> Scope:
    """Leave out all reports of a ``with`` block, and the steps of instrumented functions that it calls.

    Use it around calls that are not part of the training, such as ``model.init``, ``tabulate`` or a warm-up, or as a
    decorator. JAX traces functions anew in the block, without their reports, as it does for a scope; the next call outside
    uses the program with reports. To compile that program ahead of time, call ``precompile`` of the instrumented function
    instead. Reports that are already on their way when the block begins still arrive. Threads, tasks and generators have
    blocks of their own, as with :func:`scope`.

    Example:
        >>> import jax, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> @jb.instrument
        ... @jax.jit
        ... def step(x):
        ...     jb.scalar("x", x)
        ...     return x + 1
        >>> with capture() as records:
        ...     with jb.silent():
        ...         x = step(0.0)
        ...     x = step(x)
        >>> [(record.step, float(record.value)) for record in records]
        [(0, 1.0)]
    """
    return Scope("", mutes=True)


class Scope(contextlib.AbstractContextManager[None]):
    """The context manager, and decorator, that both functions return. It may be entered several times.

    Args:
        name: the prefix, without the slash; "" for none.
        mutes: whether the reports in the block are left out.
    """

    def __init__(self, name: str, *, mutes: bool = False):
        self._name = name
        self._mutes = mutes
        self._entered: list[OpenScope] = []

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def in_scope(*args: P.args, **kwargs: P.kwargs) -> R:
            with Scope(self._name, mutes=self._mutes):
                return function(*args, **kwargs)

        return in_scope

    def __enter__(self) -> None:
        self._entered.append(context.enter_scope(self._name, mutes=self._mutes))

    def __exit__(self, *_: object) -> None:
        context.leave_scope(self._entered.pop())
