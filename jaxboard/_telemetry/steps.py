"""Step times, without waiting for a device.

A step lasts from the start of a call to the start of the next call of any instrumented function on the
same thread. Calls return before the device is done, so a single step's time is the host's; once the
device is what the loop waits for, the rate over a window is the device's.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
from collections.abc import Callable, Mapping

from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.settings import Telemetry

_LATEST = 4096
"""Percentiles are those of the last so many steps of a window: sorting more would be felt."""


@dataclasses.dataclass(slots=True)
class _Open:
    """A call that began, and whose step lasts until the next. Of its arguments nothing is kept alive."""

    name: str
    step: int
    began: float
    ended: float | None = None
    compiled: bool = False
    counts: dict[str, float] | None = None


class _Thread(threading.local):
    def __init__(self) -> None:
        self.depth = 0
        self.open: _Open | None = None


class _Window:
    """The steps of one function since its last point."""

    __slots__ = ("calling", "counts", "latest", "longest", "seconds", "started", "step", "steps")

    def __init__(self, started: float):
        self.started = started
        self.step = 0
        self.steps = 0
        self.seconds = 0.0
        self.calling = 0.0
        self.longest = 0.0
        self.latest: collections.deque[float] = collections.deque(maxlen=_LATEST)
        self.counts: dict[str, float] = {}


class Steps:
    """Times the calls of a run.

    Scalars ``step/<function>/…``, one point per window at its last step: ``per_second``;
    ``seconds_p50``, ``seconds_p95``, ``seconds_max`` of the step times; ``call_seconds``, the mean time
    within the call (dispatching, and waiting where the device is behind); ``host_wait_seconds``, the
    mean time between calls (loading data, reading results, the loop itself); ``<what>_per_second`` of
    what a call takes in. Steps that compiled are left out.

    Args:
        reporter: where they go.
        settings: the window, and what calls take in.
        clock: seconds, as of ``time.perf_counter``.
        also: called with a function's name, its step and its steps per second at each point.
    """

    def __init__(
        self,
        reporter: Reporter,
        settings: Telemetry,
        clock: Callable[[], float],
        also: Callable[[str, int, float], None],
    ):
        self._reporter = reporter
        self._length = settings.window
        self._per_call = settings.per_call
        self._clock = clock
        self._also = also
        self._thread = _Thread()
        self._windows: dict[str, _Window] = {}
        self._failed: set[tuple[str, str]] = set()

    def begin(self, call: Call, *, counts: bool) -> None:
        """A call begins; whether it is one of this run's."""
        thread = self._thread
        thread.depth += 1
        if thread.depth > 1:
            return
        now = self._clock()
        if thread.open is not None:
            self._close(thread.open, now)
        thread.open = None
        if counts and call.step is not None:
            thread.open = _Open(call.name, call.step, now)

    def end(self, call: Call, *, compiled: bool) -> None:
        """The call returned; whether it, or a call within it, compiled something."""
        thread = self._thread
        thread.depth = max(0, thread.depth - 1)
        step = thread.open
        if step is None:
            return
        step.compiled |= compiled
        if thread.depth == 0:
            step.ended = self._clock()
            asked = self._per_call.get(step.name)
            if asked:
                step.counts = self._count(call, asked)

    def finish(self) -> None:
        """Writes what the last windows hold. The last step of all has no end, and is left out."""
        for name, window in list(self._windows.items()):
            self._write(name, window)
        self._windows.clear()

    def _count(self, call: Call, asked: Mapping[str, int | Callable[..., int]]) -> dict[str, float]:
        counts: dict[str, float] = {}
        for what, count in asked.items():
            if (call.name, what) in self._failed:
                continue
            try:
                counts[what] = count(*call.args, **call.kwargs) if callable(count) else count
            except Exception as fault:
                self._failed.add((call.name, what))
                logger.error(
                    "jaxboard: Telemetry(per_call=...): counting the %s of %s failed: %s. They are not "
                    "shown from here on.",
                    what,
                    call.name,
                    describe(fault),
                )
        return counts

    def _close(self, step: _Open, now: float) -> None:
        if step.compiled or step.ended is None:
            return
        window = self._windows.get(step.name)
        if window is None:
            window = self._windows[step.name] = _Window(step.began)
        seconds = now - step.began
        window.step = step.step
        window.steps += 1
        window.seconds += seconds
        window.calling += step.ended - step.began
        window.longest = max(window.longest, seconds)
        window.latest.append(seconds)
        for what, number in (step.counts or {}).items():
            window.counts[what] = window.counts.get(what, 0) + number
        if now - window.started >= self._length:
            self._windows.pop(step.name, None)  # by another thread, perhaps
            self._write(step.name, window)

    def _write(self, name: str, window: _Window) -> None:
        steps, seconds, step = window.steps, window.seconds, window.step
        if seconds <= 0:  # a clock too coarse for so few
            return
        times = sorted(window.latest)
        self._reporter.scalars(
            step,
            {
                f"step/{name}/per_second": steps / seconds,
                f"step/{name}/seconds_p50": _percentile(times, 0.50),
                f"step/{name}/seconds_p95": _percentile(times, 0.95),
                f"step/{name}/seconds_max": window.longest,
                f"step/{name}/call_seconds": window.calling / steps,
                f"step/{name}/host_wait_seconds": (seconds - window.calling) / steps,
                **{
                    f"step/{name}/{what}_per_second": count / seconds
                    for what, count in window.counts.items()
                },
            },
        )
        self._also(name, step, steps / seconds)


def _percentile(times: list[float], share: float) -> float:
    """The least time that is no less than this share of all: the nearest-rank percentile."""
    return times[math.ceil(share * len(times)) - 1]
