"""The arrival of frames that leave a program by callback, on one of XLA's threads."""

from __future__ import annotations

import time

import numpy as np

from jaxboard._frame import Frame, LoopChunk, Plan
from jaxboard._host import progress
from jaxboard._host.channel import Channel, active
from jaxboard._types import Array


def arrive(plan: Plan, advance: bool | None, arrays: dict[str, Array]) -> None:
    """Put a frame in the active run's buffer, and count its step.

    Nothing here may wait, or read a JAX array: the device waits for this callback, and a read waits for the
    device.

    Args:
        plan: what the frame holds.
        advance: whether the frame is that of a call that takes a step; None if it is of no call.
        arrays: NumPy arrays where XLA calls Python directly, else JAX arrays that are not read before the
            flusher fetches them.
    """
    channel = active()
    if plan.chunk is not None:
        _count_iterations(plan, plan.chunk, channel, arrays)
    if channel is None:
        return
    before = None if plan.chunk is None else plan.chunk.before
    if before is not None:
        names = before.array_names
        own = {name: array for name, array in arrays.items() if name in names}
        arrays = {name: array for name, array in arrays.items() if name not in names}
        if not _is_known_to_be_empty(before, own):
            channel.put(Frame(before, own, None, time.time()), False)
    counts = advance is not None and plan.chunk is None
    step = channel.begin(bool(advance)) if counts else channel.current
    frame = Frame(plan, arrays, None if plan.step else step, time.time(), open=not advance)
    # Never block here: the flusher may be waiting for this callback.
    channel.put(frame, False)


def _is_known_to_be_empty(plan: Plan, arrays: dict[str, Array]) -> bool:
    """Return whether no row of a chunk has a step. JAX arrays are not read: the host drops such rows later."""
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
