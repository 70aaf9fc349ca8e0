"""Several sinks as one, so that a fault of one is not a fault of the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from jaxboard.records import Batch, size_of
from jaxboard.sinks._protocol import Sink


class FanOut:
    """Hands every batch to each of several sinks, to each exactly once.

    Where a sink fails, the others still get the batch, and then an :class:`ExceptionGroup` that
    names the failing sinks is raised. The run answers by writing the *same* batch (the same list
    object) again, or the next one: each goes only to sinks that have yet to take it. A sink that fails
    is taken to have lost all it had not flushed, and gets that again, in the order of the first writes.

    Args:
        sinks: any sinks; they get each batch in this order, runs beneath the run (:attr:`Record.run`)
            among it.
        max_bytes: how much may wait for sinks that fail, before the others have to wait with them.

    Example:
        >>> from jaxboard.sinks import MemorySink
        >>> one, other = MemorySink(), MemorySink()
        >>> sink = FanOut([one, other])
        >>> sink.write([])
        >>> sink.flush()
    """

    def __init__(self, sinks: Iterable[Sink], *, max_bytes: int = 2**28) -> None:
        self._branches = [_Branch(sink) for sink in sinks]
        self._max_bytes = max_bytes

    @property
    def sinks(self) -> tuple[Sink, ...]:
        """The sinks, in the order in which they are called."""
        return tuple(branch.sink for branch in self._branches)

    @property
    def undelivered(self) -> int:
        """How many reports a sink, or several, have yet to take."""
        return sum(map(size_of, self._kept()))

    @property
    def takes_more(self) -> bool:
        """Whether the next batch may come although a sink has failed."""
        return sum(item.nbytes for batch in self._kept() for item in batch) <= self._max_bytes

    def _kept(self) -> list[Batch]:
        """The batches that some sink has yet to take, each once."""
        batches = (batch for branch in self._branches for batch in branch.kept)
        return list({id(batch): batch for batch in batches}.values())

    def open(self) -> None:
        """Opens the sinks that can be opened early (:meth:`TensorBoardSink.open`).

        Raises:
            ExceptionGroup: what each failing sink raised; its message names them.
        """
        self._each("open", _Branch.open)

    def write(self, batch: Batch) -> None:
        """Hands a batch to every sink that has yet to take it.

        Raises:
            ExceptionGroup: what each failing sink raised; its message names them.
        """
        # A batch is new unless some sink still holds it: where all have flushed it, it counts as
        # delivered and never comes again.
        if batch and not any(branch.holds(batch) for branch in self._branches):
            for branch in self._branches:
                branch.waiting.append(batch)
        self._each("write", _Branch.drain)

    def flush(self) -> None:
        """Flushes every sink that has something to flush.

        Raises:
            ExceptionGroup: what each failing sink raised; its message names them.
        """
        self._each("flush", _Branch.flush)

    def close(self) -> None:
        """Closes every sink, whatever the others do.

        Raises:
            ExceptionGroup: what each failing sink raised; its message names them.
        """
        self._each("close", _Branch.close)

    def _each(self, verb: str, call: Callable[[_Branch], None]) -> None:
        names: list[str] = []
        faults: list[Exception] = []
        for branch in self._branches:
            try:
                call(branch)
            except Exception as fault:
                names.append(type(branch.sink).__name__)
                faults.append(fault)
        if faults:
            raise ExceptionGroup(
                f"{verb} failed in {len(faults)} of {len(self._branches)} sinks: "
                f"{', '.join(names)}",
                faults,
            )


class _Branch:
    """One sink and the batches that it has yet to deliver."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.waiting: list[Batch] = []
        self._unflushed: list[Batch] = []

    @property
    def kept(self) -> list[Batch]:
        return self._unflushed + self.waiting

    def holds(self, batch: Batch) -> bool:
        # By identity: records hold arrays, which do not compare to one truth value.
        return any(held is batch for held in self.kept)

    def open(self) -> None:
        getattr(self.sink, "open", bool)()

    def drain(self) -> None:
        while self.waiting:
            try:
                self.sink.write(self.waiting[0])
            except Exception:
                self._take_back()
                raise
            self._unflushed.append(self.waiting.pop(0))

    def flush(self) -> None:
        if not self._unflushed:  # Else a fault here would bring back batches delivered everywhere.
            return
        try:
            self.sink.flush()
        except Exception:
            self._take_back()
            raise
        self._unflushed.clear()

    def close(self) -> None:
        self.sink.close()
        self._unflushed.clear()

    def _take_back(self) -> None:
        self.waiting = self._unflushed + self.waiting
        self._unflushed = []
