"""The options that a report inherits from the code around it while JAX traces: scope, cadence, silence.

They are kept in a JAX user context, which is part of every key of JAX's tracing and compilation caches. JAX
therefore traces a function anew in another scope, or without its reports. A thread-local variable of
our own would let JAX reuse the wrong program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxboard import _compat
from jaxboard._frame import Target
from jaxboard._trace import tag_prefix


class TraceContext(NamedTuple):
    """The options that apply to every report traced in this context.

    Attributes:
        scope: the prefix of tags.
        every: the cadence, in steps, of reports without a cadence of their own.
        silenced: whether jaxboard leaves out all reports.
        muted: whether a block of the user leaves them out.
        harvested: whether an instrumented function around this code collects the reports.
        runs: whether the lanes of a ``vmap`` are seed runs.
        target: the run that reports name; None if they go to the run of the call.
    """

    scope: str = ""
    every: int = 1
    silenced: bool = False
    muted: bool = False
    harvested: bool = False
    runs: bool = False
    target: Target | None = None

    @property
    def silent(self) -> bool:
        """True if all reports are left out."""
        return self.silenced or self.muted


DEFAULT = TraceContext()
_SILENT = TraceContext(silenced=True)

_NO_MESH = jax.sharding.Mesh(np.empty((), object), ())

_context: Any = jax.make_user_context(DEFAULT)


def current() -> TraceContext:
    """Return the active context of this thread, with the scopes of the current task."""
    value = _context.value
    if tag_prefix.usage.any:
        # JAX keeps its context for each thread. Another task, or a generator, may have set the scope.
        scope, target, muted = tag_prefix.prefix(), tag_prefix.target(), tag_prefix.is_muted()
        if (scope, target, muted) != (value.scope, value.target, value.muted):
            value = _set(value._replace(scope=scope, target=target, muted=muted))
    return value


def _set(value: TraceContext) -> TraceContext:
    """Make ``value`` the context of this thread until it is set again."""
    _context(value).__enter__()
    return value


def enter_scope(
    name: str, target: Target | None = None, *, mutes: bool = False
) -> tag_prefix.OpenScope:
    """Open a scope: for tags and their run, and in the keys of JAX's caches.

    Args:
        name: the prefix of tags, without the slash; "" for none.
        target: the run that reports name; None to keep the one around the scope.
        mutes: whether reports in the scope make nothing.
    """
    scope = tag_prefix.push(name, target, mutes=mutes)
    current()
    return scope


def leave_scope(scope: tag_prefix.OpenScope) -> None:
    """Close a scope."""
    tag_prefix.remove(scope)
    current()


def enter(context: TraceContext) -> contextlib.AbstractContextManager[None]:
    """Return a context manager that makes ``context`` the active one."""
    return _context(context)


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Make the active context that of jaxboard's own programs: without the user's, its mesh, and checks of results.

    With the user's context, JAX would compile a program for each scope. A mesh refuses arrays of other devices.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_context(DEFAULT))
        stack.enter_context(_compat.unchecked())
        if not jax.sharding.get_abstract_mesh().empty:
            # Under a vmap with spmd_axis_name, JAX keeps the mesh and raises.
            with contextlib.suppress(ValueError):
                stack.enter_context(jax.set_mesh(_NO_MESH))
        yield


def silenced() -> contextlib.AbstractContextManager[None]:
    """Return a context manager that leaves out all reports."""
    context = current()
    # Calls without a run are frequent, and changing a named tuple takes a microsecond.
    return _context(_SILENT if context is DEFAULT else context._replace(silenced=True))


@contextlib.contextmanager
def override(**changes: str | int) -> Iterator[None]:
    """Change the given fields of the active context in a ``with`` block."""
    with _context(current()._replace(**changes)):
        yield
