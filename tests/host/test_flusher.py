"""The flusher: what reaches the sink, when, and what happens if it does not."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import DEADLINE, Pending, Plain, Started, frame, plan, record

from jaxboard._errors import RunError
from jaxboard._host.buffer import Buffer
from jaxboard._host.complete_points import Assembled
from jaxboard._host.flusher import Flusher
from jaxboard._host.lost import LostReports
from jaxboard._host.outbox import Outbox
from jaxboard.records import records
from jaxboard.sinks import MemorySink

NEVER = 10 * DEADLINE


class Watched(MemorySink):
    """A sink that records every call and its thread, and raises the queued faults first."""

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
    """A sink whose write() blocks until it is released."""

    def __init__(self):
        super().__init__()
        self.entered = threading.Event()
        self.released = threading.Event()

    def write(self, batch):
        self.entered.set()
        self.released.wait(NEVER)
        super().write(batch)


def start(sink, *, flush_secs=NEVER, assembler=None, max_frames=1000, **options):
    lost = LostReports("'here'")
    buffer = Buffer(max_frames, 2**30, lost=lost, stall_secs=DEADLINE)
    outbox = Outbox([sink], lost)
    flusher = Flusher(
        buffer, assembler or Plain(), outbox, flush_secs=flush_secs, lost=lost, **options
    )
    flusher.start()
    return buffer, flusher


def seen(sink):
    return [(r.tag, r.step, float(r.value)) for r in sink.records]


def test_flush_delivers_everything_that_was_put():
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


def test_a_request_at_the_time_of_a_timeout():
    """A request is served if it arrives just after the thread's wait has timed out."""

    class Late(threading.Event):
        def wait(self, timeout=None):
            super().wait(timeout)
            return False

    sink = Watched()
    lost = LostReports()
    buffer = Buffer(1000, 2**30, lost=lost)
    buffer.wake = Late()
    flusher = Flusher(buffer, Plain(), Outbox([sink], lost), flush_secs=NEVER, lost=lost)
    flusher.start()
    buffer.put(record(0))
    flusher.flush(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0)]
    buffer.put(record(1))
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0), ("loss", 1, 1.0)]
    assert sink.calls[-1] == "close"


def test_it_flushes_by_itself():
    """A report is flushed within the period, without a call of flush()."""
    sink = Watched()
    buffer, flusher = start(sink, flush_secs=0.02)
    for step in range(3):
        buffer.put(record(step))
        assert sink.flushed.acquire(timeout=DEADLINE)
        assert len(sink.records) == step + 1
    flusher.close(DEADLINE)


def test_a_half_full_buffer_is_emptied_early():
    """A fast training loop does not wait for the period to pass."""
    sink = Watched()
    buffer, flusher = start(sink, max_frames=4)
    for step in range(100):
        buffer.put(record(step))
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", step, step) for step in range(100)]


def test_many_bytes_are_written_early():
    """Reports that were read wait for the period, unless they take much memory."""
    sink = Watched()
    buffer = Buffer(1000, 2**40)
    flusher = Flusher(buffer, Plain(), Outbox([sink], LostReports()), flush_secs=NEVER)
    buffer.put(record(0))
    flusher._turn(woken=False, tasks=set())
    assert len(buffer) == 0
    assert sink.calls == []
    buffer.put(record(1, value=np.zeros(2**24, np.uint8)))
    flusher._turn(woken=False, tasks=set())
    assert sink.calls == ["write", "flush"]
    assert [item.step for item in sink.records] == [0, 1]


def test_flush_waits_for_the_device_and_the_thread_does_not():
    """The caller waits for a frame that is being computed; the thread serves the reports before it."""
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


def test_flush_waits_for_callbacks():
    """The reports of a host callback that has not arrived yet are written after flush()."""
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
    """jax.transfer_guard('disallow') restricts the user's transfers, and not this one."""
    sink = Watched()
    array = jnp.ones(1)
    with jax.transfer_guard("disallow"):
        buffer, flusher = start(sink)
        buffer.put(frame(3, array))
        flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 3, 1.0)]


def test_a_failed_batch_is_written_again_before_newer_ones(caplog):
    """The same list is written again until it succeeds; nothing is lost or written twice."""
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
            "    jaxboard retries until the run is closed and keeps reports up to the buffer's limit. "
            "Training goes on."
        ),
        "jaxboard, run 'here': earlier write failures have been resolved.",
    ]


def test_flush_raises_if_reports_are_pending():
    """flush() raises with the count, the sink and its fault; after the sink recovers it does not."""
    fault = OSError("the disk went away")
    sink = Watched(fault)
    buffer, flusher = start(sink)
    for step in range(3):
        buffer.put(record(step))
    with pytest.raises(RunError) as caught:
        flusher.flush(DEADLINE)
    assert str(caught.value) == (
        "run 'here': 3 reports are pending: Watched failed: OSError: the disk went away. jaxboard keeps "
        "the pending reports and retries."
    )
    assert caught.value.__cause__ is fault
    flusher.flush(DEADLINE)
    flusher.close(DEADLINE)
    assert len(sink.records) == 3


def test_close_raises_if_reports_are_lost():
    """If a sink never accepts anything, close() raises with the count, the sink and its fault."""
    fault = OSError("the disk went away")
    sink = Watched(*[fault] * 1000)
    buffer, flusher = start(sink)
    for step in range(3):
        buffer.put(record(step))
    with pytest.raises(RunError) as caught:
        flusher.close(DEADLINE)
    assert str(caught.value) == (
        "run 'here': 3 reports were lost:\n  3: Watched failed: OSError: the disk went away"
    )
    assert caught.value.__cause__ is fault
    assert sink.calls[-1] == "close"
    flusher.close(DEADLINE)


def test_one_batch_that_cannot_be_written_costs_no_other():
    """At close() the batches after one that keeps failing are still written."""
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
    with pytest.raises(RunError, match="1 report is pending: Watched failed: ValueError: poison"):
        flusher.flush(DEADLINE)
    buffer.put(record(1))
    with pytest.raises(RunError, match="1 report was lost"):
        flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 1, 1.0)]


def test_a_sink_may_raise_anything():
    """An exception that is not an Exception does not end the thread either."""
    sink = Watched(SystemExit("no"))
    buffer, flusher = start(sink)
    buffer.put(record(0))
    with pytest.raises(RunError, match="SystemExit: no"):
        flusher.flush(DEADLINE)
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0)]


def test_a_failed_computation_costs_no_other():
    """A frame that cannot be read is left out and counted; those beside it are written."""
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
        "run 'here': 2 reports were lost:\n"
        "  2: computing them failed: RuntimeError: Array has been deleted"
    )
    assert seen(sink) == [("loss", 0, 0.0), ("loss", 2, 2.0)]
    flusher.close(DEADLINE)


def test_points_held_back_are_written_at_close():
    """The assembler's incomplete points are written at the end, and only then."""

    class Holding(Plain):
        def finish(self):
            return Assembled([record(9, "held")], [])

    sink = Watched()
    buffer, flusher = start(sink, assembler=Holding())
    buffer.put(record(0))
    flusher.flush(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0)]
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0), ("held", 9, 9.0)]


def test_a_fault_in_assembling_is_counted():
    """A bug in the assembler costs the reports of one period and not the run, and is reported."""

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


def test_the_monitors_add_their_own_records():
    """Each monitor sees what the assembler made, and its records are written after those, the last ones at the end."""

    class Monitor:
        def __init__(self, tag):
            self.tag = tag

        def start(self, settle):
            pass

        def observe(self, assembled):
            return [record(item.step, self.tag) for item in assembled.items]

        def finish(self):
            return [record(9, f"last {self.tag}")]

    sink = Watched()
    buffer, flusher = start(sink, monitors=[Monitor("a"), Monitor("b")])
    buffer.put(record(3))
    flusher.flush(DEADLINE)
    flusher.close(DEADLINE)
    assert seen(sink) == [
        ("loss", 3, 3.0),
        ("a", 3, 3.0),
        ("b", 3, 3.0),
        ("last a", 9, 9.0),
        ("last b", 9, 9.0),
    ]


def test_monitors_that_see_points_before_they_are_written():
    """With ``observe_secs``, monitors see a point soon; it is written when ``flush_secs`` are over, or on request."""

    class Monitor:
        def __init__(self):
            self.found, self.seen = set(), threading.Event()

        def start(self, settle):
            pass

        def observe(self, assembled):
            if assembled.items:
                self.seen.set()
            return []

        def finish(self):
            return []

    sink, monitor = Watched(), Monitor()
    buffer, flusher = start(sink, monitors=[monitor], observe_secs=0.01)
    buffer.put(record(1))
    assert monitor.seen.wait(DEADLINE)
    assert sink.batches == []
    buffer.put(record(2))
    flusher.flush(DEADLINE)
    assert [item.step for item in sink.records] == [1, 2]
    flusher.close(DEADLINE)


def test_a_fault_of_the_monitor_loses_nothing(caplog):
    """A bug in the monitor is logged, and every report is written."""

    class Monitor:
        def start(self, settle):
            pass

        def observe(self, assembled):
            raise KeyError("bug")

        finish = list

    sink = Watched()
    buffer, flusher = start(sink, monitors=[Monitor()])
    buffer.put(record(3))
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 3, 3.0)]
    assert "Monitor failed: KeyError: 'bug'" in caplog.text


def test_a_process_that_does_not_write_opens_nothing():
    """On the other processes of a job reports leave the buffer and are discarded."""
    sink = Watched()
    buffer, flusher = start(sink, is_writer=lambda jax_runs: False)
    buffer.put(record(0))
    flusher.flush(DEADLINE)
    assert len(buffer) == 0
    flusher.close(DEADLINE)
    assert sink.calls == ["close"]


def test_a_hanging_sink_raises_after_the_timeout():
    """flush() and close() stop waiting after their timeout, and count what may be missing."""
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
        "run 'here': Hung did not finish within 0.05 s. 1 report is pending, and 1 call is waiting in "
        "the buffer."
    )
    sink.released.set()
    flusher.close(DEADLINE)
    assert seen(sink) == [("loss", 0, 0.0), ("loss", 1, 1.0)]


def test_a_timeout_names_the_faults():
    """If a sink hangs, the error also names the sinks that fail, and at the end what was lost."""
    fault, cause = OSError("no space left"), KeyError("why")
    hung, failing = Hung(), Watched(fault)
    lost = LostReports("'here'")
    buffer = Buffer(1000, 2**30, lost=lost, stall_secs=DEADLINE)
    flusher = Flusher(buffer, Plain(), Outbox([failing, hung], lost), flush_secs=NEVER, lost=lost)
    flusher.start()
    buffer.put(record(0))
    lost.add(2, "a reason", cause)
    message = (
        "run 'here': Hung did not finish within 0.05 s. 1 report is pending, and 0 calls are waiting in the buffer."
        " Watched failed: OSError: no space left."
    )
    with pytest.raises(RunError) as caught:
        flusher.flush(0.05)
    assert hung.entered.wait(DEADLINE)
    with pytest.raises(RunError) as caught:
        flusher.flush(0.05)
    assert (str(caught.value), caught.value.__cause__) == (message, fault)
    with pytest.raises(RunError) as caught:
        flusher.close(0.05)
    assert str(caught.value) == (f"{message}\nrun 'here': 2 reports were lost:\n  2: a reason")
    hung.released.set()
    flusher.close(DEADLINE)


def test_flushing_from_many_threads():
    """Every caller of flush() returns, even while other threads flush or close."""
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


def test_the_seconds_after_the_last_write():
    """The function after the last write may take the timeout of the run, or two seconds if a signal ends the process."""
    given = []
    for device_timeout in (None, 10.0):
        _, flusher = start(Watched(), on_closed=given.append)
        flusher.close(DEADLINE, device_timeout=device_timeout)
    assert given == [DEADLINE, 2.0]
