"""The reader of the buffer: how items leave the buffer, in pieces."""

import time

import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import Pending, frame, plan, record

from jaxboard._errors import RunError
from jaxboard._frame import Frame, FrameBatch, LoopChunk, Plan, Slot
from jaxboard._host.buffer import Buffer
from jaxboard._host.lost import LostReports
from jaxboard._host.reader import PIECE, BufferReader

AUX = plan("aux")


def make_reader(*items, is_writer=lambda _: True):
    buffer = Buffer(100_000, 2**40)
    for item in items:
        buffer.put(item)
    lost = LostReports("'here'")
    return BufferReader(buffer, is_writer, lost), buffer, lost


def summarize(items):
    """Return the tag and the steps of each batch, and the step of each record."""
    return [
        (item.plan.tags[0], item.steps.tolist()) if isinstance(item, FrameBatch) else item.step
        for item in items
    ]


def test_everything_that_is_ready_is_read():
    """One call reads everything that is ready, in order, in any number of pieces."""
    reader, buffer, _ = make_reader(*(record(step) for step in range(3 * PIECE + 1)))
    reader.read(pause_until=0.0)
    assert summarize(reader.take_items()) == list(range(3 * PIECE + 1))
    assert len(buffer) == 0
    assert reader.take_items() == []


def test_consecutive_frames_are_stacked():
    """Frames of one plan become a batch; another plan, a record, an open step or a new piece begins a new one."""
    opened = Frame(AUX, (np.zeros(1, np.float32),), 7, 1000.0, open=True)
    items = [frame(0), frame(1), frame(2, of=AUX), record(3), *map(frame, (4, 5))]
    reader, _, _ = make_reader(*items, frame(6, of=AUX), opened)
    reader.read(pause_until=0.0)
    batches = reader.take_items()
    want = [("loss", [0, 1]), ("aux", [2]), 3, ("loss", [4, 5]), ("aux", [6]), ("aux", [7])]
    assert summarize(batches) == want
    first, *_, shut, left_open = batches
    assert isinstance(first, FrameBatch)
    assert first.arrays["float32"].tolist() == [[0.0], [1.0]]
    assert isinstance(shut, FrameBatch)
    assert isinstance(left_open, FrameBatch)
    assert (shut.open, left_open.open) == (False, True)
    reader, _, _ = make_reader(*map(frame, range(PIECE + 1)))
    reader.read(pause_until=0.0)
    assert summarize(reader.take_items()) == [("loss", list(range(PIECE))), ("loss", [PIECE])]


def test_a_chunk_of_a_loop_stays_a_frame():
    """A frame that is a chunk of a loop is not stacked."""
    rows = Plan(AUX.entries, Slot("int32", 0, ()), LoopChunk(2, 2, None))
    vectors = jnp.zeros((2, 1)), jnp.zeros((2, 1), jnp.int32)
    reader, _, _ = make_reader(Frame(rows, vectors, None, 1000.0))
    reader.read(pause_until=0.0)
    (chunk,) = reader.take_items()
    assert isinstance(chunk, Frame)
    assert set(map(type, chunk.vectors)) == {np.ndarray}


def test_a_frame_that_cannot_be_read_is_left_out_and_counted():
    """The other frames of its piece are read."""
    gone = jnp.zeros(1)
    gone.delete()
    reader, _, lost = make_reader(frame(0), frame(1, gone), frame(2))
    reader.read(pause_until=0.0)
    assert summarize(reader.take_items()) == [("loss", [0, 2])]
    with pytest.raises(RunError, match="1 report was lost"):
        lost.raise_error()


def test_nbytes():
    """The reader knows the size of the values that it holds."""
    large = record(1, value=np.zeros(1000, np.float64))
    reader, _, _ = make_reader(*map(frame, range(10)), large)
    reader.read(pause_until=0.0)
    assert reader.nbytes == 10 * 4 + 8000
    reader.take_items()
    assert reader.nbytes == 0


def test_a_process_that_does_not_write_keeps_nothing():
    """Items leave the buffer and are discarded; is_writer learns that frames are among them."""
    asked = []
    reader, buffer, _ = make_reader(frame(0), record(1), is_writer=asked.append)
    reader.read(pause_until=0.0)
    assert asked == [True]
    assert reader.take_items() == []
    assert len(buffer) == 0


def test_read_returns_when_to_read_again():
    """At the rate of arrival: after a sixteenth of a piece, a whole piece takes sixteen times as long."""
    reader, buffer, _ = make_reader()
    assert reader.read(pause_until=0.0) == float("inf")
    for step in range(PIECE // 16):
        buffer.put(record(step))
    before, since = time.monotonic(), reader._last_read
    again = reader.read(pause_until=0.0)
    assert 16 * (before - since) <= again <= 16 * (time.monotonic() - since)


def test_a_wake_ends_the_pauses():
    """A caller of flush() does not wait for pauses: a reader that is woken reads everything immediately."""
    reader, buffer, _ = make_reader(*(record(step) for step in range(3 * PIECE)))
    buffer.wake.set()
    reader.read(pause_until=float("inf"))
    assert len(reader.take_items()) == 3 * PIECE
    assert buffer.wake.is_set()


def test_items_behind_the_device_stay():
    """The reader never waits: a frame that is not computed stays in the buffer, and so do later items."""
    slow = Pending()
    reader, buffer, _ = make_reader(frame(0), frame(1, slow), frame(2))
    reader.read(pause_until=0.0)
    assert summarize(reader.take_items()) == [("loss", [0])]
    assert len(buffer) == 2
