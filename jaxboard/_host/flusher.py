"""The flusher: the thread of a run that carries reports from its buffer to its sinks.

The thread never waits for a device. A device may be waiting for a host callback, and that callback for
space in the buffer. Callers of :meth:`Flusher.flush` and :meth:`Flusher.close` wait for the device on their
own thread.
"""

from __future__ import annotations

import functools
import importlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from jaxboard._errors import RunError
from jaxboard._host.buffer import Buffer
from jaxboard._host.complete_points import Assembled, FailedPoint
from jaxboard._host.fetch import Fetched
from jaxboard._host.flush_request import FlushRequest, Task
from jaxboard._host.lost import LostReports, await_callbacks
from jaxboard._host.outbox import Outbox
from jaxboard._host.reader import BufferReader
from jaxboard._host.run_state import HostState
from jaxboard._log import describe
from jaxboard.records import Batch, Record

_MANY_BYTES = 16 * 2**20
"""Write early once this many bytes are waiting."""

_NOT_IMPORTABLE_AT_EXIT = ("concurrent.futures.thread", "concurrent.futures.process")
"""Modules that TensorFlow imports, and that cannot be imported once the interpreter is shutting down."""

_OPENING_SECS = 60.0
"""Most seconds that interpreter exit waits for sinks that are being opened."""

_EXIT_SECS = 2.0
"""Most seconds for the work after the last write, in a process that a signal ends."""

_POLL_SECS = 0.5
"""Most seconds between two calls of each of :attr:`Flusher.polls`."""


class BatchAssembler(Protocol):
    """Makes batches from the contents of the buffer. It may hold back points that are not complete."""

    def assemble(self, items: list[Fetched], now: float) -> Assembled:
        """Return the points that ``items`` complete."""
        ...

    def partial(self, unchanged_since: float) -> Assembled:
        """Return the incomplete points that have not changed since then, by the clock of ``now``."""
        ...

    def finish(self) -> Assembled:
        """Return every point that was held back."""
        ...

    def save(self, step: int) -> HostState:
        """Return what is held back, for a state at a step."""
        ...


class BatchMonitor(Protocol):
    """Looks at everything that is about to be written, and changes none of it.

    Attributes:
        found: what it has found, and does not report again.
    """

    found: set[str]

    def start(self, settle: Callable[[float], object]) -> None:
        """Prepare for the first points.

        Args:
            settle: see :meth:`Flusher.settle`.
        """
        ...

    def observe(self, assembled: Assembled) -> Sequence[Record]:
        """Return records of its own, to be written after what it saw."""
        ...

    def finish(self) -> Sequence[Record]:
        """Return its last records, after everything was seen."""
        ...


class Flusher:
    """Fetches, assembles and delivers reports on one daemon thread, at most ``flush_secs`` late.

    A frame whose computation failed is left out and counted as lost.

    Args:
        buffer: where reports arrive.
        assembler: makes batches of them. Used by the flusher's thread only.
        outbox: takes the batches. Used by the flusher's thread only.
        flush_secs: the maximum age, in seconds, of a readable report that is not written.
        lost: counts lost reports and logs faults.
        monitors: each sees every batch. Used by the flusher's thread only.
        on_closed: what the closing thread calls after the thread has ended, with the seconds that it may take.
        is_writer: returns whether this process writes at all. Its argument is whether a frame has arrived,
            that is, whether JAX has certainly been initialized. By default every process writes.
        takes_frames: see :class:`BufferReader`.
        observe_secs: the most seconds until the monitors see a readable report, if that is less than
            ``flush_secs``.

    Attributes:
        cpu_seconds: how long the thread has used a processor, as of its last turn.
        polls: called on the thread at least every half second. They must not raise.
    """

    def __init__(
        self,
        buffer: Buffer,
        assembler: BatchAssembler,
        outbox: Outbox,
        *,
        flush_secs: float = 1.0,
        lost: LostReports | None = None,
        monitors: Sequence[BatchMonitor] = (),
        on_closed: Callable[[float], object] | None = None,
        is_writer: Callable[[bool], bool] = lambda _: True,
        takes_frames: bool = True,
        observe_secs: float = float("inf"),
    ):
        self._buffer = buffer
        self._assembler = assembler
        self._outbox = outbox
        self._lost = lost or LostReports()
        self._monitors = monitors
        self._on_closed = on_closed
        self._is_writer = is_writer
        self._reader = BufferReader(buffer, is_writer, self._lost, takes_frames=takes_frames)
        self._period = min(flush_secs, threading.TIMEOUT_MAX) / 2
        self.cpu_seconds = 0.0
        self.polls: list[Callable[[], object]] = []
        self._observe_secs = min(observe_secs, self._period)
        # When the next write is due, when the monitors are to see points, and how long to wait before the next look into
        # the buffer.
        self._due_at = time.monotonic() + self._period
        self._observe_at = time.monotonic() + self._observe_secs
        self._pause = self._observe_secs
        self._requests: deque[FlushRequest] = deque()
        self._opened = threading.Event()
        self._ended = False
        name = f"jaxboard flusher ({self._lost.name})"
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        for monitor in self._monitors:
            monitor.start(self.settle)
        self._thread.start()
        for name in _NOT_IMPORTABLE_AT_EXIT:
            importlib.import_module(name)
        # The interpreter waits for threads that are not daemons before it calls the functions registered
        # with atexit. TensorFlow registers one, and crashes the process if it was imported too late for
        # that. This thread makes the end of a short program with a remote directory wait for that import.
        threading.Thread(
            target=self._opened.wait, args=(_OPENING_SECS,), name="jaxboard opening"
        ).start()

    def flush(self, timeout: float) -> None:
        """Wait until everything put before this call is written.

        Args:
            timeout: how many seconds the sinks may take. The device may take as long as it needs.

        Raises:
            RunError: reports are pending because a sink failed, or were lost since the last call.
        """
        self._wait_for_device(None)
        request = self._submit("flush")
        if not request.wait(timeout):
            raise self._timeout_error(timeout)
        if request.faults:
            lost = self._lost.take_error()
            faults = "; ".join(map(str, request.faults))
            text = (
                f"run {self._lost.name}: {_count(request.pending, 'report')} pending: {faults}. jaxboard "
                "keeps the pending reports and retries."
            )
            cause = request.faults[0].fault
            raise RunError(text if lost is None else f"{text}\n{lost}") from cause
        self._lost.raise_error()

    def settle(self, timeout: float) -> None:
        """Wait until everything put before this call was seen by the monitor. A fault of a sink does not raise.

        Args:
            timeout: how many seconds the sinks may take. The device may take as long as it needs.
        """
        self._wait_for_device(None)
        self._submit("flush").wait(timeout)

    def close(self, timeout: float, *, device_timeout: float | None = None) -> None:
        """Write everything that is left, close the sinks and end the thread.

        Args:
            timeout: how many seconds the sinks may take.
            device_timeout: how many seconds the device may take; None for as long as it needs.

        Raises:
            RunError: the sinks did not finish in time, or reports were lost since the last call.
        """
        self._wait_for_device(device_timeout)
        self._buffer.close()
        if not self._submit("close").wait(timeout):
            raise self._timeout_error(timeout, self._lost.take_error())
        self._thread.join(timeout)
        if self._on_closed is not None:
            # Everything is written, and a process that a signal ends has other runs to close.
            self._on_closed(timeout if device_timeout is None else min(timeout, _EXIT_SECS))
        self._lost.raise_error()

    def fail(self) -> None:
        """Note that the program has failed. The sinks are notified before they are closed."""
        self._outbox.fail()

    def save(self, step: int, timeout: float) -> HostState:
        """Wait until all complete points put before this call are written; return the others, which are not written.

        A fault of a sink does not raise: the points that it has not written stay pending.

        Args:
            step: the step of the next call.
            timeout: how many seconds the sinks may take. The device may take as long as it needs.

        Raises:
            RunError: the sinks did not finish in time.
        """
        self._wait_for_device(None)
        request = self._submit("save", step)
        if not request.wait(timeout):
            raise self._timeout_error(timeout)
        return request.saved

    def request_flush(self) -> FlushRequest:
        """Ask for everything that the device has computed to be written, without waiting for it."""
        return self._submit("flush")

    def await_callbacks(self) -> None:
        """Wait for host callbacks that have not arrived: they put reports too."""
        await_callbacks(self._lost)

    # --- On the caller's thread. ------------------------------------------------------------------

    def _wait_for_device(self, timeout: float | None) -> None:
        if timeout is None:
            self.await_callbacks()
            self._buffer.wait_until_ready()
        else:
            self._buffer.wait_until_ready(time.monotonic() + timeout)

    def _submit(self, task: Task, step: int = 0) -> FlushRequest:
        request = FlushRequest(task, step)
        self._requests.append(request)
        self._buffer.wake.set()
        if self._ended:
            request.done.set()
        return request

    def _timeout_error(self, timeout: float, lost: RunError | None = None) -> RunError:
        faults = self._outbox.faults
        text = (
            f"run {self._lost.name}: {self._outbox.busy_sink or 'the flusher'} did not finish within "
            f"{timeout:g} s. {_count(self._outbox.pending, 'report')} pending, and "
            f"{_count(len(self._buffer), 'call')} waiting in the buffer."
        )
        text = " ".join([text, *(f"{fault}." for fault in faults)])
        error = RunError(text if lost is None else f"{text}\n{lost}")
        error.__cause__ = faults[0].fault if faults else lost and lost.__cause__
        return error

    # --- On the flusher's thread. -----------------------------------------------------------------

    def _loop(self) -> None:
        self._open()
        tasks: set[Task] = set()
        while "close" not in tasks:
            woken = self._wait()
            self._buffer.wake.clear()
            requests = self._take_requests()
            tasks = {request.task for request in requests}
            # A request that arrives between the timeout of wait() and clear() leaves no other trace.
            self._turn(woken or bool(tasks), tasks)
            for request in requests:
                request.pending, request.faults = self._outbox.pending, self._outbox.faults
                if request.task == "save":
                    request.saved = self._saved(request.step)
                request.done.set()
            self.cpu_seconds = time.thread_time()
        # Later requests see this flag; earlier ones are served here.
        self._ended = True
        for request in self._take_requests():
            request.done.set()

    def _wait(self) -> bool:
        """Wait for the next turn. Return whether the thread was woken."""
        if not self.polls:
            return self._buffer.wake.wait(self._pause)
        deadline = time.monotonic() + self._pause
        while True:
            for poll in self.polls:
                poll()
            left = max(deadline - time.monotonic(), 0.0)
            if self._buffer.wake.wait(min(left, _POLL_SECS)):
                return True
            if left <= _POLL_SECS:
                return False

    def _take_requests(self) -> list[FlushRequest]:
        return [self._requests.popleft() for _ in range(len(self._requests))]

    def _open(self) -> None:
        try:
            if self._is_writer(False):
                self._outbox.open()
        except BaseException as fault:
            self._lost.log_once(
                f"the sinks could not be opened: {describe(fault)}", "Writing opens them."
            )
        finally:
            self._opened.set()

    def _turn(self, woken: bool, tasks: AbstractSet[Task]) -> None:
        now = time.monotonic()
        pause = self._period
        if not woken and self._outbox.has_room:
            pause = self._reader.read(pause_until=now + self._period / 2)
        if woken or now >= self._due_at or self._reader.nbytes > _MANY_BYTES:
            self._write(tasks)
            self._due_at = now + self._period
            self._observe_at = now + self._observe_secs
        elif now >= self._observe_at:
            self._observe_at = now + self._observe_secs
            if self._outbox.has_room:
                self._offer(tasks)
        next_at = min(self._due_at, self._observe_at)
        self._pause = min(pause, max(next_at - time.monotonic(), 0.0))

    def _write(self, tasks: AbstractSet[Task]) -> None:
        final = "close" in tasks
        if not self._outbox.has_room and not final:
            self._outbox.flush()
        # A state must have the values of all reports, also while a sink fails.
        if self._outbox.has_room or final or "save" in tasks:
            self._offer(tasks)
            if final:
                self._outbox.close()
            else:
                self._outbox.flush()

    def _offer(self, tasks: AbstractSet[Task]) -> None:
        """Pass what the buffer holds through the monitors to the outbox."""
        self._reader.read(pause_until=0.0)
        self._outbox.offer(self._assemble("close" in tasks, "flush" in tasks))

    def _assemble(self, final: bool, requested: bool) -> Batch:
        items = self._reader.take_items()
        parts: list[Assembled] = []
        try:
            now = time.monotonic()
            if items:
                parts.append(self._assembler.assemble(items, now))
            if final:
                parts.append(self._assembler.finish())
            else:
                # A caller of flush() wants to see partial points too.
                unchanged_since = now if requested else now - self._period
                parts.append(self._assembler.partial(unchanged_since))
            batch = [item for part in parts for item in part.batch]
            for point in (point for part in parts for point in part.failed):
                self._lose(point)
        except BaseException as fault:
            self._reader.lose(items, fault)
            return []
        for monitor in self._monitors:
            for part in parts:
                batch += self._watched(monitor, functools.partial(monitor.observe, part))
            if final:
                batch += self._watched(monitor, monitor.finish)
        return batch + self._lost.take_explanations()

    def _lose(self, point: FailedPoint) -> None:
        reason = f"the function of report {point.tag!r} raised {type(point.fault).__name__}"
        self._lost.add(1, reason, point.fault)
        self._lost.log_once(
            f"the function of report {point.tag!r} failed at step {point.step}: {describe(point.fault)}",
            "That point is lost. Other reports are written.",
            key=("finish", point.tag),
        )

    def _saved(self, step: int) -> HostState:
        saved = self._assembler.save(step)
        found = set[str]().union(*(monitor.found for monitor in self._monitors))
        return saved._replace(found=tuple(sorted(found)))

    def _watched(
        self, monitor: BatchMonitor, look: Callable[[], Sequence[Record]]
    ) -> Sequence[Record]:
        try:
            return look()
        except BaseException as fault:
            self._lost.log_once(
                f"{type(monitor).__name__} failed: {describe(fault)}", "No report is lost."
            )
            return ()


def _count(count: int, noun: str) -> str:
    return f"1 {noun} is" if count == 1 else f"{count} {noun}s are"
