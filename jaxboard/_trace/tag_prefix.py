"""The open blocks around a report, separately for each thread, asyncio task and generator.

A scope is a prefix of tags, a child run is the target of reports that JAX traces, and a silent block leaves reports
out. A context variable holds the open blocks, so each task has its own copy.
"""

from __future__ import annotations

import contextvars

from jaxboard._blocks import OpenBlock, current_generator
from jaxboard._frame import Target


class OpenScope(OpenBlock):
    """A scope, or the block of a child run in traced code.

    Attributes:
        name: the prefix, without the slash; "" for none.
        target: the run that reports name, if the block sets it.
        mutes: whether reports in the block make nothing.
    """

    __slots__ = ("mutes", "name", "target")

    def __init__(self, name: str, target: Target | None, *, mutes: bool):
        super().__init__(current_generator())
        self.name = name
        self.target = target
        self.mutes = mutes


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
    return "".join([f"{s.name}/" for s in scopes if s.name and s.applies]) if scopes else ""


def target() -> Target | None:
    """Return the run that the innermost block of a child run names."""
    targets = [s.target for s in _open.get() if s.target is not None and s.applies]
    return targets[-1] if targets else None


def is_muted() -> bool:
    """Return whether a block around this code leaves out all reports."""
    return any(s.mutes and s.applies for s in _open.get())


def push(name: str, target: Target | None, *, mutes: bool) -> OpenScope:
    """Open a scope in the current context."""
    usage.any = True
    scope = OpenScope(name, target, mutes=mutes)
    # Scopes that were closed in another context are still in this one.
    _open.set((*(other for other in _open.get() if not other.ended), scope))
    return scope


def remove(scope: OpenScope) -> None:
    """Close a scope, in whichever context it was opened."""
    scopes = _open.get()
    scope.end(is_known=scope in scopes)
    _open.set(tuple(other for other in scopes if other is not scope))
