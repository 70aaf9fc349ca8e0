"""The intake: how items leave the buffer, a piece at a time."""

import time

import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import Pending, frame, plan, record

from jaxboard._errors import RunError
from jaxboard._frame import Frame, FrameBatch, LoopChunk, Plan, Slot
from jaxboard._host.buffer import Buffer
from jaxboard._host.reader import PIECE, BufferReader
from jaxboard._host.lost import LostReports

AUX = plan("aux")


def intake(*items, wanted=lambda _: True):
    buffer = Buffer(100_000, 2**40)
    for item in items:
        buffer.put(item)
    lost = LostReports("'here'")
    return BufferReader(buffer, wanted, lost), buffer, lost


def told(items):
    """Of strips the tag and the steps, of records the step."""
    return [
        (item.plan.tags[0], item.steps.tolist()) if isinstance(item, FrameBatch) else item.step
        for item in items
    ]


def test_everything_that_can_be_read_is_taken():
    """However many pieces that is, what is there at the call is taken, in order."""
    taken, buffer, _ = intake(*(record(step) for step in range(3 * PIECE + 1)))
    taken.read(pause_until=0.0)
    assert told(taken.take_items()) == list(range(3 * PIECE + 1))
    assert len(buffer) == 0
    assert taken.take_items() == []


def test_frames_that_follow_each_other_are_stacked():
    """Frames of one plan become a strip; another plan, a record, an open step or a piece's end begin a new one."""
    opened = Frame(AUX, {"float32": np.zeros(1, np.float32)}, 7, 1000.0, open=True)
    items = [frame(0), frame(1), frame(2, of=AUX), record(3), *map(frame, (4, 5))]
    taken, _, _ = intake(*items, frame(6, of=AUX), opened)
    taken.read(pause_until=0.0)
    strips = taken.take_items()
    want = [("loss", [0, 1]), ("aux", [2]), 3, ("loss", [4, 5]), ("aux", [6]), ("aux", [7])]
    assert told(strips) == want
    first, *_, shut, left_open = strips
    assert isinstance(first, FrameBatch)
    assert first.arrays["float32"].tolist() == [[0.0], [1.0]]
    assert isinstance(shut, FrameBatch)
    assert isinstance(left_open, FrameBatch)
    assert (shut.open, left_open.open) == (False, True)
    taken, _, _ = intake(*map(frame, range(PIECE + 1)))
    taken.read(pause_until=0.0)
    assert told(taken.take_items()) == [("loss", list(range(PIECE))), ("loss", [PIECE])]


def test_a_chunk_of_a_loop_stays_a_frame():
    """What has rows of its own is not stacked."""
    rows = Plan(AUX.entries, Slot("int32", 0, ()), LoopChunk(2, 2, None))
    arrays = {"float32": jnp.zeros((2, 1)), "int32": jnp.zeros((2, 1), jnp.int32)}
    taken, _, _ = intake(Frame(rows, arrays, None, 1000.0))
    taken.read(pause_until=0.0)
    (chunk,) = taken.take_items()
    assert isinstance(chunk, Frame)
    assert {type(array) for array in chunk.arrays.values()} == {np.ndarray}


def test_a_frame_that_cannot_be_read_is_left_out_and_counted():
    """The others of its piece are taken."""
    gone = jnp.zeros(1)
    gone.delete()
    taken, _, lost = intake(frame(0), frame(1, gone), frame(2))
    taken.read(pause_until=0.0)
    assert told(taken.take_items()) == [("loss", [0, 2])]
    with pytest.raises(RunError, match="1 report was lost"):
        lost.raise_error()


def test_bytes_are_those_of_the_values():
    """What was taken is measured until it is handed over."""
    large = record(1, value=np.zeros(1000, np.float64))
    taken, _, _ = intake(*map(frame, range(10)), large)
    taken.read(pause_until=0.0)
    assert taken.nbytes == 10 * 4 + 8000
    taken.take_items()
    assert taken.nbytes == 0


def test_what_is_not_wanted_is_not_kept():
    """It leaves the buffer all the same; frames are said to be among it."""
    asked = []
    taken, buffer, _ = intake(frame(0), record(1), wanted=asked.append)
    taken.read(pause_until=0.0)
    assert asked == [True]
    assert taken.take_items() == []
    assert len(buffer) == 0


def test_it_says_when_to_look_again():
    """At the pace of what it found: a tenth of a piece, and there is a whole one in ten times as long."""
    taken, buffer, _ = intake()
    assert taken.read(pause_until=0.0) == float("inf")
    for step in range(PIECE // 16):
        buffer.put(record(step))
    before, since = time.monotonic(), taken._last_read
    again = taken.read(pause_until=0.0)
    assert 16 * (before - since) <= again <= 16 * (time.monotonic() - since)


def test_a_wake_ends_the_rests():
    """Whoever waits for a flush does not wait for rests: an intake that is woken takes all at once."""
    taken, buffer, _ = intake(*(record(step) for step in range(3 * PIECE)))
    buffer.wake.set()
    taken.read(pause_until=float("inf"))
    assert len(taken.take_items()) == 3 * PIECE
    assert buffer.wake.is_set()


def test_what_is_behind_the_device_is_left():
    """Nothing is waited for: what is not computed stays in the buffer, and what came after it."""
    slow = Pending()
    taken, buffer, _ = intake(frame(0), frame(1, slow), frame(2))
    taken.read(pause_until=0.0)
    assert told(taken.take_items()) == [("loss", [0])]
    assert len(buffer) == 2
