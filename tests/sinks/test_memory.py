"""MemorySink: its list of records."""

import numpy as np

from jaxboard.records import Kind, Record, Scalars
from jaxboard.sinks import MemorySink


def test_records_are_in_order_with_columns_expanded():
    """A block becomes one record per value, in the order of the batch."""
    text = Record(Kind.TEXT, "note", 7, 1.5, "hi")
    block = Scalars(("a", "b"), np.array([0, 1]), np.array([2.0, 3.0]), np.array([[1, 2], [3, 4]]))
    sink = MemorySink()
    sink.write([text, block])
    sink.write([text])
    sink.flush()
    sink.close()
    assert sink.records[0] is text
    assert sink.records[5] is text
    assert [(r.tag, r.step, r.wall_time, int(r.value)) for r in sink.records[1:5]] == [
        ("a", 0, 2.0, 1),
        ("b", 0, 2.0, 2),
        ("a", 1, 3.0, 3),
        ("b", 1, 3.0, 4),
    ]
