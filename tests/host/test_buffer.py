"""The buffer: order, limits, and which thread waits for which."""

import sys
import threading
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import DEADLINE, LOSS, Pending, Started, frame, plan, record

from jaxboard._errors import RunError
from jaxboard._frame import Frame
from jaxboard._host.buffer import Buffer
from jaxboard._host.lost import LostReports

LARGE = 2**40


def steps(items):
    return [item.step for item in items]


def test_items_come_out_in_the_order_of_putting():
    """Frames and records leave in the order in which they were reported."""
    buffer = Buffer(100, LARGE)
    for step in range(10):
        buffer.put(record(step) if step % 2 else frame(step))
    assert steps(buffer.take_ready()) == list(range(10))
    assert len(buffer) == 0


def test_a_frame_that_is_not_computed_stays():
    """A frame that the device still computes stays in the buffer, and so does everything after it."""
    buffer = Buffer(100, LARGE)
    slow = [Pending(), Pending()]
    for step, array in enumerate([None, slow[0], None, slow[1]]):
        buffer.put(frame(step, array))
    assert steps(buffer.take_ready()) == [0]
    buffer.put(record(4))
    slow[1].done.set()
    assert steps(buffer.take_ready()) == []
    slow[0].done.set()
    assert steps(buffer.take_ready()) == [1, 2, 3, 4]


def test_the_frame_of_a_call():
    """The frame of a call is a frame like others: ordered, kept until it is computed, within both limits."""
    lost, slow = LostReports(), Pending()
    buffer = Buffer(4, LARGE, "drop", lost=lost)
    for step in range(3):
        vector: Any = slow if step == 2 else np.full(1, step, np.float32)
        buffer.put_call(LOSS, (vector,), step, step == 1)
    first, second = buffer.take_ready()
    assert isinstance(first, Frame)
    assert isinstance(second, Frame)
    assert (first.plan, first.step, first.open) == (LOSS, 0, False)
    assert (second.vectors, second.step, second.open) == ((np.full(1, 1, np.float32),), 1, True)
    for step in range(3, 8):
        buffer.put_call(LOSS, (np.full(1, step, np.float32),), step, False)
    assert (len(buffer), lost.count) == (4, 2)
    slow.done.set()
    assert steps(buffer.take_ready()) == [2, 3, 4, 5]
    limited = Buffer(100, 3 * 1028, "drop", lost=lost)
    for step in range(4):
        limited.put_call(LOSS, (np.full(1, step, np.float32),), step, False)
    assert (len(limited), lost.count) == (3, 3)


def test_a_frame_that_cannot_be_read_is_taken():
    """A deleted array counts as ready; otherwise it would stay in the buffer forever."""
    array = jnp.zeros(1)
    array.delete()
    buffer = Buffer(100, LARGE)
    buffer.put(frame(0, array))
    assert steps(buffer.take_ready()) == [0]


def test_a_half_full_buffer_wakes_the_flusher():
    """A buffer that is more than half full wakes the flusher early; an emptier one does not."""
    buffer = Buffer(4, LARGE)
    buffer.put(record(0))
    buffer.put(record(1))
    assert not buffer.wake.is_set()
    buffer.put(record(2))
    assert buffer.wake.is_set()


def test_a_full_buffer_drops_and_counts(caplog):
    """overflow='drop' keeps the first items, counts the reports of the others and logs that once."""
    lost = LostReports("'here'")
    buffer = Buffer(2, LARGE, "drop", lost=lost)
    for step in range(5):
        buffer.put(frame(step, of=plan("a", "b", "c")))
    assert steps(buffer.take_ready()) == [0, 1]
    assert lost.count == 9
    assert [entry.getMessage() for entry in caplog.records] == [
        (
            "jaxboard, run 'here': reports are dropped: the buffer is full (2 calls or 1.04858e+06 "
            "MiB).\n"
            "    The sink cannot keep up. Report less often (every=), or pass a larger max_frames or "
            "max_bytes to Run."
        )
    ]
    assert str(lost.take_error()) == (
        "run 'here': 9 reports were lost:\n  9: the buffer was full (2 calls or 1.04858e+06 MiB)"
    )
    assert lost.take_error() is None


def test_the_limit_in_bytes():
    """A few large items fill a buffer like many small ones."""
    lost = LostReports()
    buffer = Buffer(1000, 2**20, "drop", lost=lost)
    for step in range(5):
        buffer.put(record(step, value=np.zeros(100_000, np.float32)))
    assert steps(buffer.take_ready()) == [0, 1]
    assert lost.count == 3
    buffer.put(record(5, value=np.zeros(100_000, np.float32)))
    assert steps(buffer.take_ready()) == [5]


def test_an_item_above_the_limit_is_accepted_alone():
    """One image larger than the whole buffer still reaches the sink."""
    buffer = Buffer(1000, 2**10, "drop")
    buffer.put(record(0, value=np.zeros(100_000, np.float32)))
    assert steps(buffer.take_ready()) == [0]


def test_a_full_buffer_makes_the_producer_wait():
    """overflow='wait' loses nothing: the producer continues once the flusher has taken something."""
    lost = LostReports()
    buffer = Buffer(3, LARGE, lost=lost, stall_secs=10 * DEADLINE)

    def produce():
        for step in range(1000):
            buffer.put(record(step))

    producer, taken = Started(produce), []
    while producer.thread.is_alive():
        buffer.wake.wait(0.01)
        buffer.wake.clear()
        taken += steps(buffer.take_ready())
    producer.join()
    taken += steps(buffer.take_ready())
    assert taken == list(range(1000))
    assert lost.count == 0


def test_a_producer_waits_for_the_device_without_limit():
    """A buffer full of frames that the device still computes does not count as a stalled sink."""
    lost = LostReports()
    buffer = Buffer(1, LARGE, lost=lost, stall_secs=DEADLINE)
    slow = Pending()
    buffer.put(frame(0, slow))
    producer = Started(buffer.put, frame(1))
    assert slow.asked.wait(DEADLINE)
    assert buffer.take_ready() == []
    slow.done.set()
    taken = []
    while len(taken) < 2:
        assert buffer.wake.wait(DEADLINE)
        taken += steps(buffer.take_ready())
    producer.join()
    assert taken == [0, 1]
    assert lost.count == 0


def test_a_producer_does_not_wait_for_a_dead_sink(caplog):
    """After ``stall_secs`` items are dropped immediately, until the flusher takes something again."""
    lost = LostReports("'here'")
    buffer = Buffer(1, LARGE, lost=lost, stall_secs=0.05)
    for step in range(1000):
        buffer.put(record(step))
    assert lost.count == 999
    assert [entry.getMessage().split(":")[1].strip() for entry in caplog.records] == [
        "the training loop waits",
        "reports are dropped",
    ]
    assert steps(buffer.take_ready()) == [0]
    buffer.put(record(1000))
    assert steps(buffer.take_ready()) == [1000]


def test_callbacks_never_wait():
    """The device waits for a callback, so a full buffer drops the reports of callbacks."""
    lost = LostReports()
    buffer = Buffer(1, LARGE, lost=lost, stall_secs=10 * DEADLINE)
    buffer.put(record(0))
    Started(buffer.put, record(1), may_wait=False).join()
    assert lost.count == 1
    with pytest.raises(RunError, match="1 report was lost"):
        raise lost.take_error() or AssertionError


def test_producers_on_many_threads_lose_nothing():
    """With eight producers and a consumer every item comes out once, and those of one thread in order."""
    lost = LostReports()
    buffer = Buffer(64, LARGE, lost=lost, stall_secs=DEADLINE)
    gate = threading.Barrier(9)

    def produce(name):
        gate.wait(DEADLINE)
        for step in range(500):
            buffer.put(record(step, name))

    producers = [Started(produce, f"t{i}") for i in range(8)]
    gate.wait(DEADLINE)
    taken = []
    while len(taken) < 4000 and not lost.count:
        buffer.wake.wait(0.01)
        buffer.wake.clear()
        taken += buffer.take_ready()
    for producer in producers:
        producer.join()
    assert lost.count == 0
    for i in range(8):
        assert [item.step for item in taken if item.tag == f"t{i}"] == list(range(500))


def test_wait_until_ready():
    """wait_until_ready() returns True when everything is computed, and False after its deadline."""
    buffer = Buffer(10, LARGE)
    slow = Pending()
    buffer.put(frame(0, slow))
    assert buffer.wait_until_ready(deadline=0.0) is False
    waiter = Started(buffer.wait_until_ready)
    slow.done.set()
    assert waiter.join() is True


def test_a_closed_buffer_accepts_nothing():
    """Items put after close() are ignored, and waiting producers continue."""
    lost = LostReports()
    buffer = Buffer(1, LARGE, lost=lost, stall_secs=DEADLINE)
    buffer.put(record(0))
    producer = Started(buffer.put, record(1))
    assert buffer.wake.wait(DEADLINE)
    buffer.close()
    producer.join()
    buffer.put(record(2))
    assert steps(buffer.take_ready()) == [0]
    assert lost.count == 0


def test_waiting_while_others_append():
    """Waiting for the device is not disturbed by threads that report meanwhile."""
    buffer = Buffer(10**9, 2**60)
    for step in range(50_000):
        buffer.put(record(step))
    stop = threading.Event()

    def report():
        while not stop.is_set():
            buffer.put(record())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    reporting = Started(report)
    try:
        assert all(buffer.wait_until_ready() for _ in range(5))
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        reporting.join()
