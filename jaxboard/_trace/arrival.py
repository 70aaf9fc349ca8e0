"""The arrival of frames that leave a program by callback, on one of XLA's threads."""

from __future__ import annotations

import threading
import time

import numpy as np

from jaxboard._frame import Frame, LoopChunk, Plan, Target
from jaxboard._host import progress
from jaxboard._host.active_channel import arriving, is_entered
from jaxboard._host.callbacks import callbacks
from jaxboard._host.channel import Channel, open_channel
from jaxboard._host.lost import await_callbacks
from jaxboard._types import Array


class Caller:
    """The run that the calls of one program come from, for the callbacks of that program.

    It is part of the program, so it names the run and does not keep it alive.

    Args:
        target: the run; None while it is not known.

    Attributes:
        target: see above.
        threads: the threads that have called the program since it has this target.
    """

    __slots__ = ("target", "threads")

    def __init__(self, target: Target | None = None) -> None:
        self.target = target
        self.threads: set[int] = set()

    def channel(self) -> Channel | None:
        """Return the channel of the last call, or the channel of the process's run if it is not known."""
        channel = None if self.target is None else open_channel(self.target)
        if channel is None or self.target is None:
            return arriving()
        return channel.below.get(self.target.run, channel)

    def is_free_for(self, thread: int) -> bool:
        """Return whether no thread but this one may have calls of the program whose callbacks are pending."""
        return self.threads <= {thread} or self.target is None or open_channel(self.target) is None


class Callers:
    """The callers of one function. Threads that report to different runs at the same time need a program each.

    Attributes:
        first: the caller whose program is compiled in advance.
    """

    def __init__(self) -> None:
        self.first = Caller()
        self._all = [self.first]
        self._lock = threading.Lock()

    def begin(self, channel: Channel) -> Caller:
        """Return the caller of a call that this thread begins for ``channel``.

        If the thread's last call was for another run, its callbacks arrive first.
        """
        thread = threading.get_ident()
        with self._lock:
            for caller in self._all:
                if caller.target == channel.target:
                    caller.threads.add(thread)
                    return caller
            free = [caller for caller in self._all if caller.is_free_for(thread)]
            if not free:
                free = [Caller()]
                self._all += free
            caller = free[0]
            if caller.target is not None:
                await_callbacks(channel.lost)
            caller.target, caller.threads = channel.target, {thread}
            return caller


class TracingCaller(Caller):
    """The run of the thread that traced a program, if the program itself names no run.

    Callbacks on XLA's threads report to it while it is open, and those on the thread of the call to its active run.
    """

    def channel(self) -> Channel | None:
        """See :meth:`Caller.channel`."""
        return arriving() if is_entered() else super().channel()


def arrive(
    plan: Plan, advance: bool | None, arrays: dict[str, Array], caller: Caller | None = None
) -> None:
    """Put a frame in the buffer of the run of its call, and count its step.

    Nothing here may wait, or read a JAX array: the device waits for this callback, and a read waits for the
    device.

    Args:
        plan: what the frame holds.
        advance: whether the frame is that of a call that takes a step; None if it is of no call.
        arrays: NumPy arrays where XLA calls Python directly, else JAX arrays that are not read before the
            flusher fetches them.
        caller: names the run of the call. Without it, the frame goes to the run of the process.
    """
    channel = arriving() if caller is None else caller.channel()
    if plan.chunk is not None:
        _count_iterations(plan, plan.chunk, channel, arrays)
    if channel is None:
        return
    before = None if plan.chunk is None else plan.chunk.before
    if before is not None and not _is_known_to_be_empty(before, arrays):
        first = Frame(before, before.vectors(arrays), None, time.time())
        channel.send(_selected(first, channel), may_wait=False, is_call=advance is not None)
    counts = advance is not None and plan.chunk is None
    if not advance and plan.chunk is None and plan.entries:
        callbacks.note_arrival(plan.entries[0].spec.tag)
    step = channel.begin(bool(advance)) if counts else channel.current
    # Other calls or iterations may report at the same step.
    has_own_step = plan.step is not None and (plan.chunk is None or plan.chunk.shares_steps)
    frame = Frame(
        plan,
        plan.vectors(arrays),
        None if plan.step else step,
        time.time(),
        open=not advance or has_own_step,
    )
    # Never block here: the flusher may be waiting for this callback.
    frame = _selected(frame, channel)
    channel.send(frame, may_wait=False, is_call=advance is not None, advance=bool(advance))


def _selected(frame: Frame, channel: Channel) -> Frame:
    """Return a frame with the cadences that the run selects, of a program that may have others."""
    return frame if channel.selection is None else channel.selection.selected_frame(frame)


def _is_known_to_be_empty(plan: Plan, arrays: dict[str, Array]) -> bool:
    """Return whether a frame is known to have no step, so that the host drops it. JAX arrays are not read."""
    steps = None if plan.step is None else arrays[plan.step.dtype]
    if plan.step is None or not isinstance(steps, np.ndarray):
        return False
    return bool((plan.step.read(arrays) < 0).all())


def _count_iterations(
    plan: Plan, chunk: LoopChunk, channel: Channel | None, arrays: dict[str, Array]
) -> None:
    """Advance the run and the progress bar by a chunk of a streamed loop."""
    iterations = chunk.size
    # With JAX arrays the instrumented call advances the run, before the loop runs.
    if plan.step is not None and isinstance(arrays[plan.step.dtype], np.ndarray):
        steps = plan.step.read(arrays)
        iterations = int((steps >= 0).sum())
        if channel is not None and iterations:
            channel.advance_to(int(steps.max()))
    if chunk.bar is not None:
        progress.update(chunk.bar, iterations, chunk.total)
