"""What a run writes to."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxboard.records import Batch


@runtime_checkable
class Sink(Protocol):
    """Takes the records of a run and puts them where somebody will look.

    A run calls its sinks from one thread, its flusher, and never from the training loop. A batch counts
    as delivered once the ``flush`` after its ``write`` has returned. A sink may raise where the machine
    fails it: the run then shows the fault, and writes all batches again that were not delivered, the same
    objects in the same order; what never got through is raised at ``close``. For a value that it cannot
    show a sink must not raise: it would get it again and again. If it has a method ``open()``, that is
    called first, on the flusher's thread, for what takes long.

    A sink that keeps itself what it could not write (as :class:`FanOut` does) says so by two attributes:
    ``undelivered``, how many reports that are, and ``takes_more``, whether the run may go on with the next
    batch; it then gets empty ones, too, to try again with.

    What a batch holds is of the run itself, or of one beneath it, whose name is its ``run``. The same tag may be
    in many of them, at the same steps.
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
