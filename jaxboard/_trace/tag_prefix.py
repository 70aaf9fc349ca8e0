"""The prefix that open scopes put before tags, separate for each thread, asyncio task and generator.

A context variable holds the open scopes: each task has its own copy. Generators share the variable with their
caller, so a scope that a generator's body opened also remembers the frame of that body. It counts only while
the frame runs.
"""

from __future__ import annotations

import contextlib
import contextvars
import inspect
import os
import sys
from types import FrameType

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


class OpenScope:
    """A scope that was entered and not left.

    Attributes:
        name: the prefix, without the slash.
        generator: the frame of the generator whose body entered the scope, if a generator did.
        ended: whether the scope was left in a context that does not know it.
    """

    __slots__ = ("ended", "generator", "name")

    def __init__(self, name: str, generator: FrameType | None):
        self.name = name
        self.generator = generator
        self.ended = False

    @property
    def applies(self) -> bool:
        """True unless the scope has ended or its generator is suspended: a frame that runs has a caller."""
        generator = self.generator
        return not self.ended and (generator is None or generator.f_back is not None)


class _Usage:
    """A flag: whether any scope was entered in this process. Programs without scopes skip all checks."""

    __slots__ = ("any",)

    def __init__(self) -> None:
        self.any = False


usage = _Usage()
_open: contextvars.ContextVar[tuple[OpenScope, ...]] = contextvars.ContextVar("scopes", default=())


def prefix() -> str:
    """Return the prefix of tags that are reported now."""
    scopes = _open.get()
    return "".join([f"{scope.name}/" for scope in scopes if scope.applies]) if scopes else ""


def push(name: str) -> OpenScope:
    """Open a scope in the current context."""
    usage.any = True
    scope = OpenScope(name, _generator_that_enters())
    # Scopes that were closed in another context are still in this one.
    _open.set((*(other for other in _open.get() if not other.ended), scope))
    return scope


def remove(scope: OpenScope) -> None:
    """Close a scope, in whichever context it was opened."""
    scopes = _open.get()
    # A task that was started in the block keeps the prefix. Without a task, nothing may.
    scope.ended = scope.generator is not None or scope not in scopes
    scope.generator = None
    _open.set(tuple(other for other in scopes if other is not scope))


def _generator_that_enters() -> FrameType | None:
    """Return the frame of the generator whose body has the ``with`` statement; None if a function has it.

    The generator of a ``@contextlib.contextmanager`` stands for its caller: it is suspended during the block.
    """
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (the documented way)
    while frame is not None:
        if _is_machinery(frame):
            frame = frame.f_back
        elif not frame.f_code.co_flags & _GENERATOR:
            return None
        elif frame.f_back is not None and frame.f_back.f_code.co_filename == contextlib.__file__:
            frame = frame.f_back
        else:
            return frame
    return None


def _is_machinery(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    return file == contextlib.__file__ or file.startswith(_PACKAGE)
