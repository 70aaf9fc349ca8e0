"""The outbox: batches on their way to the sinks. Each sink receives each batch once, whatever faults occur.

The words for the state of a report are the same everywhere. It is **pending** once it is accepted here,
**written** once every sink has flushed it, and **lost** if the run closes before that.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple

from jaxboard._errors import UsageError
from jaxboard._host.lost import LostReports
from jaxboard._log import describe
from jaxboard._process import fork
from jaxboard._safe_repr import safe_repr
from jaxboard.records import Batch, size_of
from jaxboard.sinks import Sink

_RETRY = (
    "jaxboard retries until the run is closed and keeps reports up to the buffer's limit. Training "
    "goes on."
)


class SinkFault(NamedTuple):
    """The last exception that a sink raised.

    Attributes:
        sink: the name of the sink's class.
        fault: the exception.
    """

    sink: str
    fault: BaseException

    def __str__(self) -> str:
        return f"{self.sink} failed: {describe(self.fault)}"

    @property
    def kind(self) -> Hashable:
        """The part that faults of one cause share: each retry may name another file."""
        cause = self.fault
        while cause.__cause__ is not None:
            cause = cause.__cause__
        number = cause.errno if isinstance(cause, OSError) else None
        return str(self) if number is None else (self.sink, number)


class Outbox:
    """Pending batches, and the sinks that they are written to.

    Each sink has its own queue, so a failing sink does not delay the others. A sink that raises is assumed
    to have lost everything since its last successful ``flush``; it gets those batches again, in
    order and before newer ones. All methods are called by one thread, the flusher; any thread may read
    the properties.

    Args:
        sinks: the sinks, in the order in which they receive a batch.
        lost: counts lost reports and logs faults.
        max_bytes: how much may be pending while a sink fails and another one works. Beyond that, and
            while every sink fails, no batch is accepted: reports wait in the buffer, within its limits.

    Raises:
        UsageError: one of ``sinks`` is not a sink.

    Example:
        >>> from jaxboard.sinks import MemorySink
        >>> outbox = Outbox([MemorySink(), MemorySink()], LostReports())
        >>> outbox.offer([])
        >>> outbox.flush()
        >>> outbox.pending, outbox.has_room
        (0, True)
    """

    def __init__(self, sinks: Iterable[Sink], lost: LostReports, *, max_bytes: int = 2**28) -> None:
        self._queues = [_SinkQueue(sink) for sink in checked_sinks(sinks)]
        self._lost = lost
        self._max_bytes = max_bytes
        self._busy: str | None = None
        self._failed = False
        # Held while a sink may have unflushed data: a forked child would write a copy of it.
        self._writing = threading.Lock()
        fork.wait_for(self._writing)

    @property
    def pending(self) -> int:
        """The number of reports that at least one sink has not flushed."""
        return sum(batch.count for batch in self._pending_batches())

    @property
    def has_room(self) -> bool:
        """True if another batch may be offered."""
        batches = self._pending_batches()
        if not batches:
            return True
        if all(queue.fault is not None for queue in self._queues):
            return False
        return sum(batch.nbytes for batch in batches) <= self._max_bytes

    @property
    def faults(self) -> list[SinkFault]:
        """The sinks that fail at present, with the exception of each."""
        return [
            SinkFault(queue.name, queue.fault) for queue in self._queues if queue.fault is not None
        ]

    @property
    def busy_sink(self) -> str | None:
        """The class name of the sink whose method runs now, or None."""
        return self._busy

    def open(self) -> None:
        """Open every sink. A fault is logged; writing tries again."""
        for queue in self._queues:
            self._busy = queue.name
            try:
                queue.open()
            except BaseException as fault:
                self._log(queue, fault, _RETRY)
        self._busy = None

    def offer(self, batch: Batch) -> None:
        """Accept a batch. It is pending until :meth:`flush` has written it to every sink."""
        if batch:
            accepted = _PendingBatch(batch)
            for queue in self._queues:
                queue.append(accepted)

    def flush(self) -> None:
        """Write all pending batches and flush the sinks. A fault is logged and its batches stay pending."""
        failing = bool(self.faults)
        for queue in self._queues:
            self._deliver(queue)
        if failing and not self.faults:
            self._lost.resolve("earlier write failures have been resolved.")

    def fail(self) -> None:
        """Note that the program has failed, for the sinks. Another thread may call this, before the last batch is due."""
        self._failed = True

    def close(self) -> None:
        """Write what is pending, count what is lost, and close every sink.

        A sink that fails gets a second chance at each batch, since many sinks recover by opening a new
        file. A batch that fails twice is lost, and the ones after it are still written, unless the next one
        fails twice too: then all of them are lost.
        """
        if self._failed:
            self._pass_failure()
        self.flush()
        lost: set[_PendingBatch] = set()
        # Working sinks first: the retries of a broken one may take longer than the caller waits.
        for queue in sorted(self._queues, key=lambda queue: bool(queue.pending)):
            self._deliver_or_lose(queue, lost)
            self._close_sink(queue)

    def _deliver(self, queue: _SinkQueue, max_batches: int | None = None) -> None:
        if not queue.pending:
            return
        self._busy = queue.name
        try:
            with self._writing:
                queue.deliver(max_batches)
        except BaseException as fault:
            self._log(queue, fault, _RETRY)
        self._count_lost(queue)
        self._busy = None

    def _deliver_or_lose(self, queue: _SinkQueue, lost: set[_PendingBatch]) -> None:
        failures = 0
        while queue.pending:
            for _ in range(2):
                self._deliver(queue, max_batches=1)
                if queue.fault is None:
                    failures = 0
                    break
            else:
                failures += 1
                self._lose(queue, lost, max_batches=1 if failures == 1 else None)
        queue.fault = None

    def _lose(self, queue: _SinkQueue, lost: set[_PendingBatch], max_batches: int | None) -> None:
        """Drop pending batches of a failing sink, and count those that no other sink has lost."""
        # A local variable for the fault would form a cycle with its traceback and keep the run alive.
        new = [batch for batch in queue.drop(max_batches) if batch not in lost]
        lost.update(new)
        if queue.fault is not None:
            reason = str(SinkFault(queue.name, queue.fault))
            self._lost.add(sum(batch.count for batch in new), reason, queue.fault)

    def _pass_failure(self) -> None:
        for queue in self._queues:
            try:
                queue.fail()
            except BaseException as fault:
                self._log(queue, fault, "It may show the run as a success.")

    def _close_sink(self, queue: _SinkQueue) -> None:
        self._busy = queue.name
        try:
            with self._writing:
                queue.sink.close()
        except BaseException as fault:
            self._lost.add(1, f"{queue.name} could not be closed: {describe(fault)}", fault)
            self._log(queue, fault, "Reports that it had not flushed are lost.")
        self._count_lost(queue)
        self._busy = None

    def _count_lost(self, queue: _SinkQueue) -> None:
        """Count the records that a sink could not write among those that it has flushed."""
        try:
            for reason, count in queue.take_lost().items():
                self._lost.add(count, f"{queue.name}: {reason}")
        except Exception as fault:
            self._log(queue, fault, "It may have lost reports.")

    def _log(self, queue: _SinkQueue, fault: BaseException, consequence: str) -> None:
        sink_fault = SinkFault(queue.name, fault)
        self._lost.log_once(str(sink_fault), consequence, sink_fault.kind)

    def _pending_batches(self) -> set[_PendingBatch]:
        return {batch for queue in self._queues for batch in queue.pending}


class _PendingBatch:
    """A batch that at least one sink has not flushed."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch

    # Most batches are written before their size is needed.
    @functools.cached_property
    def count(self) -> int:
        """The number of reports."""
        return size_of(self.batch)

    @functools.cached_property
    def nbytes(self) -> int:
        """The size of the values in bytes."""
        return sum(item.nbytes for item in self.batch)


class _SinkQueue:
    """One sink and its pending batches.

    Attributes:
        sink: the sink.
        name: the name of its class.
        fault: what it raised last, or None if its last flush succeeded.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.name = type(sink).__name__
        self.fault: BaseException | None = None
        self._unwritten: list[_PendingBatch] = []
        self._unflushed: list[_PendingBatch] = []

    @property
    def pending(self) -> list[_PendingBatch]:
        """The batches that the sink has not flushed, in order."""
        return self._unflushed + self._unwritten

    def open(self) -> None:
        """Open the sink."""
        if hasattr(self.sink, "open"):
            self.sink.open()

    def take_lost(self) -> Mapping[str, int]:
        """Return how many records the sink could not write, by reason."""
        return self.sink.take_lost() if hasattr(self.sink, "take_lost") else {}

    def fail(self) -> None:
        """Note that the program has failed."""
        if hasattr(self.sink, "fail"):
            self.sink.fail()

    def append(self, batch: _PendingBatch) -> None:
        """Add a batch at the end."""
        self._unwritten.append(batch)

    def deliver(self, max_batches: int | None = None) -> None:
        """Write pending batches, and flush.

        Args:
            max_batches: the most batches to write; None for all.
        """
        count = len(self._unwritten) if max_batches is None else max_batches
        try:
            for _ in range(count):
                self.sink.write(self._unwritten[0].batch)
                self._unflushed.append(self._unwritten.pop(0))
                if self.fault is not None:
                    # After a fault each batch is flushed separately. If one keeps failing, those
                    # before it are not written again and again.
                    self._flush()
            self._flush()
        except BaseException as fault:
            self.fault = fault
            self._unwritten = self._unflushed + self._unwritten
            self._unflushed = []
            raise
        self.fault = None

    def drop(self, max_batches: int | None = None) -> list[_PendingBatch]:
        """Remove and return the first pending batches of a sink that has failed, at most ``max_batches``."""
        dropped = self._unwritten[:max_batches]
        del self._unwritten[:max_batches]
        return dropped

    def _flush(self) -> None:
        # A fault of an unneeded flush would bring back batches that are already written.
        if self._unflushed:
            self.sink.flush()
            self._unflushed = []


def checked_sinks(sinks: Iterable[Sink]) -> list[Sink]:
    """Return the sinks of a run as a list.

    Raises:
        UsageError: one of ``sinks`` is not a sink, or ``sinks`` is not a sequence of sinks.
    """
    checked: list[Sink] = []
    try:
        for sink in sinks:
            if not _is_sink(sink):
                break
            checked.append(sink)
        else:
            return checked
    except Exception:
        raise UsageError(
            f"Run(sinks={safe_repr(sinks)}): expected a list of sinks (jaxboard.sinks.Sink)."
        ) from None
    raise UsageError(
        f"Run(sinks=[...]): expected instances of jaxboard.sinks.Sink, got {safe_repr(sink)}, which has not all "
        "of the methods write, flush and close."
    )


def _is_sink(sink: object) -> bool:
    # A sink that is not a subclass of Sink has only what it needs.
    needed = ("write", "flush", "close")
    return not isinstance(sink, type) and all(
        callable(getattr(sink, name, None)) for name in needed
    )
