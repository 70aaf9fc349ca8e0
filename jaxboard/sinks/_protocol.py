"""What a run writes to."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxboard._record import Batch


@runtime_checkable
class Sink(Protocol):
    """Takes the records of a run and puts them where somebody will look.

    A run calls its sinks from one thread, its flusher, and never from the training loop. A sink may
    raise: the run then shows the fault, keeps the batch, calls ``write`` again with it later, and
    raises at ``close`` if it never got through. A batch counts as delivered once the ``flush`` after
    its ``write`` has returned.
    """

    def write(self, batch: Batch) -> None:
        """Takes a batch. It need not be on disk before ``flush``."""
        ...

    def flush(self) -> None:
        """Makes everything written so far visible to readers, and safe if the process is killed."""
        ...

    def close(self) -> None:
        """Flushes and lets go of files. Called once, last."""
        ...
