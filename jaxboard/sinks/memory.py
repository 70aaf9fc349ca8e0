"""A sink that keeps what it is given, for tests and for looking at a run in a notebook."""

from __future__ import annotations

from jaxboard.records import Batch, Record, records
from jaxboard.sinks._protocol import Sink


class MemorySink(Sink):
    """Keeps every record in a list.

    Attributes:
        records: everything written so far, as single records in the order of writing, those of runs
            beneath the run (:attr:`Record.run`) among them.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Scalars
        >>> sink = MemorySink()
        >>> sink.write([Scalars(("loss",), np.arange(2), np.zeros(2), np.array([[3.0], [2.0]]))])
        >>> [(record.tag, record.step, float(record.value)) for record in sink.records]
        [('loss', 0, 3.0), ('loss', 1, 2.0)]
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, batch: Batch) -> None:
        """Takes a batch."""
        self.records.extend(records(batch))

    def flush(self) -> None:
        """Does nothing: a record is visible once it is written."""

    def close(self) -> None:
        """Does nothing: the records stay."""
