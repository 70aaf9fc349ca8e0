"""Hooks around forks: the one place that registers with :func:`os.register_at_fork`.

Data loaders fork the training process. The child inherits jaxboard's locks, queues, pipe and list of
runs, but none of its threads. Each module with such state registers hooks here, in one of these stages:

===========  =====================================================  ====================================
stage        before the fork                                        after the fork
===========  =====================================================  ====================================
``WRITES``   wait until no sink holds unflushed data                let the sinks write again
``QUEUES``   flush what a library still holds in a queue
``SIGNALS``  block SIGTERM and SIGHUP                               child: drop the handlers, their pipe;
                                                                    both: unblock the signals
``STATE``                                                           child: forget the parent's runs
===========  =====================================================  ====================================

Before a fork the stages run from top to bottom, after it from bottom to top, in parent and child. The
child therefore forgets the parent's runs before a signal can reach it. Windows has no forks, and no
hook ever runs there.
"""

from __future__ import annotations

import bisect
import enum
import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from jaxboard._log import describe, logger

Hook: TypeAlias = Callable[[], None]


class Stage(enum.IntEnum):
    """The stages of a fork, in the order in which they run before it."""

    WRITES = 1
    QUEUES = 2
    SIGNALS = 3
    STATE = 4


class _Hooks(NamedTuple):
    stage: Stage
    before: Hook | None
    in_parent: Hook | None
    in_child: Hook | None


_registered: list[_Hooks] = []


def on_fork(
    stage: Stage,
    *,
    before: Hook | None = None,
    in_parent: Hook | None = None,
    in_child: Hook | None = None,
) -> None:
    """Run functions around every fork of this process.

    A hook that raises is logged; the remaining hooks run and the fork takes place.

    Args:
        stage: when the hooks run, relative to the others. Within one stage ``before`` hooks run in
            the order of registration, the others in the opposite order.
        before: runs before the fork, on the forking thread.
        in_parent: runs after the fork in the parent.
        in_child: runs after the fork in the child, which has no other thread.
    """
    # One call into C: the list is complete and sorted whenever another thread forks.
    hooks = _Hooks(stage, before, in_parent, in_child)
    bisect.insort_right(_registered, hooks, key=operator.itemgetter(0))


def _call(hooks: list[Hook | None]) -> None:
    for hook in hooks:
        try:
            if hook is not None:
                hook()
        except BaseException as fault:  # CPython ignores it too.
            logger.error("jaxboard: a fork hook failed: %s", describe(fault))


def _before() -> None:
    _call([hooks.before for hooks in _registered])


def _in_parent() -> None:
    _call([hooks.in_parent for hooks in reversed(_registered)])


def _in_child() -> None:
    _call([hooks.in_child for hooks in reversed(_registered)])


_modules_at_fork: set[str] = set()


def was_imported_before_fork(module: str) -> bool:
    """Return whether this process is a fork of a process that had imported a module.

    A library that computes on threads of its own blocks forever in such a process: the child has none
    of these threads.
    """
    return module in _modules_at_fork


on_fork(Stage.STATE, in_child=lambda: _modules_at_fork.update(sys.modules))


if hasattr(os, "register_at_fork"):  # Not on Windows.
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)


# --- WRITES: forks wait for sinks. ----------------------------------------------------------------
# A forked child has a copy of what a sink's library has queued and writes it a second time when it
# exits.

_PATIENCE_SECS = 1.0
"""The longest time that a fork waits for one sink."""

_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_acquired: list[threading.Lock] = []


def wait_for(lock: threading.Lock) -> None:
    """Make forks wait for a lock that its owner holds while a sink has unflushed data."""
    _locks.add(lock)


def _acquire_locks() -> None:
    _acquired.extend(lock for lock in list(_locks) if lock.acquire(timeout=_PATIENCE_SECS))


def _release_locks() -> None:
    while _acquired:
        _acquired.pop().release()


on_fork(Stage.WRITES, before=_acquire_locks, in_parent=_release_locks, in_child=_release_locks)
