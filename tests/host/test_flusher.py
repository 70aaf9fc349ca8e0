"""The flusher: what reaches the sink, when, and what happens if it doesn't."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import DEADLINE, Pending, Plain, Started, frame, plan, record

from jaxboard._errors import RunError
from jaxboard._host.buffer import Buffer
from jaxboard._host.flusher import Flusher
from jaxboard._host.lost import LostReports
from jaxboard.records import records
from jaxboard.sinks import MemorySink

NEVER = 10 * DEADLINE


class Watched(MemorySink):
    """Tells what is done to it, and on which thread; does what it is told to first."""

    def __init__(self, *faults):
        super().__init__()
        self.calls = []
        self.batches = []
        self.threads = set()
        self.faults = list(faults)
        self.flushed = threading.Semaphore(0)
        self.failed = threading.Semaphore(0)

    def _note(self, call):
        self.calls.append(call)
        self.threads.add(threading.current_thread().name)

    def open(self):
        self._note("open")

    def write(self, batch):
        self._note("write")
        self.batches.append(batch)
        fault = self.faults.pop(0) if self.faults else None
        if fault is not None:
            self.failed.release()
            raise fault
        super().write(batch)

    def flush(self):
        self._note("flush")
        self.flushed.release()

    def close(self):
        self._note("close")


class Hung(Watched):
    """Never returns from write(), until it is let go."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.let_go = threading.Event()

    def write(self, batch):
        self.entered.set()
        self.let_go.wait(NEVER)
        super().write(batch)


def start(sink, *, flush_secs=NEVER, assembler=None, writes=None, max_frames=1000):
    losses = LostReports("'here'")
    buffer = Buffer(max_frames, 2**30, losses=losses, stall_secs=DEADLINE)
    flusher = Flusher(
        buffer, assembler or Plain(), sink, flush_secs=flush_secs, losses=losses, writes=writes
    )
    flusher.start()
    return buffer, flusher


def seen(sink):
    return [(r.tag, r.step, float(r.value)) for r in sink.records]


def test_flush_delivers_all_that_was_put():
    """After flush() everything is written and flushed, in order, without waiting for the period."""
    sink = Watched()
    buffer, flusher = start(sink)
    for step in range(100):
        buffer.put(frame(step) if step % 2 else record(step))
    flusher.flush(DEADLINE)
    assert seen(sink) == [("loss", step, step) for step in range(100)]
    assert sink.calls == ["open", "write", "flush"]
    flusher.close(DEADLINE)
    assert sink.calls == ["open", "write", "flush", "close"]
    assert sink.threads == {"jaxboard flusher ('here')"}


def test_it_flushes_by_itself():
    """Nobody has to ask: what is put is flushed within the period."""
    sink = Watched()
    buffer, flusher = start(sink, flush_secs=0.02)
    for step in range(3):
        buffer.put(record(step))
        assert sink.flushed.acquire(timeout=DEADLINE)
        assert len(sink.records) == step + 1
    flusher.close(DEADLINE)


def test_half_a_buffer_is_taken_before_the_time():
    """A fast training loop doesn't have to wait for the period to pass."""
    sink = Watched()
    buffer, flusher = start(sink, max_frames=4)
    for step in range(100):
        buffer.put(record(step))
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", step, step) for step in range(100)]


def test_much_is_written_before_the_time():
    """What was taken out of the buffer waits for the period, unless it would take much memory."""
    sink = Watched()
    buffer = Buffer(1000, 2**40)
    flusher = Flusher(buffer, Plain(), sink, flush_secs=NEVER)
    buffer.put(record(0))
    flusher._turn(woken=False, final=False, asked=False)
    assert len(buffer) == 0
    assert sink.calls == []
    buffer.put(record(1, value=np.zeros(2**24, np.uint8)))
    flusher._turn(woken=False, final=False, asked=False)
    assert sink.calls == ["write", "flush"]
    assert [item.step for item in sink.records] == [0, 1]


def test_flush_waits_for_the_device_and_the_thread_does_not():
    """The caller waits for a frame that is being computed; the thread serves what came before it."""
    sink = Watched()
    buffer, flusher = start(sink, flush_secs=0.02)
    slow = Pending(7.0)
    buffer.put(record(1))
    buffer.put(frame(2, slow))
    waiter = Started(flusher.flush, DEADLINE)
    assert sink.flushed.acquire(timeout=DEADLINE)
    assert seen(sink) == [("loss", 1, 1.0)]
    slow.done.set()
    waiter.join()
    assert seen(sink) == [("loss", 1, 1.0), ("loss", 2, 7.0)]
    flusher.close(DEADLINE)


def test_flush_waits_for_callbacks_on_their_way():
    """What a host callback has yet to report is there after flush()."""
    sink = Watched()
    buffer, flusher = start(sink)

    @jax.jit
    def step(x):
        jax.debug.callback(lambda: buffer.put(record(1), may_wait=False))
        return x + 1

    step(jnp.zeros(()))
    flusher.flush(DEADLINE)
    assert seen(sink) == [("loss", 1, 1.0)]
    flusher.close(DEADLINE)


def test_device_arrays_are_fetched_under_a_transfer_guard():
    """jax.transfer_guard('disallow') is about the user's transfers, not this one."""
    sink = Watched()
    array = jnp.ones(1)
    with jax.transfer_guard("disallow"):
        buffer, flusher = start(sink)
        buffer.put(frame(3, array))
        flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 3, 1.0)]


def test_a_failed_batch_comes_again_before_newer_ones(caplog):
    """The same list is offered again until it is taken; nothing is lost or written twice."""
    sink = Watched(OSError(28, "No space left on device"), OSError(28, "No space left on device"))
    buffer, flusher = start(sink, flush_secs=0.02)
    buffer.put(record(0))
    assert sink.failed.acquire(timeout=DEADLINE)
    buffer.put(record(1))
    assert sink.flushed.acquire(timeout=DEADLINE)
    flusher.close(DEADLINE)
    assert [batch is sink.batches[0] for batch in sink.batches] == [True, True, True, False]
    assert seen(sink) == [("loss", 0, 0.0), ("loss", 1, 1.0)]
    assert [entry.getMessage() for entry in caplog.records] == [
        (
            "jaxboard, run 'here': Watched failed: OSError: [Errno 28] No space left on device\n"
            "    It is tried again until the run is closed; reports are kept as far as the buffer "
            "reaches, and training goes on."
        ),
        "jaxboard, run 'here': what could not be written is now.",
    ]


def test_flush_tells_what_is_not_on_disk_yet():
    """flush() raises with the count and the fault; the next, after the sink mended, doesn't."""
    fault = OSError("the disk went away")
    sink = Watched(fault)
    buffer, flusher = start(sink)
    for step in range(3):
        buffer.put(record(step))
    with pytest.raises(RunError) as caught:
        flusher.flush(DEADLINE)
    assert str(caught.value) == (
        "run 'here': 3 reports are not on disk yet: OSError: the disk went away. They are kept and "
        "will be tried again."
    )
    assert caught.value.__cause__ is fault
    flusher.flush(DEADLINE)
    flusher.close(DEADLINE)
    assert len(sink.records) == 3


def test_close_tells_what_was_lost():
    """A sink that never takes anything is heard at close(), with counts and cause."""
    fault = OSError("the disk went away")
    sink = Watched(*[fault] * 1000)
    buffer, flusher = start(sink)
    for step in range(3):
        buffer.put(record(step))
    with pytest.raises(RunError) as caught:
        flusher.close(DEADLINE)
    assert str(caught.value) == (
        "run 'here': 3 reports did not reach the disk:\n  3: OSError: the disk went away"
    )
    assert caught.value.__cause__ is fault
    assert sink.calls[-1] == "close"
    flusher.close(DEADLINE)


def test_one_batch_that_cannot_be_written_does_not_take_others_along():
    """At close() what came after a batch that keeps failing is still offered."""
    sink = Watched()
    poison = record(0, "poison")
    write = Watched.write

    def picky(batch):
        if any(r.tag == "poison" for r in records(batch)):
            sink.failed.release()
            raise ValueError("poison")
        write(sink, batch)

    sink.write = picky
    buffer, flusher = start(sink)
    buffer.put(poison)
    with pytest.raises(RunError, match="1 reports are not on disk yet: ValueError: poison"):
        flusher.flush(DEADLINE)
    buffer.put(record(1))
    with pytest.raises(RunError, match="1 report did not reach the disk"):
        flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 1, 1.0)]


def test_a_sink_may_raise_anything():
    """Even what isn't an Exception doesn't end the thread."""
    sink = Watched(SystemExit("no"))
    buffer, flusher = start(sink)
    buffer.put(record(0))
    with pytest.raises(RunError, match="SystemExit: no"):
        flusher.flush(DEADLINE)
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0)]


def test_a_failed_computation_does_not_poison_the_others():
    """A frame that can't be read is left out and counted; those beside it are written."""
    deleted = jnp.zeros(2)
    deleted.delete()
    sink = Watched()
    buffer, flusher = start(sink)
    buffer.put(frame(0))
    buffer.put(frame(1, deleted, of=plan("a", "b")))
    buffer.put(frame(2))
    with pytest.raises(RunError) as caught:
        flusher.flush(DEADLINE)
    assert str(caught.value).startswith(
        "run 'here': 2 reports did not reach the disk:\n"
        "  2: computing them failed: RuntimeError: Array has been deleted"
    )
    assert seen(sink) == [("loss", 0, 0.0), ("loss", 2, 2.0)]
    flusher.close(DEADLINE)


def test_what_is_held_back_comes_at_close():
    """An assembler's open windows are asked for at the end, and only there."""

    class Holding(Plain):
        def finish(self):
            return [record(9, "held")]

    sink = Watched()
    buffer, flusher = start(sink, assembler=Holding())
    buffer.put(record(0))
    flusher.flush(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0)]
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0), ("held", 9, 9.0)]


def test_a_fault_in_assembling_is_counted():
    """A bug of ours costs the reports of one period, not the run, and is told."""

    class Broken(Plain):
        def assemble(self, items, now):
            if any(item.step == 0 for item in items):
                raise KeyError("bug")
            return super().assemble(items, now)

    sink = Watched()
    buffer, flusher = start(sink, assembler=Broken())
    buffer.put(record(0))
    with pytest.raises(RunError, match="1: assembling them failed: KeyError: 'bug'"):
        flusher.flush(DEADLINE)
    buffer.put(record(1))
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 1, 1.0)]


def test_a_process_that_does_not_write_opens_nothing():
    """On the other processes of a job reports are taken out of the buffer and that is all."""
    sink = Watched()
    buffer, flusher = start(sink, writes=lambda jax_runs: False)
    buffer.put(record(0))
    flusher.flush(DEADLINE)
    assert len(buffer) == 0
    flusher.close(DEADLINE)
    assert sink.calls == ["close"]


def test_a_hanging_sink_is_told_of():
    """flush() and close() give up after their timeout, with what may be missing."""
    sink = Hung()
    buffer, flusher = start(sink)
    buffer.put(record(0))
    with pytest.raises(RunError) as caught:
        flusher.flush(0.05)
    assert sink.entered.wait(DEADLINE)
    buffer.put(record(1))
    with pytest.raises(RunError) as caught:
        flusher.close(0.05)
    assert str(caught.value) == (
        "run 'here': Hung did not finish within 0.05 s; 1 reports that it was given and 1 calls that "
        "wait behind them may not be on disk."
    )
    sink.let_go.set()
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0), ("loss", 1, 1.0)]


def test_flushing_from_many_threads():
    """Every caller of flush() is answered, whoever else asks or closes."""
    sink = Watched()
    buffer, flusher = start(sink)

    def work(name):
        for step in range(20):
            buffer.put(record(step, name))
            flusher.flush(DEADLINE)

    for worker in [Started(work, f"t{i}") for i in range(4)]:
        worker.join()
    closers = [Started(flusher.close, DEADLINE) for _ in range(4)]
    for closer in closers:
        closer.join()
    assert len(sink.records) == 80
    assert sink.calls.count("close") == 1
