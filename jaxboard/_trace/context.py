"""What surrounds a report while its function is traced: scope, cadence, what is muted.

It is a JAX user context, which JAX makes part of every key of its tracing and compilation caches. A
function that was traced in one scope, or with its histograms muted, is traced anew in another; a
thread-local of our own would leave JAX to reuse the wrong program.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from jaxboard._trace import tag_prefix


class TraceContext(NamedTuple):
    """The settings that reach a report from around it.

    Attributes:
        scope: the prefix of tags.
        every: the cadence of reports that have none of their own, in steps.
        muted: the cadences whose reports are left out of the program.
        silent: whether all reports are.
        harvested: whether a function around this one collects what is reported.
        runs: whether lanes of a ``vmap`` are runs of their own.
    """

    scope: str = ""
    every: int = 1
    muted: frozenset[int] = frozenset()
    silent: bool = False
    harvested: bool = False
    runs: bool = False


_context: Any = jax.make_user_context(TraceContext())

DEFAULT = TraceContext()


def current() -> TraceContext:
    """Return what surrounds the code that runs now: on this thread, in this task."""
    value = _context.value
    if tag_prefix.usage.any:
        # JAX keeps its context for each thread. Another task, or a generator, may have set the scope.
        scope = tag_prefix.prefix()
        if scope != value.scope:
            value = _set(value._replace(scope=scope))
    return value


def _set(value: TraceContext) -> TraceContext:
    """Make ``value`` the context of this thread until it is set again."""
    _context(value).__enter__()
    return value


def enter_scope(name: str) -> tag_prefix.OpenScope:
    """Open a scope: for tags, and in the keys of JAX's caches."""
    scope = tag_prefix.push(name)
    current()
    return scope


def leave_scope(scope: tag_prefix.OpenScope) -> None:
    """Close a scope."""
    tag_prefix.remove(scope)
    current()


@contextlib.contextmanager
def changed(**changes: Any) -> Iterator[None]:
    """Surrounds a block with the present ambient, some of its fields changed."""
    with _context(current()._replace(**changes)):
        yield


def entered(ambient: TraceContext) -> Any:
    """A context manager that surrounds a block with ``ambient``."""
    return _context(ambient)
