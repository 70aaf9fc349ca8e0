"""The thread of a run that carries reports from its buffer to its sink.

It never waits for a device: a device may be waiting for a host callback, and that for the sake of
room in the buffer. Whoever wants everything delivered waits for the device on a thread of their own,
in :meth:`Flusher.flush` and :meth:`Flusher.close`.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import jax

from jaxboard._errors import RunError
from jaxboard._host.buffer import Buffer
from jaxboard._host.fetch import Fetched
from jaxboard._host.intake import Intake
from jaxboard._host.lost import LostReports
from jaxboard._log import describe
from jaxboard._process import fork
from jaxboard.records import Batch, size_of
from jaxboard.sinks import Sink

_AGAIN = (
    "It is tried again until the run is closed; reports are kept as far as the buffer reaches, and "
    "training goes on."
)


_MANY_BYTES = 16 * 2**20
"""So much is written before its time."""

_REFUSE_AT_THE_END = ("concurrent.futures.thread", "concurrent.futures.process")
"""Modules that TensorFlow imports and that can't be once the interpreter has begun to end."""

_OPENING_SECS = 60.0
"""How long an interpreter that ends waits for a sink that is being opened."""


class BatchAssembler(Protocol):
    """Makes batches of what lay in the buffer; may hold back what is not complete yet."""

    def assemble(self, items: list[Fetched], now: float) -> Batch:
        """What is complete with ``items``."""
        ...

    def so_far(self, untouched_since: float) -> Batch:
        """What is held back and did not change since then, by the clock of ``now``, as it is."""
        ...

    def finish(self) -> Batch:
        """All that was held back."""
        ...


class _Request:
    """Somebody waits until all that is in the buffer now has been tried."""

    def __init__(self, closes: bool) -> None:
        self.closes = closes
        self.done = threading.Event()
        self.undelivered = 0
        self.fault: BaseException | None = None


class Flusher:
    """Fetches, assembles, writes and flushes, on one daemon thread, ``flush_secs`` behind at most.

    A batch that a sink refused is kept and offered again, the same list, before any other; what
    comes meanwhile waits in the buffer, within its bound. A frame whose computation failed is left
    out and counted.

    Args:
        buffer: where reports are put.
        assembler: makes batches of them. Used on this thread only.
        sink: takes the batches. Used on this thread only.
        flush_secs: how old a report that can be read may get before it is on disk.
        losses: where what could not be delivered is counted and shown.
        writes: whether this process writes at all; its argument says whether a frame has come, that
            is, whether JAX certainly runs already. By default it does.

    Attributes:
        cpu_seconds: how long the thread has kept a processor busy, as of its last turn.
    """

    def __init__(
        self,
        buffer: Buffer,
        assembler: BatchAssembler,
        sink: Sink,
        *,
        flush_secs: float = 1.0,
        losses: LostReports | None = None,
        writes: Callable[[bool], bool] | None = None,
    ):
        self._buffer = buffer
        self._assembler = assembler
        self._sink = sink
        self._losses = losses or LostReports()
        self._writes = writes or (lambda _: True)
        self._intake = Intake(buffer, self._writes, self._losses)
        self._period = flush_secs / 2
        self.cpu_seconds = 0.0
        # When it is to write, and how long it waits before it looks into the buffer again.
        self._due = time.monotonic() + self._period
        self._pause = self._period
        self._requests: deque[_Request] = deque()
        self._opened = threading.Event()
        self._ended = False
        self._batch: Batch | None = None
        self._fault: BaseException | None = None
        # Held while the sink has data that it hasn't flushed.
        self._writing = threading.Lock()
        name = f"jaxboard flusher ({self._losses.name})"
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        fork.wait_for(self._writing)
        self._thread.start()
        for name in _REFUSE_AT_THE_END:
            importlib.import_module(name)
        # The interpreter waits for threads that are no daemons before it calls what is registered
        # with atexit. TensorFlow registers there itself, and crashes the process if it has been
        # imported too late for that: so the end of a short program waits for its import.
        threading.Thread(
            target=self._opened.wait, args=(_OPENING_SECS,), name="jaxboard opening"
        ).start()

    def flush(self, timeout: float) -> None:
        """Waits until everything put before this call is on disk.

        Args:
            timeout: how many seconds the sink may take. The device may take as long as it needs.

        Raises:
            RunError: something is not on disk, or was lost since the last call.
        """
        self._settle(None)
        request = self._ask(closes=False)
        if not request.done.wait(timeout):
            raise self._too_late(timeout)
        fault = request.fault
        if fault is not None:
            lost = self._losses.take()
            text = (
                f"run {self._losses.name}: {request.undelivered} reports are not on disk yet: "
                f"{describe(fault)}. They are kept and will be tried again."
            )
            raise RunError(text if lost is None else f"{text}\n{lost}") from fault
        self._losses.raise_any()

    def close(self, timeout: float, *, device_timeout: float | None = None) -> None:
        """Delivers all that is left, closes the sink and ends the thread.

        Args:
            timeout: how many seconds the sink may take.
            device_timeout: how many seconds the device may take; None, as long as it needs.

        Raises:
            RunError: something is not on disk, or was lost since the last call.
        """
        self._settle(device_timeout)
        self._buffer.close()
        if not self._ask(closes=True).done.wait(timeout):
            raise self._too_late(timeout)
        self._thread.join(timeout)
        self._losses.raise_any()

    # --- On the caller's thread. ------------------------------------------------------------------

    def await_callbacks(self) -> None:
        """Waits for host callbacks that are on their way: they put reports too."""
        try:
            jax.effects_barrier()
        except Exception as fault:
            self._losses.show(
                f"a host callback failed: {describe(fault)}", "What it had to report is lost."
            )

    def _settle(self, timeout: float | None) -> None:
        if timeout is None:
            self.await_callbacks()
            self._buffer.settle()
        else:
            self._buffer.settle(time.monotonic() + timeout)

    def _ask(self, closes: bool) -> _Request:
        request = _Request(closes)
        self._requests.append(request)
        self._buffer.wake.set()
        if self._ended:
            request.done.set()
        return request

    def _too_late(self, timeout: float) -> RunError:
        return RunError(
            f"run {self._losses.name}: {type(self._sink).__name__} did not finish within "
            f"{timeout:g} s; {self._undelivered()} reports that it was given and {len(self._buffer)} "
            "calls that wait behind them may not be on disk."
        )

    # --- On the flusher's thread. -----------------------------------------------------------------

    def _loop(self) -> None:
        self._open()
        final = False
        while not final:
            woken = self._buffer.wake.wait(self._pause)
            self._buffer.wake.clear()
            requests = self._take_requests()
            final = any(request.closes for request in requests)
            self._turn(woken, final, asked=bool(requests))
            for request in requests:
                request.undelivered, request.fault = self._undelivered(), self._fault
                request.done.set()
            self.cpu_seconds = time.thread_time()
        self._fault = None
        # Whoever asks from now on sees this; whoever asked before is answered here.
        self._ended = True
        for request in self._take_requests():
            request.done.set()

    def _take_requests(self) -> list[_Request]:
        return [self._requests.popleft() for _ in range(len(self._requests))]

    def _open(self) -> None:
        try:
            if self._writes(False):
                getattr(self._sink, "open", bool)()
        except BaseException as fault:
            self._complain(fault, _AGAIN)
        finally:
            self._opened.set()

    def _turn(self, woken: bool, final: bool, asked: bool) -> None:
        now = time.monotonic()
        again = self._period
        if self._batch is None and not woken:
            again = self._intake.take(rest_until=now + self._period / 2)
        if woken or now >= self._due or self._intake.nbytes > _MANY_BYTES:
            self._cycle(final, asked)
            self._due = now + self._period
        self._pause = min(again, max(self._due - time.monotonic(), 0.0))

    def _cycle(self, final: bool, asked: bool) -> None:
        if self._batch is not None:
            self._deliver()
        if self._batch is None or final:
            if self._batch is not None and not hasattr(self._sink, "undelivered"):
                self._give_up()
            self._intake.take(rest_until=0.0)
            self._batch = self._collect(final, asked) or None
            self._deliver()
        if final:
            self._deliver()  # A sink that met a fault may have a new file to try.
            self._give_up()
            try:
                with self._writing:
                    self._sink.close()
            except BaseException as fault:
                self._losses.add(1, f"the sink could not be closed: {describe(fault)}", fault)
                self._complain(fault, "What it had not flushed is lost.")

    def _collect(self, final: bool, asked: bool) -> Batch:
        items = self._intake.hand_over()
        try:
            now = time.monotonic()
            batch = self._assembler.assemble(items, now) if items else []
            if final:
                return [*batch, *self._assembler.finish()]
            # Whoever calls flush() wants to see what there is.
            return [*batch, *self._assembler.so_far(now if asked else now - self._period)]
        except BaseException as fault:
            self._intake.lose(items, fault)
            return []

    def _deliver(self) -> None:
        if self._batch is None and self._fault is None:
            return
        try:
            with self._writing:
                # With nothing new, a sink that keeps what it could not write tries that.
                self._sink.write(self._batch or [])
                self._sink.flush()
        except BaseException as fault:
            self._complain(fault, _AGAIN)
            self._fault = fault
            if getattr(self._sink, "takes_more", False):
                self._batch = None
        else:
            if self._fault is not None:
                self._losses.mended("what could not be written is now.")
            self._batch = self._fault = None

    def _undelivered(self) -> int:
        """How many reports the sink was given and did not flush."""
        kept = getattr(self._sink, "undelivered", None)
        return size_of(self._batch or []) if kept is None else kept

    def _give_up(self) -> None:
        undelivered = self._undelivered()
        if undelivered:
            why = "the sink raised" if self._fault is None else describe(self._fault)
            self._losses.add(undelivered, why, self._fault)
        self._batch = self._fault = None

    def _complain(self, fault: BaseException, then: str) -> None:
        self._losses.show(f"{type(self._sink).__name__} failed: {describe(fault)}", then)
