"""The account of a run's time: each moment belongs to exactly one part.

The account follows the thread that calls the instrumented functions, from one begin or end of a call to the next. A
moment in which the device computes a training step belongs to the device, whatever the thread does then: a loader that
works meanwhile costs nothing. Any other moment belongs to what the thread does.
"""

from __future__ import annotations

import collections
import math
import weakref
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from jaxboard._telemetry.device_times import DeviceTimes
from jaxboard._telemetry.monitored_spans import Seconds
from jaxboard._telemetry.readiness import Awaited, WatchedCall, is_ready
from jaxboard._telemetry.time_parts import (
    CHECKPOINT,
    COMPILE,
    DEVICE,
    DISPATCH,
    EVALUATION,
    INPUT,
    JAXBOARD,
    NAMES,
    OUTSIDE,
    PAUSE,
)

_FIRST_REST = 0.1
_USUAL_REST = 0.5
_LONGEST_REST = 2.0
"""Seconds between two watched calls: for a function of which few calls were watched, for other functions, and while the
device is always busy, when a watch shows nothing."""

_WAITS = 64
"""The number of waits for input whose median is the usual wait."""

_REFRESH = 16
"""The number of waits after which the median is computed again."""

_PAUSE_FACTOR = 10
_SHORTEST_PAUSE = 0.01
"""A wait is a pause if it is this many times as long as usual, and at least this many seconds long."""

Watch: TypeAlias = Callable[[Awaited, float], WatchedCall | None]


class _Returned(NamedTuple):
    """The last call that returned.

    Attributes:
        name: the name of its function.
        part: the part that the device works for: training or evaluation.
        result: an array of its result; None if there is none, or if it was ready when the call returned.
        watched: the call as the thread watches it, if it does.
    """

    name: str
    part: str
    result: weakref.ref[Awaited] | None
    watched: WatchedCall | None


class TimeLedger:
    """The seconds of each part since the run was opened. Their sum is the time that was accounted for.

    Args:
        opened: when the run was opened.
        watch: watches a call; see :meth:`ReadinessWatch.watch`.

    Attributes:
        seconds: the seconds by part.
        compile_seconds: those of compilations, by phase.
        until: the moment up to which the time was accounted for.
        longest_wait: the longest wait for input, in seconds, since it was set to 0.
    """

    def __init__(self, opened: float, watch: Watch):
        self.seconds = dict.fromkeys(NAMES, 0.0)
        self.compile_seconds = {"trace": 0.0, "lowering": 0.0, "xla": 0.0}
        self.until = opened
        self.longest_wait = 0.0
        self._watch = watch
        self._returned: _Returned | None = None
        # The part of an earlier call that the device still computes while the next one is dispatched.
        self._busy_with: str | None = None
        self._is_evaluation = False
        self._device_times = DeviceTimes()
        self._rest = _FIRST_REST
        self._next_watch = opened
        self._waits = collections.deque[float](maxlen=_WAITS)
        self._waits_left = _REFRESH
        self._usual_wait = 0.0
        self._pause_from = math.inf

    def begin(self, now: float, spans: Seconds | None, *, is_evaluation: bool) -> None:
        """Account for the time between two calls, when the second one begins."""
        returned, gap = self._returned, now - self.until
        idle = EVALUATION if is_evaluation else INPUT
        self._busy_with = None
        if returned is None:
            self._spend(OUTSIDE, gap, spans)
        else:
            device = self._device_seconds(returned, now, gap)
            if device is None:
                self._busy_with, device = returned.part, gap
            else:
                device = min(device, gap if spans is None else gap - spans.total)
                wait = self._spend(idle, gap - device, spans)
                if idle == INPUT:
                    self._note_wait(wait)
            self.seconds[returned.part] += device
        self._is_evaluation = is_evaluation
        self.until = now

    def end(
        self,
        now: float,
        spans: Seconds | None,
        *,
        name: str,
        result: Awaited | None,
        dispatch: float | None,
        is_host: bool,
    ) -> None:
        """Account for the time in a call, when it returns.

        Args:
            now: the time.
            spans: what the thread did since :meth:`begin`.
            name: the name of the function.
            result: an array of the result, if there is one.
            dispatch: the seconds that JAX took in the call, if they were measured; jaxboard took the others.
            is_host: whether the processor of the thread is the device, which may compute before the call returns.
        """
        part = EVALUATION if self._is_evaluation else DEVICE
        ready = is_ready(result)
        duration = now - self.until
        if spans is None and dispatch is not None and self._busy_with is None:
            own = min(max(duration - dispatch, 0.0), duration)
            self.seconds[JAXBOARD] += own
            duration -= own
        if self._busy_with is not None:
            target = self._busy_with
        elif self._is_evaluation:
            target = EVALUATION
        else:
            target = DEVICE if ready and is_host else DISPATCH
        self._spend(target, duration, spans)
        watched = None
        if ready is False and result is not None and now >= self._next_watch:
            watched = self._watch(result, now)
            self._next_watch = now + self._rest
        awaited = None if ready or result is None else weakref.ref(result)
        self._returned = _Returned(name, part, awaited, watched)
        self.until = now

    def finish(self, now: float, spans: Seconds | None) -> None:
        """Account for the time after the last call."""
        returned, gap = self._returned, now - self.until
        device = 0.0
        if returned is not None:
            device = self._device_seconds(returned, now, gap)
            device = min(gap if device is None else device, gap - (spans.total if spans else 0.0))
            self.seconds[returned.part] += device
        self._spend(OUTSIDE, gap - device, spans)
        self._returned = None
        self.until = now

    def _note_wait(self, wait: float) -> None:
        """Note a wait for input. The part of a long one that is not usual belongs to the pauses."""
        self.longest_wait = max(self.longest_wait, wait)
        self._waits.append(wait)
        self._waits_left -= 1
        if not self._waits_left:
            self._waits_left = _REFRESH
            usual = self._usual_wait = sorted(self._waits)[len(self._waits) // 2]
            self._pause_from = max(_PAUSE_FACTOR * usual, _SHORTEST_PAUSE)
        if wait >= self._pause_from:
            excess = wait - self._usual_wait
            self.seconds[INPUT] -= excess
            self.seconds[PAUSE] += excess

    def _spend(self, part: str, seconds: float, spans: Seconds | None) -> float:
        """Account for seconds in which the device was idle; return those that were not in spans."""
        if spans is not None:
            for phase, spent in spans.compile.items():
                self.compile_seconds[phase] += spent
            self.seconds[COMPILE] += sum(spans.compile.values())
            self.seconds[CHECKPOINT] += spans.checkpoint
            seconds -= spans.total
        self.seconds[part] += seconds
        return seconds

    def _device_seconds(self, returned: _Returned, now: float, gap: float) -> float | None:
        """Return for how long the device went on to compute a call after it had returned; None if it still does."""
        if returned.result is None:
            return 0.0
        ready = is_ready(returned.result())
        watched = returned.watched
        if watched is not None:
            watched.is_over = True
        if ready is False:
            if watched is not None:
                self._rest = min(2 * self._rest, _LONGEST_REST)
            return None
        if watched is None or (ready is None and watched.ready_at is None):
            return self._device_times.estimate(returned.name, gap)
        latest = watched.ready_at or now
        name, began = returned.name, watched.began
        low, high = watched.busy_until - began, latest - began
        device = self._device_times.note(name, low, high, gap=now - began)
        self._rest = _USUAL_REST if self._device_times.is_known(name) else _FIRST_REST
        return min(device, gap)
