"""The byte template, compared with TensorBoard's message classes."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxboard.records import Scalars
from jaxboard.sinks import _columns
from jaxboard.sinks._proto import Event

TAGS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
STEPS = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2**31)


def decode(scalars: Scalars) -> list[Any]:
    data, size = _columns.encode(scalars)
    assert len(data) == size * len(scalars.steps)
    return [Event.FromString(data[at : at + size]) for at in range(0, len(data), size)]


def bits(values) -> list[int]:
    return np.asarray(values, np.float32).view(np.uint32).tolist()


@given(
    st.lists(TAGS, min_size=1, max_size=5),
    st.lists(
        st.tuples(STEPS, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5
    ),
    st.data(),
)
@example(["x" * 100_000, "µ/日本"], [(0, 0.0), (2**31, 1.5), (2**35 - 1, 2.0)], None)
@example(["x"], [(2**35, 0.0), (2**40, 0.0), (-1, 0.0)], None)
def test_events_are_bit_identical(tags, moments, data):
    """TensorBoard's parser returns the exact tags, int64 steps, wall times and float32 values."""
    shape = (len(moments), len(tags))
    rows = (
        np.full(shape, 1e-45, np.float32)
        if data is None
        else np.array([[data.draw(st.floats(width=32)) for _ in tags] for _ in moments], np.float32)
    )
    steps, walls = zip(*moments, strict=True)
    scalars = Scalars(tuple(tags), np.array(steps), np.array(walls), rows)
    for event, step, wall, row in zip(decode(scalars), steps, walls, rows, strict=True):
        assert (event.step, event.wall_time) == (step, wall)
        assert [value.tag for value in event.summary.value] == tags
        assert bits([value.simple_value for value in event.summary.value]) == bits(row)


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (np.float32("nan"), math.nan),
        (np.float32("-inf"), -math.inf),
        (np.float64(0.1), np.float32(0.1)),
        (np.float64(1e300), math.inf),
        (np.int32(-7), -7.0),
        (np.int64(2**24 + 1), 2.0**24),
        (np.uint8(200), 200.0),
        (np.bool_(True), 1.0),
        (np.float16(0.5), 0.5),
    ],
)
def test_every_real_dtype_becomes_float32(value, stored):
    """Every real dtype is stored as float32, which TensorBoard can show."""
    (event,) = decode(Scalars(("a",), np.array([0]), np.array([1.0]), np.array([[value]])))
    assert bits(event.summary.value[0].simple_value) == bits(stored)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_wall_time_is_finite(bad):
    """A wall time that is not finite becomes the time of writing; TensorBoard would stop reading at it."""
    (first, second) = decode(
        Scalars(("a",), np.array([0, 1]), np.array([5.0, bad]), np.zeros((2, 1)))
    )
    assert first.wall_time == 5.0
    assert 1.6e9 < second.wall_time < 1e11
