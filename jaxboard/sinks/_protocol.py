"""The interface of a sink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxboard.records import Batch


@runtime_checkable
class Sink(Protocol):
    """Base class of everything that a run writes to.

    A subclass implements :meth:`write`, :meth:`flush` and :meth:`close`, and :meth:`open` if opening is
    slow. A run calls them from one background thread, its flusher, and never from the training loop. In a
    process that does not write (all but process 0 of a job), it calls :meth:`close` only.

    A report is **pending** until the ``flush`` after its ``write`` has returned; then it is **written**.
    Any method may raise if the machine fails. The run then logs the fault, assumes that the sink lost
    everything since its last successful ``flush``, and writes those batches again, in the same order and
    before newer ones. A sink that has failed must therefore forget what it had not flushed. Other sinks
    of the run are not affected. Reports that are still pending when the run closes are **lost**:
    :meth:`jaxboard.Run.close` raises an error that counts them.

    A sink must not raise for a value that it cannot show: the run would write that value again and again.
    Skip it. If the user should know, count it in :meth:`take_lost`.

    A batch belongs to the run and is shared by its sinks: do not modify it. Its records may belong to runs
    below the run (:attr:`jaxboard.records.Record.run`), with equal tags at equal steps.

    Example:
        >>> from jaxboard.records import Batch, records
        >>> from jaxboard.sinks import Sink
        >>> class PrintSink(Sink):
        ...     def write(self, batch: Batch) -> None:
        ...         for record in records(batch):
        ...             print(record.step, record.tag, record.value)
        ...
        ...     def flush(self) -> None:
        ...         pass
        ...
        ...     def close(self) -> None:
        ...         pass
        >>> import jaxboard as jb
        >>> with jb.Run(None, sinks=[PrintSink()]):
        ...     jb.scalar("loss", 0.5, step=3)
        3 loss 0.5
    """

    def open(self) -> None:
        """Do slow preparations, such as imports and connections.

        Called once, before any other method. The default does nothing. If ``open`` raises, the fault is logged and
        :meth:`write` is called all the same: it should open what it needs.
        """

    def write(self, batch: Batch) -> None:
        """Accept a batch. It need not be durable before :meth:`flush`."""
        ...

    def flush(self) -> None:
        """Make everything written so far visible to readers, and safe if the process is killed."""
        ...

    def fail(self) -> None:
        """Note that the program has failed: an exception ends it, or the ``with`` block of the run.

        Called at most once, before the last ``flush`` and :meth:`close`. The default does nothing.
        """

    def close(self) -> None:
        """Flush, and release files and connections. Called once, last."""
        ...

    def take_lost(self) -> Mapping[str, int]:
        """Return how many records could not be written since the last call, by reason.

        Called after every ``flush`` and after ``close``. The run adds the counts to its lost reports:
        :meth:`jaxboard.Run.flush` and :meth:`jaxboard.Run.close` raise an error with the reasons. A record that is
        written again must not count twice. The default returns nothing.

        Example:
            >>> from jaxboard.sinks import MemorySink
            >>> MemorySink().take_lost()
            {}
        """
        return {}
