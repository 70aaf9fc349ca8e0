"""MemorySink."""

import numpy as np

from jaxboard.records import Kind, Record, Scalars
from jaxboard.sinks import MemorySink, Sink


def test_it_keeps_records_in_order_and_expands_columns():
    """Columns become one record per value, between the single records around them."""
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


def test_it_is_a_sink():
    """It has what the protocol asks for."""
    assert isinstance(MemorySink(), Sink)
