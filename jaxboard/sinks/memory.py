"""A sink that keeps all records in memory, for tests and notebooks."""

from __future__ import annotations

from jaxboard.records import Batch, Record, records
from jaxboard.sinks._protocol import Sink


class MemorySink(Sink):
    """A sink that keeps every record in a list.

    Attributes:
        records: all records, in the order of writing. Those of runs below the run have its name in
            :attr:`Record.run`.

    Example:
        >>> import numpy as np
        >>> from jaxboard.sinks import MemorySink, Scalars
        >>> sink = MemorySink()
        >>> sink.write([Scalars(("loss",), np.arange(2), np.zeros(2), np.array([[3.0], [2.0]]))])
        >>> [(record.tag, record.step, float(record.value)) for record in sink.records]
        [('loss', 0, 3.0), ('loss', 1, 2.0)]
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def write(self, batch: Batch) -> None:
        """Append the records of a batch."""
        self.records.extend(records(batch))

    def flush(self) -> None:
        """Do nothing: a record is visible as soon as it is written."""

    def close(self) -> None:
        """Do nothing: the records stay."""
