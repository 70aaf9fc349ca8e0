"""Forks wait, though not for ever, until no sink holds data that it hasn't flushed.

A forked child has a copy of what a sink's library had queued, and writes it a second time when it
exits.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref

_PATIENCE_SECS = 1.0

_locks: weakref.WeakSet[threading.Lock] = weakref.WeakSet()
_held: list[threading.Lock] = []


def wait_for(lock: threading.Lock) -> None:
    """Makes forks wait for a lock that is held while there is unflushed data."""
    _locks.add(lock)


def _before() -> None:
    _held.extend(lock for lock in list(_locks) if lock.acquire(timeout=_PATIENCE_SECS))


def _after() -> None:
    while _held:
        _held.pop().release()


with contextlib.suppress(AttributeError):  # Windows has no forks.
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_after)
