"""The time that this thread spends on compiling and on checkpoints, from the events of ``jax.monitoring``.

JAX reports the phases of a compilation, and Orbax those of a checkpoint, when they end, with their durations. Spans may
be nested, such as the trace of a function within that of another. Each second counts for the innermost one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxboard._telemetry.jax_listener import JaxListener
from jaxboard._telemetry.time_parts import CHECKPOINT

PHASES = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "xla",
}
"""The phases of a compilation by event."""

_CHECKPOINTS = ("/jax/orbax/", "/jax/checkpoint/")
_NOT_SPANS = ("time_between", "since_last", "_saved")
"""Parts of the names of durations that did not pass in the call that reports them, such as the time between two saves."""

_TOLERANCE = 0.005
"""Seconds by which a span may seem to begin too early: others measure it by another clock."""


class Seconds(NamedTuple):
    """The time of a thread since it was last taken.

    Attributes:
        compile: seconds by phase of compilations.
        checkpoint: seconds of saving and restoring.
    """

    compile: dict[str, float]
    checkpoint: float

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(self.compile.values()) + self.checkpoint


class _ThreadState(threading.local):
    def __init__(self, started: float) -> None:
        self.taken_at = started
        self.ended: list[tuple[float, float]] = []
        self.seconds: dict[str, float] = {}


class SpanListener(JaxListener):
    """A listener that measures the spans of each thread.

    Args:
        clock: returns seconds, like ``time.perf_counter``.
    """

    def __init__(self, clock: Callable[[], float]):
        super().__init__()
        self._clock = clock
        self._thread = _ThreadState(clock())

    def take(self, now: float) -> Seconds | None:
        """Return the time since the last call of this method on this thread; None if there were no spans."""
        thread = self._thread
        before, thread.taken_at = thread.taken_at, now
        if not thread.ended:
            return None
        seconds = thread.seconds
        thread.ended, thread.seconds = [], {}
        checkpoint = seconds.pop(CHECKPOINT, 0.0)
        found = Seconds(seconds, checkpoint)
        if found.total > now - before:  # Clocks differ.
            scale = (now - before) / found.total
            return Seconds({k: v * scale for k, v in seconds.items()}, checkpoint * scale)
        return found

    def on_duration(self, event: str, seconds: float, labels: dict[str, Any]) -> None:
        """See :class:`JaxListener`."""
        kind = PHASES.get(event)
        if kind is None:
            is_span = not any(part in event for part in _NOT_SPANS)
            if not (event.startswith(_CHECKPOINTS) and is_span):
                return
            kind = CHECKPOINT
        thread = self._thread
        now = self._clock()
        began = now - seconds
        if began < thread.taken_at:
            if began < thread.taken_at - _TOLERANCE:
                return  # Calls of instrumented functions were in it: their time is known better.
            began = thread.taken_at
        own = now - began
        while thread.ended and thread.ended[-1][1] > began:
            inner_began, inner_ended = thread.ended.pop()
            own -= inner_ended - max(inner_began, began)
            began = min(began, inner_began)
        thread.ended.append((began, now))
        thread.seconds[kind] = thread.seconds.get(kind, 0.0) + max(own, 0.0)
