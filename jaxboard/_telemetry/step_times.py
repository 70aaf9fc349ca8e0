"""Step times, measured without waiting for a device.

A step lasts from the start of a call to the start of the next call of any instrumented function on the
same thread. A call returns before the device has finished, so a single step time is that of the host.
Once the loop waits for the device, the rate over a window is that of the device.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import threading
from collections.abc import Callable, Mapping, Sequence

from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard._telemetry.collector import Collector
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.settings import Telemetry

_MAX_TIMES = 4096
"""Percentiles cover this many steps at the end of a window: sorting more would be slow."""


@dataclasses.dataclass(slots=True)
class _OpenStep:
    """A step that has begun and lasts until the next call. It keeps no argument of the call alive."""

    function: str
    step: int
    began: float
    returned: float | None = None
    compiled: bool = False
    counts: dict[str, float] | None = None


class _ThreadState(threading.local):
    def __init__(self) -> None:
        self.depth = 0
        self.open_step: _OpenStep | None = None


class _Window:
    """The steps of one function since its last point."""

    __slots__ = (
        "call_seconds",
        "counts",
        "last_step",
        "latest",
        "longest",
        "seconds",
        "started",
        "steps",
    )

    def __init__(self, started: float):
        self.started = started
        self.last_step = 0
        self.steps = 0
        self.seconds = 0.0
        self.call_seconds = 0.0
        self.longest = 0.0
        self.latest: collections.deque[float] = collections.deque(maxlen=_MAX_TIMES)
        self.counts: dict[str, float] = {}


class StepTimes(Collector):
    """The times between calls, by function and window.

    Scalars ``step/<function>/...``, one point per window at its last step: ``per_second``;
    ``seconds_p50``, ``seconds_p95`` and ``seconds_max`` of the step times; ``call_seconds``, the mean
    time within the call (dispatch, and waiting if the device is behind); ``host_wait_seconds``, the
    mean time between calls (loading data, reading results, the loop itself); ``<unit>_per_second`` for
    the units that a call processes. Steps that compile are left out.

    Args:
        reporter: the writer.
        settings: the length of a window, and the units of a call.
        clock: returns seconds, like ``time.perf_counter``.
        followers: collectors that are notified of the end of each window, and asked for samples at most
            once per window.
    """

    def __init__(
        self,
        reporter: Reporter,
        settings: Telemetry,
        clock: Callable[[], float],
        followers: Sequence[Collector] = (),
    ):
        self._reporter = reporter
        self._window_seconds = settings.window
        self._units_per_call = settings.per_call
        self._clock = clock
        self._followers = tuple(followers)
        self._thread = _ThreadState()
        self._windows: dict[str, _Window] = {}
        self._failed_units: set[tuple[str, str]] = set()
        self._last_sample: float | None = None

    def begin_call(self, call: Call) -> None:
        """Close the previous step of this thread and open one, unless the call is within another."""
        thread = self._thread
        thread.depth += 1
        if thread.depth > 1:
            return
        now = self._clock()
        if thread.open_step is not None:
            self._close(thread.open_step, now)
        thread.open_step = None
        if call.step is not None and self._reporter.is_active():
            thread.open_step = _OpenStep(call.name, call.step, now)

    def end_call(self, call: Call, *, compiled: bool) -> None:
        """Note the end of the outermost call, and whether it or a call within it compiled something."""
        thread = self._thread
        thread.depth = max(0, thread.depth - 1)
        step = thread.open_step
        if step is None:
            return
        step.compiled |= compiled
        if thread.depth == 0:
            step.returned = self._clock()
            units = self._units_per_call.get(step.function)
            if units:
                step.counts = self._count(call, units)

    def finish(self) -> None:
        """Write the windows that are open. The last step has no end and is left out."""
        self._last_sample = None
        for function, window in list(self._windows.items()):
            self._write(function, window)
        self._windows.clear()

    def _count(self, call: Call, units: Mapping[str, int | Callable[..., int]]) -> dict[str, float]:
        counts: dict[str, float] = {}
        for unit, count in units.items():
            if (call.name, unit) in self._failed_units:
                continue
            try:
                counts[unit] = count(*call.args, **call.kwargs) if callable(count) else count
            except Exception as fault:
                self._failed_units.add((call.name, unit))
                logger.error(
                    "jaxboard: Telemetry(per_call=...): counting the %s of %s failed: %s. They are not "
                    "reported any more.",
                    unit,
                    call.name,
                    describe(fault),
                )
        return counts

    def _close(self, step: _OpenStep, now: float) -> None:
        if step.compiled or step.returned is None:
            return
        window = self._windows.get(step.function)
        if window is None:
            window = self._windows[step.function] = _Window(step.began)
        seconds = now - step.began
        window.last_step = step.step
        window.steps += 1
        window.seconds += seconds
        window.call_seconds += step.returned - step.began
        window.longest = max(window.longest, seconds)
        window.latest.append(seconds)
        for unit, count in (step.counts or {}).items():
            window.counts[unit] = window.counts.get(unit, 0) + count
        if now - window.started >= self._window_seconds:
            self._windows.pop(step.function, None)  # another thread may have removed it
            self._write(step.function, window)

    def _write(self, function: str, window: _Window) -> None:
        steps, seconds, step = window.steps, window.seconds, window.last_step
        if seconds <= 0:  # the clock is too coarse for so few steps
            return
        times = sorted(window.latest)
        self._reporter.scalars(
            step,
            {
                f"step/{function}/per_second": steps / seconds,
                f"step/{function}/seconds_p50": _percentile(times, 0.50),
                f"step/{function}/seconds_p95": _percentile(times, 0.95),
                f"step/{function}/seconds_max": window.longest,
                f"step/{function}/call_seconds": window.call_seconds / steps,
                f"step/{function}/host_wait_seconds": (seconds - window.call_seconds) / steps,
                **{
                    f"step/{function}/{unit}_per_second": count / seconds
                    for unit, count in window.counts.items()
                },
            },
        )
        for follower in self._followers:
            follower.end_window(function, step, steps / seconds)
        now = self._clock()
        if self._last_sample is None or now - self._last_sample >= self._window_seconds:
            self._last_sample = now
            for follower in self._followers:
                follower.sample(step)


def _percentile(times: list[float], share: float) -> float:
    """Return the nearest-rank percentile of sorted times."""
    return times[math.ceil(share * len(times)) - 1]
