"""The requests of callers to a flusher: to flush, to close, to save."""

from __future__ import annotations

import threading
import time
from typing import Literal, TypeAlias

from jaxboard._host.outbox import SinkFault
from jaxboard._host.run_state import HostState

Task: TypeAlias = Literal["flush", "close", "save"]

_SIGNAL_SECS = 0.5
"""Most seconds by which a caller that waits may notice Ctrl-C late."""


class FlushRequest:
    """A caller that waits until everything now in the buffer has been offered.

    Attributes:
        task: whether the caller flushes the run, closes it, or saves its state.
        done: set when the request has been served.
        pending: how many reports were pending then.
        faults: the sinks that failed then.
        step: the step of the next call, if the caller saves the state.
        saved: the state then.
    """

    def __init__(self, task: Task, step: int = 0) -> None:
        self.task: Task = task
        self.step = step
        self.done = threading.Event()
        self.pending = 0
        self.faults: list[SinkFault] = []
        self.saved = HostState()

    @property
    def is_done(self) -> bool:
        """True once the request has been served."""
        return self.done.is_set()

    def wait(self, timeout: float) -> bool:
        """Return whether the request has been served within that many seconds."""
        deadline = time.monotonic() + timeout
        # A signal that arrives just before a thread begins to wait is handled only when the wait ends.
        while not self.done.wait(min(max(deadline - time.monotonic(), 0.0), _SIGNAL_SECS)):
            if time.monotonic() >= deadline:
                return False
        return True
