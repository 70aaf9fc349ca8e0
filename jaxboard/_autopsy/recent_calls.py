"""The recent calls of instrumented functions, with their arguments, until their reports are known to be finite."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable

import jax

from jaxboard._host import observers
from jaxboard._host.observers import Call, InstrumentedFunction
from jaxboard._types import PyTree

_SHARE = 0.1
"""The share of a device's memory that arguments may keep."""

_MAX_BYTES = 2**30
"""Most bytes that they may keep on a device whose memory is not known."""


class RecentCalls:
    """An observer that keeps calls, the oldest first. Their arguments stay in memory, unless they were donated.

    Calls that donate are not kept.

    Args:
        is_active: returns whether the run that is active on the calling thread is the one to keep calls for.

    Attributes:
        finite_until: the step before which everything is known to be finite. Earlier calls are released.
    """

    def __init__(self, is_active: Callable[[], bool]):
        self.finite_until = 0
        self._is_active = is_active
        self._calls: deque[tuple[Call, int]] = deque()
        self._nbytes = 0
        self._sizes: dict[InstrumentedFunction, int] = {}
        self._meshes: dict[InstrumentedFunction, jax.sharding.Mesh] = {}
        self._most: float | None = None

    def start(self) -> None:
        """Observe calls."""
        observers.add(self)

    def stop(self) -> None:
        """Stop observing, and release the arguments."""
        observers.remove(self)
        self._calls = deque()

    def until(self, step: int) -> list[Call]:
        """Return the calls that are kept, up to a step, the last one first."""
        calls = [call for call, _ in list(self._calls) if call.step is not None]
        return [call for call in reversed(calls) if call.step is not None and call.step <= step]

    def in_its_mesh(self, call: Call) -> contextlib.AbstractContextManager[object]:
        """Return a block in which the mesh is set that the program had set at the first call of a function."""
        mesh = self._meshes.get(call.function)
        return contextlib.nullcontext() if mesh is None or mesh.empty else jax.set_mesh(mesh)

    def begin(self, call: Call) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""

    def end(self, call: Call, result: PyTree) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        if call.step is None or not self._is_active():
            return
        size = self._sizes.get(call.function)
        if size is None:
            size = self._sizes[call.function] = _size(call)
            self._meshes[call.function] = jax.sharding.get_mesh()
        if size < 0:
            return
        self._calls.append((call, size))
        self._nbytes += size
        if self._most is None:
            self._most = _limit()
        while self._calls and (
            self._nbytes > self._most or (self._calls[0][0].step or 0) < self.finite_until
        ):
            self._nbytes -= self._calls.popleft()[1]


def _size(call: Call) -> int:
    """Return the bytes of the arguments of a call; -1 if it donated some of them."""
    leaves = jax.tree.leaves((call.args, call.kwargs))
    if any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves):
        return -1
    return sum(getattr(leaf, "nbytes", 0) for leaf in leaves)


def _limit() -> float:
    statistics = jax.local_devices()[0].memory_stats() or {}
    total = statistics.get("bytes_limit")
    return _SHARE * total if total else _MAX_BYTES
