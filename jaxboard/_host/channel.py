"""The channel of a run, which its reports go through, and the slot that holds the active channel.

Host callbacks run on XLA's threads, where thread-locals and context variables are unset. The active run is
therefore found through one slot that the whole process shares.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
from collections.abc import Callable, Generator, Hashable
from typing import TYPE_CHECKING

from jaxboard._frame import Frame, Packed
from jaxboard._process.fork import Stage, on_fork

if TYPE_CHECKING:
    from jaxboard._host.buffer import Buffer


class Channel:
    """The step counter of a run, and the way into its buffer. Safe to use from any thread.

    Args:
        buffer: the buffer of the run.
        step: the first step.
        name: the run, for messages.

    Attributes:
        put: ``put(item, may_wait=True)`` of the buffer; see :meth:`Buffer.put`.
        name: the run, for messages.
        windows: the windows that instrumented functions accumulate on the device for this run, by function,
            each with the last step that is in it.
        before_close: functions that the closing thread calls before the run closes. Each blocks until
            its producer has submitted everything.
        warned: the keys of the warnings that this run has issued.
    """

    __slots__ = (
        "_current",
        "_evaluated",
        "_first",
        "_lock",
        "_next",
        "_was_given_step",
        "before_close",
        "name",
        "put",
        "warned",
        "windows",
    )

    def __init__(self, buffer: Buffer, step: int = 0, name: str = "run"):
        self._lock = threading.Lock()
        self._first = step
        self._next = step
        self._current = step
        self._evaluated = False
        self._was_given_step = False
        self.name = name
        self.warned: set[Hashable] = set()
        self.windows: dict[Hashable, tuple[Packed, int]] = {}
        self.before_close: list[Callable[[], object]] = []
        # The buffer's method itself, as this is on the training loop's path.
        self.put = buffer.put

    def begin(self, advance: bool, step: int | None = None) -> int:
        """Return the step that a call belongs to.

        Args:
            advance: whether the call advances the run by one step. Otherwise it belongs to the last step.
            step: the step of the call, if the user counts steps. The run's counter follows it.
        """
        if step is not None:
            with self._lock:
                self._current = step
                self._next = step + 1 if advance else self._next
                self._was_given_step = True
            return step
        if not advance:
            self._evaluated = True
            return self._current
        with self._lock:
            step = self._next
            self._current = step
            self._next = step + 1
        return step

    def advance_to(self, step: int) -> None:
        """Advance the run to at least ``step``."""
        with self._lock:
            if step >= self._next:
                self._current, self._next = step, step + 1

    def put_window(self, accumulators: Packed | None, step: int | None = None) -> None:
        """Put the accumulators of an incomplete window. The host merges them with the rest of it.

        Args:
            accumulators: the accumulators; None does nothing.
            step: the last step that is in them; by default the run's last step.
        """
        if accumulators is not None:
            arrays = dict(accumulators.arrays)  # A copy: fetching replaces its values.
            step = self._current if step is None else step
            self.put(Frame(accumulators.plan, arrays, step, time.time(), open=True))

    def end_windows(self) -> None:
        """Put the accumulators of every incomplete window."""
        while self.windows:
            _, (accumulators, last) = self.windows.popitem()
            self.put_window(accumulators, last)

    @property
    def has_steps(self) -> bool:
        """True if the program counts steps: one was set, or an instrumented function was called."""
        return (
            self._evaluated
            or self._was_given_step
            or not self._first == self._current == self._next
        )

    @property
    def current(self) -> int:
        """The last step taken, or :attr:`step` if no step was taken since that was set."""
        return self._current

    @property
    def step(self) -> int:
        """The step of the next call that advances."""
        return self._next

    @step.setter
    def step(self, step: int) -> None:
        with self._lock:
            self._next = step
            self._current = step
            self._was_given_step = True


class _Slot:
    """The stack of open channels, with the active one at its ``top``."""

    __slots__ = ("lock", "stack", "top")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.stack: list[Channel] = []
        self.top: Channel | None = None


_slot = _Slot()
_override: contextvars.ContextVar[Channel | None] = contextvars.ContextVar("channel", default=None)


def active() -> Channel | None:
    """Return the channel that reports go to, or None while no run is open."""
    override = _override.get()
    return _slot.top if override is None else override


@contextlib.contextmanager
def directed(channel: Channel) -> Generator[None]:
    """Send the reports that this thread makes in a ``with`` block to ``channel`` instead of the active one."""
    token = _override.set(channel)
    try:
        yield
    finally:
        _override.reset(token)


def activate(channel: Channel) -> None:
    """Make ``channel`` the active one, until it is deactivated."""
    with _slot.lock:
        _slot.stack = [*(other for other in _slot.stack if other is not channel), channel]
        _slot.top = channel


def deactivate(channel: Channel) -> None:
    """Remove ``channel`` from the stack; a no-op if it is not in it."""
    with _slot.lock:
        _slot.stack = [other for other in _slot.stack if other is not channel]
        _slot.top = _slot.stack[-1] if _slot.stack else None


def _forget() -> None:
    # Threads do not survive a fork, so a forked child has no flusher to take its reports, and a thread
    # that is gone may hold the lock. The slot object stays: other modules may refer to it.
    _slot.lock = threading.Lock()
    _slot.stack = []
    _slot.top = None


on_fork(Stage.STATE, in_child=_forget)
