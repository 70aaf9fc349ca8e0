"""The step time and the data wait of a process, for the statistics over all processes."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from jaxboard._host.observers import Call
from jaxboard._types import PyTree


class Times(NamedTuple):
    """Means over the steps since the last look.

    Attributes:
        step_seconds: from the start of a call to the start of the next one.
        data_seconds: from the end of a call to the start of the next one: loading data, and all else in the loop.
    """

    step_seconds: float
    data_seconds: float


class CallTimes:
    """An observer of the calls of one thread that take a step. A step whose call compiles is left out.

    Args:
        thread: the identifier of the thread.
    """

    def __init__(self, thread: int):
        self._thread = thread
        self._lock = threading.Lock()
        self._began = self._returned = 0.0
        self._steps, self._step_seconds, self._data_seconds = 0, 0.0, 0.0

    def begin(self, call: Call) -> None:
        """End the step before this call, and begin one."""
        if not self._counts(call):
            return
        now = time.perf_counter()
        if self._returned:
            with self._lock:
                self._steps += 1
                self._step_seconds += now - self._began
                self._data_seconds += now - self._returned
        self._began, self._returned = now, 0.0

    def end(self, call: Call, result: PyTree) -> None:
        """Note the end of a call."""
        if self._counts(call) and not self._returned:
            self._returned = time.perf_counter()

    def take(self) -> Times | None:
        """Return the means since the last call, None without a step."""
        with self._lock:
            steps = self._steps
            times = self._step_seconds, self._data_seconds
            self._steps, self._step_seconds, self._data_seconds = 0, 0.0, 0.0
        return Times(*(seconds / steps for seconds in times)) if steps else None

    def _counts(self, call: Call) -> bool:
        return call.advance and threading.get_ident() == self._thread
