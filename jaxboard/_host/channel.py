"""The channel of a run, which its reports go through."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Protocol, TypeAlias

import jax
import numpy as np

from jaxboard._frame import Frame, Number, Observation, Plan, Target
from jaxboard._host import frame_parts
from jaxboard._host.cadence_changes import CadenceChanges
from jaxboard._host.given_times import GivenTimes
from jaxboard._host.lost import LostReports
from jaxboard._host.points import portable_point
from jaxboard._host.restored_windows import RestoredWindows
from jaxboard._host.run_state import (
    HostState,
    RunState,
    SavedPoint,
    SavedWindow,
    point_step,
    portable,
    read_state,
)
from jaxboard._host.selection import Selection, changed_windows
from jaxboard._log import describe
from jaxboard._reduce import is_positive
from jaxboard._types import Array
from jaxboard.records import Record

Window: TypeAlias = tuple[Plan, tuple[jax.Array, ...], int]
"""The plan of a function's windows, its vectors, and the last step that is in them."""

NEVER = 2**63
"""A step that no run reaches."""

_keys = itertools.count()


class WindowedFunction(Hashable, Protocol):
    """The owner of windows: the delivery of an instrumented function."""

    @property
    def name(self) -> str:
        """The name of the function."""
        ...

    def selecting(self, selection: Selection | None) -> object:
        """Return the delivery for a run that selects cadences."""
        ...


class Destination(Protocol):
    """Where a channel puts items: a buffer."""

    def put(self, item: Frame | Number | Observation | Record, may_wait: bool = True) -> None:
        """Append an item; see :meth:`Buffer.put`."""
        ...

    def put_call(
        self, plan: Plan, vectors: tuple[Array, ...], step: int | None, is_open: bool
    ) -> None:
        """Append the frame of a call; see :meth:`Buffer.put_call`."""
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
        put_call: the same of the buffer; see :meth:`Buffer.put_call`.
        name: the run, for messages.
        lost: see above.
        target: what identifies the run in compiled programs.
        is_open: whether the channel was activated, and not deactivated since.
        below: the channels of the runs below this one, by their relative paths.
        hparams: the hyperparameters that were reported, None for none.
        windows: the windows that instrumented functions accumulate on the device for this run, by function.
        settled: by the key of an instrumented function, how many events had happened before its last call
            (:attr:`Registry.events`). A key keeps no function alive.
        restored: the windows of an earlier run that this one continues, as long as no function has continued them.
        before_close: functions that the closing thread calls before the run closes. Each blocks until
            its producer has submitted everything.
        warned: the keys of the warnings that this run has issued.
        given_times: the wall times that reports were given.
        selection: the cadences that the run selects; None if reports have those in the program.
        cadence_changes: the changes of ``selection``.
        act_at: the step from which on something scheduled is to happen.
    """

    __slots__ = (
        "_current",
        "_evaluated",
        "_first",
        "_lock",
        "_next",
        "_scheduled",
        "_was_given_step",
        "act_at",
        "before_close",
        "below",
        "cadence_changes",
        "given_times",
        "hparams",
        "is_open",
        "lost",
        "name",
        "put",
        "put_call",
        "restored",
        "selection",
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
        self.hparams: Mapping[str, object] | None = None
        self.windows: dict[WindowedFunction, Window] = {}
        self.restored = RestoredWindows()
        self.settled: dict[int, int] = {}
        self.before_close: list[Callable[[], object]] = []
        self.given_times = GivenTimes()
        self.selection: Selection | None = None
        self.cadence_changes = CadenceChanges()
        self.act_at = NEVER
        self._scheduled: list[tuple[int, Callable[[int], object]]] = []
        # The buffer's methods themselves, as they are on the training loop's path.
        self.put, self.put_call = buffer.put, buffer.put_call

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
            if step >= self.act_at:
                self._act(step)
            return step
        if not advance:
            self._evaluated = True
            return self._current
        self._lock.acquire()  # a with statement takes twice as long
        try:
            self._current = step = self._next
            self._next = step + 1
        finally:
            self._lock.release()
        if step >= self.act_at:
            self._act(step)
        return step

    def schedule(self, step: int, act: Callable[[int], object]) -> None:
        """Call a function when the run reaches a step, on the thread that takes it, before its reports.

        Args:
            step: the step.
            act: it is called with the step that was taken. An exception of it is logged.
        """
        with self._lock:
            self._scheduled.append((step, act))
            self.act_at = min(self.act_at, step)

    def _act(self, step: int) -> None:
        with self._lock:
            due = [act for at, act in self._scheduled if at <= step]
            self._scheduled = [each for each in self._scheduled if each[0] > step]
            self.act_at = min([at for at, _ in self._scheduled], default=NEVER)
        for act in due:
            try:
                act(step)
            except Exception as fault:
                self.lost.log_once(f"at step {step}: {describe(fault)}", "Training continues.")

    def advance_to(self, step: int) -> None:
        """Advance the run to at least ``step``."""
        with self._lock:
            if step >= self._next:
                self._current, self._next = step, step + 1
        if step >= self.act_at:
            self._act(step)

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
        for target, plan, positions in frame_parts.split(frame.plan):
            receiver = self if target is None else open_channel(target)
            vectors = tuple([frame.vectors[position] for position in positions])
            step = frame.step
            if receiver is not None and receiver.root is not self.root and step is not None:
                if not is_call:
                    step = receiver.current
                elif advance:
                    receiver.advance_to(step)
            part = Frame(plan, vectors, step, frame.wall_time, open=frame.open)
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
            self.send(Frame(plan, vectors, step, time.time(), open=True))

    def end_windows(self) -> None:
        """Put the accumulators of every incomplete window, also those of the runs below."""
        for channel in (self, *self.below.values()):
            while channel.windows:
                channel.put_window(channel.windows.popitem()[1])

    def end_windows_by(self, step: int) -> None:
        """Put the accumulators of windows that end at ``step`` or earlier: their function may never be called again.

        Another function may report the same tag. This way both are in one point.
        """
        for function, (plan, _, last_step) in list(self.windows.items()):
            end = min(point_step(each.spec, last_step) for each in plan.entries)
            if last_step < step and end <= step:
                self.put_window(self.windows.pop(function, None))

    def end_windows_for(self, other: Channel) -> None:
        """Put the accumulators of incomplete windows with reports that name another run, which closes."""
        for function, (plan, _, _) in list(self.windows.items()):
            targets = {entry.spec.target for entry in plan.entries}
            if any(target is not None and target.key == other.target.key for target in targets):
                self.put_window(self.windows.pop(function, None))

    def select(self, selection: Selection | None) -> None:
        """Change the cadences of the run, those of the runs below too. Windows of other cadences end here."""
        old = self.selection
        for channel in (self, *self.below.values()):
            for function in list(channel.windows):
                if function.selecting(selection) is function.selecting(old):
                    continue
                window = channel.windows.pop(function, None)
                if window is not None:
                    plan, vectors, step = window
                    channel.put_window((changed_windows(plan, old, selection), vectors, step))
            channel.selection = selection
        self.cadence_changes.add(self.current, old, selection)

    def saved(self, host: HostState) -> RunState:
        """Return the state of the run. This waits for the device.

        Args:
            host: the part that the flusher knows.
        """
        windows = tuple(self._saved_windows())
        return RunState(self.step, self.current, self.has_steps, host.points, windows, *host[1:])

    def _saved_windows(self) -> Iterator[SavedWindow]:
        for channel in (self, *self.below.values()):
            for function, (plan, vectors, step) in list(channel.windows.items()):
                with jax.transfer_guard_device_to_host("allow"):
                    on_host = [np.asarray(vector) for vector in vectors]
                arrays = dict(zip(sorted(plan.vector_names), on_host, strict=True))
                for entry in plan.entries:
                    state = read_state(entry, arrays)
                    if np.any(is_positive(state.weight)):
                        point = portable_point(SavedPoint(entry.spec, state, step, time.time()))
                        point = point._replace(spec=portable(entry.spec, self.target))
                        yield SavedWindow(function.name, channel.target.run, point)
        yield from self.restored.rest

    def resume(self, state: RunState, selection: Selection | None = None) -> None:
        """Continue the steps and the windows of an earlier run, with the cadences that this one selects."""
        self.selection = selection
        self._current = state.current
        self._was_given_step = state.has_steps
        self.restored = RestoredWindows(state.windows)

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
        if step >= self.act_at:
            self._act(step)


# --- The open channels of the process. ------------------------------------------------------------

_open: dict[int, Channel] = {}
"""The channels of all open runs, by :attr:`Target.key`."""


def set_open(channel: Channel, *, is_open: bool) -> None:
    """Note that the channel of a run, and those below it, are open or closed."""
    if is_open:
        _open[channel.target.key] = channel
        channel.is_open = True
        return
    _open.pop(channel.target.key, None)
    for other in (channel, *channel.below.values()):
        other.is_open = False


def open_channel(target: Target) -> Channel | None:
    """Return the channel of the open run that ``target`` names, or that is above it; None if it is closed."""
    return _open.get(target.key)


def open_channels() -> list[Channel]:
    """Return the channels of all open runs and of the runs below them."""
    return [each for channel in list(_open.values()) for each in (channel, *channel.below.values())]
