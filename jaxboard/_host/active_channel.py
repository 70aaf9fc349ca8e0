"""The choice of the active channel.

A thread or an asyncio task that opened or entered a run reports to it: context variables hold its channels. All
other threads, host callbacks on XLA's threads among them, report to the run of the process, which one slot holds.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections.abc import Sequence
from types import FrameType

from jaxboard._blocks import OpenBlock, current_generator
from jaxboard._frame import Frame, Number, Observation, Plan, Target
from jaxboard._host.channel import Channel, open_channels, set_open
from jaxboard._host.lost import await_callbacks
from jaxboard._process.fork import Stage, on_fork
from jaxboard._types import Array
from jaxboard.records import Record


class Entered(OpenBlock):
    """A channel that a thread or task activated, or entered in a block.

    Attributes:
        channel: the channel.
        in_slot: whether host callbacks find the channel in the slot.
    """

    __slots__ = ("channel", "in_slot")

    def __init__(self, channel: Channel, generator: FrameType | None = None):
        super().__init__(generator)
        self.channel = channel
        self.in_slot = False


class _Slot:
    """The open channels of the process.

    Attributes:
        lock: guards the attributes below. Reading one of them needs no lock.
        by_main: the channels that the main thread activated, the innermost last. Only here, an entered channel of a
            run below another is listed too.
        by_others: the channels of runs that only other threads activated.
        top: the channel of the process's run.
        innermost: ``top``, or the channel of the run below it that the main thread has entered.
    """

    __slots__ = ("by_main", "by_others", "innermost", "lock", "top")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_main: list[Channel] = []
        self.by_others: list[Channel] = []
        self.top: Channel | None = None
        self.innermost: Channel | None = None

    def choose(self) -> None:
        """Set ``top`` and ``innermost``. The caller holds the lock."""
        stack = self.by_main or self.by_others
        self.innermost = stack[-1] if stack else None
        self.top = None if self.innermost is None else self.innermost.root


_slot = _Slot()
_active: contextvars.ContextVar[Channel | None] = contextvars.ContextVar("active", default=None)
"""The last of ``_entered``, or the channel of a :func:`directed` block: the one variable that calls read."""
_entered: contextvars.ContextVar[tuple[Entered, ...]] = contextvars.ContextVar(
    "entered", default=()
)
"""The channels that this thread or task activated or entered, the innermost last."""
_named: contextvars.ContextVar[Channel | None] = contextvars.ContextVar("named", default=None)


class _Nowhere:
    """A destination that takes nothing."""

    def put(self, item: Frame | Number | Observation | Record, may_wait: bool = True) -> None: ...

    def put_call(
        self, plan: Plan, vectors: tuple[Array, ...], step: int | None, is_open: bool
    ) -> None: ...


discarding = Channel(_Nowhere(), name="none")
"""The channel of calls without a run that must run the same program as calls with one. It counts their steps."""

_UNSETTLED = Channel(_Nowhere())
"""A channel that is never open. It is in ``_active`` where :func:`active` must look for the channel each time."""


def active() -> Channel | None:
    """Return the channel that reports of this thread or task go to, or None while no run is open."""
    channel = _active.get()
    if channel is None:
        return _slot.top
    return channel if channel.is_open else _settle(_entered.get())


def arriving() -> Channel | None:
    """Return the channel for a host callback whose call is unknown, or None while no run is open."""
    return _slot.innermost if _active.get() is None else active()


def is_entered() -> bool:
    """Return whether this thread or task activated or entered a channel. XLA's threads did not."""
    return _active.get() is not None


def tracing_target() -> Target | None:
    """Return the active run of this thread or task if :func:`arriving` returns another one on XLA's threads."""
    channel = active() if is_entered() else None
    is_main = threading.current_thread() is threading.main_thread()
    return None if channel is None or (is_main and channel is _slot.innermost) else channel.target


def named_target() -> Target | None:
    """Return the run whose method is being called; None outside of methods of a run."""
    channel = _named.get()
    return None if channel is None else channel.target


class Directed(contextlib.AbstractContextManager[None]):
    """A ``with`` block whose reports go to ``channel`` instead of the active one. It is entered once."""

    __slots__ = ("_channel", "_outer_active", "_outer_named")

    def __init__(self, channel: Channel):
        self._channel = channel

    def __enter__(self) -> None:
        self._outer_active, self._outer_named = _active.get(), _named.get()
        _active.set(self._channel)
        _named.set(self._channel)

    def __exit__(self, *_: object) -> None:
        _active.set(self._outer_active)
        _named.set(self._outer_named)


def activate(channel: Channel) -> None:
    """Make ``channel`` the active one of this thread or task, until it is deactivated."""
    with _slot.lock:
        set_open(channel, is_open=True)
        by_main = [other for other in _slot.by_main if other is not channel]
        by_others = [other for other in _slot.by_others if other is not channel]
        if threading.current_thread() is threading.main_thread():
            _slot.by_main, _slot.by_others = [*by_main, channel], by_others
        elif channel not in _slot.by_main:
            _slot.by_others = [*by_others, channel]
        _slot.choose()
    others = (block for block in _entered.get() if block.channel is not channel)
    _settle((*others, Entered(channel)))


def deactivate(channel: Channel) -> None:
    """Close ``channel`` and those below it for reports of every thread; a no-op if it is not open."""
    with _slot.lock:
        set_open(channel, is_open=False)
        _slot.by_main = [other for other in _slot.by_main if other.is_open]
        _slot.by_others = [other for other in _slot.by_others if other.is_open]
        _slot.choose()
    _settle(_entered.get())


def enter(channel: Channel) -> Entered:
    """Make the channel of a run below another the active one of this thread or task in a ``with`` block."""
    entered = Entered(channel, current_generator())
    # Callbacks arrive on other threads and find the channel in the slot. Those of calls before the block arrive before
    # it, those of calls in the block before its end. Other threads may be such a callback, which must not wait. The
    # block of a generator is not in the slot: nothing waits when it is suspended.
    if threading.current_thread() is threading.main_thread() and entered.generator is None:
        await_callbacks(channel.lost)
        with _slot.lock:
            _slot.by_main = [*_slot.by_main, channel]
            _slot.choose()
        entered.in_slot = True
    _settle((*_entered.get(), entered))
    return entered


def leave(entered: Entered) -> None:
    """End a block that :func:`enter` began, in whichever thread or task."""
    if entered.in_slot:
        await_callbacks(entered.channel.lost)
        with _slot.lock:
            _slot.by_main = _without_last(_slot.by_main, entered.channel)
            _slot.choose()
    blocks = _entered.get()
    entered.end(is_known=entered in blocks)
    _settle([block for block in blocks if block is not entered])


def _without_last(channels: Sequence[Channel], channel: Channel) -> list[Channel]:
    """Return the channels without the last occurrence of one; all of them if there is none."""
    kept = list(channels)
    for index in reversed(range(len(kept))):
        if kept[index] is channel:
            del kept[index]
            break
    return kept


def _settle(blocks: Sequence[Entered]) -> Channel | None:
    """Make the last open channel the active one of this thread or task. Return what is active then."""
    blocks = tuple(block for block in blocks if block.channel.is_open and not block.ended)
    channels = [block.channel for block in blocks if block.applies]
    in_generators = any(block.generator is not None for block in blocks)
    _entered.set(blocks)
    # The active channel may change whenever a generator is suspended or resumed.
    _active.set(_UNSETTLED if in_generators else channels[-1] if channels else None)
    return channels[-1] if channels else _slot.top


def _forget() -> None:
    # Threads do not survive a fork, so a forked child has no flusher to take its reports, and a thread
    # that is gone may hold the lock. The slot object stays: other modules may refer to it.
    _slot.lock = threading.Lock()
    for channel in open_channels():
        set_open(channel.root, is_open=False)
    _slot.by_main, _slot.by_others = [], []
    _slot.choose()


on_fork(Stage.STATE, in_child=_forget)
