"""The channel of a run, which its reports go through, and the choice of the active channel.

A thread or an asyncio task that opened or entered a run reports to it: context variables hold its channels. All
other threads, host callbacks on XLA's threads among them, report to the run of the process, which one slot holds.
"""

from __future__ import annotations

import contextlib
import contextvars
import itertools
import threading
import time
from collections.abc import Callable, Generator, Hashable, Sequence
from typing import Protocol, TypeAlias

import jax

from jaxboard._frame import Frame, Observation, Plan, Target
from jaxboard._host import frame_parts
from jaxboard._host.lost import LostReports, await_callbacks
from jaxboard._process.fork import Stage, on_fork
from jaxboard.records import Record

Window: TypeAlias = tuple[Plan, tuple[jax.Array, ...], int]
"""The plan of a function's windows, its vectors in the order of their names, and the last step that is in them."""

_keys = itertools.count()


class Destination(Protocol):
    """Where a channel puts items: a buffer."""

    def put(self, item: Frame | Observation | Record, may_wait: bool = True) -> None:
        """Append an item; see :meth:`Buffer.put`."""
        ...


class Channel:
    """The step counter of a run, and the way into its buffer. Safe to use from any thread.

    Args:
        buffer: the buffer of the run.
        step: the first step.
        name: the run, for messages.
        lost: counts the reports of the run's calls that cannot be delivered.

    Attributes:
        put: ``put(item, may_wait=True)`` of the buffer; see :meth:`Buffer.put`.
        name: the run, for messages.
        lost: see above.
        target: what identifies the run in compiled programs.
        is_open: whether the channel was activated, and not deactivated since.
        below: the channels of the runs below this one, by their relative paths.
        windows: the windows that instrumented functions accumulate on the device for this run, by function.
        settled: by instrumented function, how many events had happened before its last call
            (:attr:`Registry.events`).
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
        "below",
        "is_open",
        "lost",
        "name",
        "put",
        "settled",
        "target",
        "warned",
        "windows",
    )

    def __init__(
        self,
        buffer: Destination,
        step: int = 0,
        name: str = "run",
        lost: LostReports | None = None,
    ):
        self._lock = threading.Lock()
        self._first = step
        self._next = step
        self._current = step
        self._evaluated = False
        self._was_given_step = False
        self.name = name
        self.warned: set[Hashable] = set()
        self.lost = lost or LostReports(name)
        self.target = Target(next(_keys), "", name)
        self.is_open = False
        self.below: dict[str, Channel] = {}
        self.windows: dict[Hashable, Window] = {}
        self.settled: dict[object, int] = {}
        self.before_close: list[Callable[[], object]] = []
        # The buffer's method itself, as this is on the training loop's path.
        self.put = buffer.put

    @property
    def root(self) -> Channel:
        """The channel of the run itself, for a channel of a run below it."""
        return self

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

    def send(
        self, frame: Frame, *, may_wait: bool = True, is_call: bool = True, advance: bool = False
    ) -> None:
        """Put a frame in the buffer, and the reports that name another run in the buffer of that one.

        Args:
            frame: the reports.
            may_wait: see :meth:`Buffer.put`.
            is_call: whether the frame is that of a call, whose step all its reports have. Otherwise reports that
                name a run belong to the last step of that run.
            advance: whether the call takes a step. The counters of the runs that its reports name follow.
        """
        if not frame.plan.has_targets:
            self.put(frame, may_wait)
            return
        for target, plan, vectors in frame_parts.split(frame.plan):
            receiver = self if target is None else open_channel(target)
            arrays = {name: frame.arrays[name] for name in vectors}
            step = frame.step
            if receiver is not None and receiver.root is not self.root and step is not None:
                if not is_call:
                    step = receiver.current
                elif advance:
                    receiver.advance_to(step)
            part = Frame(plan, arrays, step, frame.wall_time, open=frame.open)
            if receiver is not None:
                receiver.put(part, may_wait)
            elif target is not None:
                self._lose(target, part)

    def _lose(self, target: Target, part: Frame) -> None:
        tags = ", ".join(map(repr, part.plan.tags))
        fault = f"they name run {target.name}, which is closed"
        self.lost.add(part.count, fault)
        self.lost.log_once(
            f"reports of a compiled function are lost: {fault} ({tags}).",
            "A compiled function reports to the run whose method it called while JAX traced it. Close that run "
            "after the last call, or pass another function to jax.jit for another run.",
        )

    def put_window(self, window: Window | None) -> None:
        """Put an incomplete window, if there is one. The host merges it with the rest of it."""
        if window is not None:
            plan, vectors, step = window
            arrays = dict(zip(sorted(plan.vector_names), vectors, strict=True))
            self.send(Frame(plan, arrays, step, time.time(), open=True))

    def end_windows(self) -> None:
        """Put the accumulators of every incomplete window, also those of the runs below."""
        for channel in (self, *self.below.values()):
            while channel.windows:
                channel.put_window(channel.windows.popitem()[1])

    def end_windows_for(self, other: Channel) -> None:
        """Put the accumulators of incomplete windows with reports that name another run, which closes."""
        for function, (plan, _, _) in list(self.windows.items()):
            targets = {entry.spec.target for entry in plan.entries}
            if any(target is not None and target.key == other.target.key for target in targets):
                self.put_window(self.windows.pop(function, None))

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
    """The open channels of the process.

    Attributes:
        lock: guards the attributes below. Reading one of them needs no lock.
        by_main: the channels that the main thread activated, the innermost last. Only here, an entered channel of a
            run below another is listed too.
        by_others: the channels of runs that only other threads activated.
        top: the channel of the process's run.
        innermost: ``top``, or the channel of the run below it that the main thread has entered.
        by_key: the channels of all open runs, by :attr:`Target.key`.
    """

    __slots__ = ("by_key", "by_main", "by_others", "innermost", "lock", "top")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_main: list[Channel] = []
        self.by_others: list[Channel] = []
        self.top: Channel | None = None
        self.innermost: Channel | None = None
        self.by_key: dict[int, Channel] = {}

    def choose(self) -> None:
        """Set ``top`` and ``innermost``. The caller holds the lock."""
        stack = self.by_main or self.by_others
        self.innermost = stack[-1] if stack else None
        self.top = None if self.innermost is None else self.innermost.root


_slot = _Slot()
_active: contextvars.ContextVar[Channel | None] = contextvars.ContextVar("active", default=None)
"""The last of ``_entered``, or the channel of a :func:`directed` block: the one variable that calls read."""
_entered: contextvars.ContextVar[tuple[Channel, ...]] = contextvars.ContextVar(
    "entered", default=()
)
"""The channels that this thread or task activated or entered, the innermost last."""
_named: contextvars.ContextVar[Channel | None] = contextvars.ContextVar("named", default=None)


def active() -> Channel | None:
    """Return the channel that reports of this thread or task go to, or None while no run is open."""
    channel = _active.get()
    if channel is None:
        return _slot.top
    return channel if channel.is_open else _settle(_entered.get())


def arriving() -> Channel | None:
    """Return the channel for a host callback whose call is unknown, or None while no run is open."""
    return _slot.innermost if _active.get() is None else active()


def open_channel(target: Target) -> Channel | None:
    """Return the channel of the open run that ``target`` names, or that is above it; None if it is closed."""
    return _slot.by_key.get(target.key)


def open_channels() -> list[Channel]:
    """Return the channels of all open runs and of the runs below them."""
    return [
        each
        for channel in list(_slot.by_key.values())
        for each in (channel, *channel.below.values())
    ]


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
        _slot.by_key[channel.target.key] = channel
        channel.is_open = True
        by_main = [other for other in _slot.by_main if other is not channel]
        by_others = [other for other in _slot.by_others if other is not channel]
        if threading.current_thread() is threading.main_thread():
            _slot.by_main, _slot.by_others = [*by_main, channel], by_others
        elif channel not in _slot.by_main:
            _slot.by_others = [*by_others, channel]
        _slot.choose()
    _settle((*(other for other in _entered.get() if other is not channel), channel))


def deactivate(channel: Channel) -> None:
    """Close ``channel`` and those below it for reports of every thread; a no-op if it is not open."""
    with _slot.lock:
        _slot.by_key.pop(channel.target.key, None)
        for other in (channel, *channel.below.values()):
            other.is_open = False
        _slot.by_main = [other for other in _slot.by_main if other.is_open]
        _slot.by_others = [other for other in _slot.by_others if other.is_open]
        _slot.choose()
    _settle(_entered.get())


@contextlib.contextmanager
def entered(channel: Channel) -> Generator[None]:
    """Make the channel of a run below another the active one of this thread or task in a ``with`` block."""
    # Callbacks arrive on other threads and find the channel in the slot. Those of calls before the block arrive before
    # it, those of calls in the block before its end. Other threads may be such a callback, which must not wait.
    by_main = threading.current_thread() is threading.main_thread()
    if by_main:
        await_callbacks(channel.lost)
        with _slot.lock:
            _slot.by_main = [*_slot.by_main, channel]
            _slot.choose()
    _settle((*_entered.get(), channel))
    try:
        yield
    finally:
        if by_main:
            await_callbacks(channel.lost)
            with _slot.lock:
                _slot.by_main = _without_last(_slot.by_main, channel)
                _slot.choose()
        _settle(_without_last(_entered.get(), channel))


def _without_last(channels: Sequence[Channel], channel: Channel) -> list[Channel]:
    """Return the channels without the last occurrence of one; all of them if there is none."""
    kept = list(channels)
    for index in reversed(range(len(kept))):
        if kept[index] is channel:
            del kept[index]
            break
    return kept


def _settle(channels: Sequence[Channel]) -> Channel | None:
    """Make the last open one of ``channels`` the active one of this thread or task. Return what is active then."""
    still_open = tuple(channel for channel in channels if channel.is_open)
    _entered.set(still_open)
    _active.set(still_open[-1] if still_open else None)
    return still_open[-1] if still_open else _slot.top


def _forget() -> None:
    # Threads do not survive a fork, so a forked child has no flusher to take its reports, and a thread
    # that is gone may hold the lock. The slot object stays: other modules may refer to it.
    _slot.lock = threading.Lock()
    for channel in _slot.by_key.values():
        for other in (channel, *channel.below.values()):
            other.is_open = False
    _slot.by_main, _slot.by_others, _slot.by_key = [], [], {}
    _slot.choose()


on_fork(Stage.STATE, in_child=_forget)
