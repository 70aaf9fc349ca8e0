"""The time at which the device finishes a call, without waiting for it.

A program on a device ends between two calls of the training loop, unnoticed. ``is_ready`` shows only whether it has
ended. A thread asks often, but only for a few calls.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Protocol, cast

import jax

from jaxboard._types import PyTree

_SMALL_BYTES = 2**16

_MAX_NODES = 64
"""Nodes of a result that are searched for an array."""

_SHORTEST_PAUSE = 0.0002
_LONGEST_PAUSE = 0.05
_JOIN_SECS = 1.0
_PRECISION = 0.04
"""A watched call is asked again after this share of the time that it has taken so far."""


class Awaited(Protocol):
    """A result of a call, such as a ``jax.Array``."""

    def is_ready(self) -> bool:
        """Return whether it was computed."""
        ...


def array_of(result: PyTree) -> jax.Array | None:
    """Return an array of a result; None if there is none among the nodes that are searched.

    All arrays of a program's result are ready at the same time. The last ones are searched first: a training step
    usually returns its state, which is large and donated to the next step, before its loss.
    """
    node = result
    while isinstance(node, tuple) and node:
        node = cast("tuple[PyTree, ...]", node)[-1]
    if isinstance(node, jax.Array):  # The usual case, in a third of the time.
        return node
    nodes: list[PyTree] = [result]
    for _ in range(_MAX_NODES):
        if not nodes:
            return None
        node = nodes.pop()
        if isinstance(node, jax.Array):
            return node
        if isinstance(node, dict):
            nodes += list(cast("dict[object, PyTree]", node).values())
        elif isinstance(node, list | tuple):
            nodes += list(cast("list[PyTree]", node))
        elif node is not None and not isinstance(node, int | float | str):
            nodes += _children(node)
    return None


def _children(node: PyTree) -> list[PyTree]:
    """Return the children of a node whose class is registered with JAX."""
    try:
        flat = jax.tree_util.default_registry.flatten_one_level(node)
    except Exception:  # The user's class fails, or none is registered.
        return []
    return [] if flat is None else list(flat[0])


def is_ready(awaited: Awaited | None) -> bool | None:
    """Return whether the device has computed a result; None if it no longer exists."""
    if awaited is None:
        return None
    try:
        return awaited.is_ready()
    except Exception:  # It was donated.
        return None


class WatchedCall:
    """A call that the thread watches.

    Args:
        result: its result. The watch keeps it alive until it ends, if it is small.
        began: when it returned.

    Attributes:
        busy_until: the last time at which the result was not ready.
        ready_at: the first time at which it was ready; None if that is not known.
        is_over: whether the next call has begun, which ends the watch.
    """

    __slots__ = ("began", "busy_until", "is_over", "ready_at", "result")

    def __init__(self, result: Awaited, began: float):
        is_small = getattr(result, "nbytes", 0) <= _SMALL_BYTES
        self.result: Callable[[], Awaited | None] = (
            (lambda: result) if is_small else weakref.ref(result)
        )
        self.began = self.busy_until = began
        self.ready_at: float | None = None
        self.is_over = False


class ReadinessWatch:
    """A thread that watches one call at a time. It asks, and never waits for a device.

    Args:
        clock: returns seconds, like ``time.perf_counter``.
    """

    def __init__(self, clock: Callable[[], float]):
        self._clock = clock
        self._call: WatchedCall | None = None
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, result: Awaited, began: float) -> WatchedCall | None:
        """Watch a call that has just returned; return None if another one is being watched."""
        if self._call is not None or self._stopped.is_set():
            return None
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._loop, name="jaxboard readiness", daemon=True
            )
            self._thread.start()
        call = self._call = WatchedCall(result, began)
        self._wake.set()
        return call

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_JOIN_SECS)

    def _loop(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if self._stopped.is_set():
                return
            call = self._call
            if call is not None:
                self._observe(call)
                call.result = lambda: None
                self._call = call = None

    def _observe(self, call: WatchedCall) -> None:
        while not call.is_over and not self._stopped.is_set():
            ready = is_ready(call.result())
            if ready is None:
                return
            now = self._clock()
            if ready:
                call.ready_at = now
                return
            call.busy_until = now
            pause = max(_SHORTEST_PAUSE, _PRECISION * (now - call.began))
            self._stopped.wait(min(pause, _LONGEST_PAUSE))
