"""Where the reports of a run arrive, and which run that is.

Callbacks run on threads of XLA's, where thread-locals and context variables are unset, so the run in
force is found through one slot that the whole process shares.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from jaxboard._frame import Frame, Packed
from jaxboard._process.fork import Stage, on_fork

if TYPE_CHECKING:
    from jaxboard._host.buffer import Buffer


class Channel:
    """The step counter of a run, and its buffer. Safe to use from any thread.

    Attributes:
        put: ``put(item, may_wait=True)`` of the buffer; see :meth:`Buffer.put`.
        name: which run this is, for messages.
        windows: what instrumented functions accumulate on the device for this run, by function, and the
            last step that is in it.
        before_close: called before the run closes, by its closing thread: each waits until what it
            stands for has put its reports, or has no more to put.
    """

    __slots__ = ("_current", "_lock", "_next", "before_close", "name", "put", "windows")

    def __init__(self, buffer: Buffer, step: int = 0, name: str = "run"):
        self._lock = threading.Lock()
        self._next = step
        self._current = step
        self.name = name
        self.windows: dict[Any, tuple[Packed, int]] = {}
        self.before_close: list[Callable[[], object]] = []
        # The buffer's own method rather than one that calls it: this is the training loop's way.
        self.put = buffer.put

    def begin(self, advance: bool, step: int | None = None) -> int:
        """The step that a call belongs to, which the call takes if it advances.

        Args:
            advance: whether it does.
            step: the step of the call, if the user counts steps. The run's count follows it.
        """
        if step is not None:
            with self._lock:
                self._current = step
                self._next = step + 1 if advance else self._next
            return step
        if not advance:
            return self._current
        with self._lock:
            step = self._next
            self._current = step
            self._next = step + 1
        return step

    def advance_to(self, step: int) -> None:
        """The run has come to ``step``, if it was not there before."""
        with self._lock:
            if step >= self._next:
                self._current, self._next = step, step + 1

    def put_window(self, accumulators: Packed | None, step: int | None = None) -> None:
        """Hands accumulators over to the host before their time, where windows are merged too.

        Args:
            accumulators: what they are; None for none.
            step: the last one that is in them; by default the run's.
        """
        if accumulators is not None:
            arrays = dict(accumulators.arrays)  # fetching puts NumPy's arrays in their place
            at = self._current if step is None else step
            frame = Frame(accumulators.plan, arrays, at, time.time(), open=True)
            self.put(frame)

    def end_windows(self) -> None:
        """Hands over all windows that are not over."""
        while self.windows:
            _, (accumulators, last) = self.windows.popitem()
            self.put_window(accumulators, last)

    @property
    def current(self) -> int:
        """The last step taken, or :attr:`step` if none was taken since that was set."""
        return self._current

    @property
    def step(self) -> int:
        """The step that the next advancing call takes."""
        return self._next

    @step.setter
    def step(self, step: int) -> None:
        with self._lock:
            self._next = step
            self._current = step


class _Slot:
    """The open channels, the innermost last; ``top`` is that one."""

    __slots__ = ("lock", "stack", "top")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stack: list[Channel] = []
        self.top: Channel | None = None


_slot = _Slot()
_chosen: contextvars.ContextVar[Channel | None] = contextvars.ContextVar("channel", default=None)


def active() -> Channel | None:
    """The channel that reports go to now, or None while no run is open."""
    chosen = _chosen.get()
    return _slot.top if chosen is None else chosen


@contextlib.contextmanager
def directed(channel: Channel) -> Iterator[None]:
    """What this thread reports in a block goes to ``channel``, whichever is the active one."""
    token = _chosen.set(channel)
    try:
        yield
    finally:
        _chosen.reset(token)


def activate(channel: Channel) -> None:
    """Makes ``channel`` the active one; the one before it is again when this is deactivated."""
    with _slot.lock:
        _slot.stack = [*(other for other in _slot.stack if other is not channel), channel]
        _slot.top = channel


def deactivate(channel: Channel) -> None:
    """Takes ``channel`` out, wherever it stands. Does nothing if it isn't there."""
    with _slot.lock:
        _slot.stack = [other for other in _slot.stack if other is not channel]
        _slot.top = _slot.stack[-1] if _slot.stack else None


def _forget() -> None:
    # A forked child has no flusher: threads don't survive a fork. What it put here would only wait,
    # and the lock may have been held by a thread that is no more. The slot's identity stays: others
    # may have bound it.
    _slot.lock = threading.Lock()
    _slot.stack = []
    _slot.top = None


on_fork(Stage.STATE, in_child=_forget)
