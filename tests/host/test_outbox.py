"""Outbox: each sink receives each batch exactly once, whatever the other sinks do."""

import logging

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxboard as jb
from jaxboard._host.lost import LostReports
from jaxboard._host.outbox import Outbox
from jaxboard.records import Batch, Kind, Record
from jaxboard.sinks import MemorySink, Sink, TensorBoardSink


class Flaky(Sink):
    """A sink that forgets what it has not flushed when it fails, as an event file does."""

    def __init__(self, faults: list[bool] | None = None) -> None:
        self.faults = faults or []
        self.flushed: list[Record] = []
        self.queue: list[Record] = []
        self.closed = False

    def _perhaps_fail(self) -> None:
        if self.faults and self.faults.pop(0):
            self.queue.clear()
            raise OSError("disk full")

    def write(self, batch: Batch) -> None:
        self._perhaps_fail()
        self.queue += [item for item in batch if isinstance(item, Record)]

    def flush(self) -> None:
        self._perhaps_fail()
        self.flushed += self.queue
        self.queue.clear()

    def close(self) -> None:
        self.closed = True
        self._perhaps_fail()


class Broken(Flaky):
    """A sink that fails until it is repaired."""

    repaired = False

    def _perhaps_fail(self) -> None:
        if not self.repaired:
            raise OSError("no route to host")


class Picky(Flaky):
    """A sink that never accepts the steps in ``refused``."""

    def __init__(self, *refused: int) -> None:
        super().__init__()
        self.refused = set(refused)
        self.attempts: list[int] = []

    def write(self, batch: Batch) -> None:
        (record,) = batch
        assert isinstance(record, Record)
        self.attempts.append(record.step)
        if record.step in self.refused:
            self.queue.clear()
            raise ValueError(f"step {record.step} is refused")
        super().write(batch)


def batch(step: int) -> Batch:
    return [Record(Kind.SCALAR, "a", step, 0.0, np.float32(step))]


def steps(sink: Flaky) -> list[int]:
    return [record.step for record in sink.flushed]


def make(*sinks: Sink, **options) -> tuple[Outbox, LostReports]:
    lost = LostReports()
    return Outbox(sinks, lost, **options), lost


def summary(outbox: Outbox) -> list[str]:
    return [str(fault) for fault in outbox.faults]


@given(
    st.lists(st.lists(st.booleans(), max_size=8), min_size=1, max_size=4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_every_batch_arrives_exactly_once_and_in_order(faults, groups):
    """Whichever writes and flushes fail in whichever sinks, nothing is lost, repeated or reordered."""
    flaky = [Flaky(list(pattern)) for pattern in faults]
    outbox, lost = make(*flaky)
    expected = 0
    for count in groups:
        for _ in range(count):
            outbox.offer(batch(expected))
            expected += 1
            outbox.flush()
        for _ in range(20):
            outbox.flush()
        assert (outbox.pending, outbox.faults, outbox.has_room) == (0, [], True)
    assert [steps(each) for each in flaky] == [list(range(expected))] * len(flaky)
    assert lost.count == 0


def test_a_failing_write_does_not_keep_the_batch_from_other_sinks():
    """The sinks before and after the failing one receive the batch immediately, and only once."""
    first, bad, last = MemorySink(), Flaky([True]), MemorySink()
    outbox, _ = make(first, bad, last)
    outbox.offer(batch(3))
    outbox.flush()
    assert summary(outbox) == ["Flaky failed: OSError: disk full"]
    assert (len(first.records), len(last.records), outbox.pending) == (1, 1, 1)
    outbox.flush()
    assert (len(first.records), len(last.records), outbox.pending) == (1, 1, 0)
    assert steps(bad) == [3]
    assert summary(outbox) == []


def test_batches_after_a_fault_wait_for_it():
    """A sink that missed a batch gets it before the next one."""
    bad = Flaky([True])
    outbox, _ = make(bad, MemorySink())
    outbox.offer(batch(1))
    outbox.flush()
    outbox.offer(batch(2))
    outbox.flush()
    assert steps(bad) == [1, 2]


def test_batches_before_one_that_keeps_failing_are_written_once():
    """After a fault each batch is flushed separately, so it is not written again with every retry."""
    picky = Picky(2)
    outbox, _ = make(picky, MemorySink())
    for step in range(4):
        outbox.offer(batch(step))
    for _ in range(3):
        outbox.flush()
    assert steps(picky) == [0, 1]
    assert picky.attempts == [0, 1, 2, 0, 1, 2, 2]


def test_other_sinks_go_on_while_one_is_broken():
    """They receive new reports; the broken one gets all of them, in order, once it is repaired."""
    bad, good = Broken(), MemorySink()
    with jb.Run(None, sinks=[bad, good], flush_secs=60) as run:
        for step in range(3):
            jb.scalar("a", float(step), step=step)
            with pytest.raises(jb.RunError, match=f" {step + 1} reports? (is|are) pending: Broken"):
                run.flush()
            assert [record.step for record in good.records] == list(range(step + 1))
        bad.repaired = True
        run.flush()
        assert steps(bad) == [0, 1, 2]
        jb.scalar("a", 3.0, step=3)
    assert steps(bad) == [record.step for record in good.records] == [0, 1, 2, 3]


def test_reports_that_a_broken_sink_never_accepted_are_lost():
    """Every report that one sink lacks is counted at close(), once, with the sink and the cause."""
    good = MemorySink()
    run = jb.Run(None, sinks=[Broken(), good, Broken()], flush_secs=60)
    for step in range(3):
        jb.scalar("a", float(step), step=step)
        with pytest.raises(jb.RunError):
            run.flush()
    jb.scalar("a", 3.0, step=3)
    with pytest.raises(jb.RunError, match="6 reports were lost") as caught:
        run.close()
    # The faults of close() count as well: they may have lost reports that a sink never flushed.
    assert str(caught.value).splitlines()[1:] == [
        "  4: Broken failed: OSError: no route to host",
        "  2: Broken could not be closed: OSError: no route to host",
    ]
    assert [record.step for record in good.records] == [0, 1, 2, 3]


def test_a_fault_is_logged_with_the_sink_and_its_cause(caplog):
    """Each failing sink is named, once for each fault, and the recovery is logged when all work again."""
    bad, worse = Flaky([True]), Flaky([True, True])
    outbox, _ = make(bad, MemorySink(), worse)
    outbox.offer(batch(0))
    with caplog.at_level(logging.INFO, logger="jaxboard"):
        for _ in range(4):
            outbox.flush()
    assert [entry.getMessage().partition("\n")[0] for entry in caplog.records] == [
        "jaxboard, run run: Flaky failed: OSError: disk full",
        "jaxboard, run run: earlier write failures have been resolved.",
    ]


def test_pending_batches_are_bounded():
    """Above the limit, and while every sink fails, no further batch is accepted."""
    outbox, _ = make(Broken(), MemorySink(), max_bytes=7)
    assert (outbox.has_room, outbox.pending) == (True, 0)
    for step in range(2):
        outbox.offer(batch(step))
        outbox.flush()
        assert (outbox.has_room, outbox.pending) == (step == 0, step + 1)
    outbox, _ = make(Broken(), Broken())
    outbox.offer(batch(0))
    outbox.flush()
    assert not outbox.has_room


def test_close_writes_what_was_offered_without_a_flush():
    """A batch that is offered last is written by close()."""
    sink = Flaky()
    outbox, lost = make(sink)
    outbox.offer(batch(0))
    outbox.close()
    assert (steps(sink), sink.closed, lost.count) == ([0], True, 0)


def test_close_gives_each_batch_a_second_chance():
    """A sink may recover at close by opening a new file."""
    sink = Flaky([True, True])
    outbox, lost = make(sink)
    for step in range(3):
        outbox.offer(batch(step))
    outbox.close()
    assert (steps(sink), lost.count) == ([0, 1, 2], 0)


def test_close_skips_batches_that_cannot_be_written():
    """A batch that fails twice is lost, and later ones are written."""
    sink = Picky(1, 3)
    outbox, lost = make(sink)
    for step in range(5):
        outbox.offer(batch(step))
    outbox.close()
    assert steps(sink) == [0, 2, 4]
    error = lost.take_error()
    assert str(error).splitlines() == [
        "run run: 2 reports were lost:",
        "  1: Picky failed: ValueError: step 1 is refused",
        "  1: Picky failed: ValueError: step 3 is refused",
    ]
    assert error is not None
    assert isinstance(error.__cause__, ValueError)


def test_close_stops_if_two_batches_in_a_row_fail():
    """A sink that is down costs a few attempts, however many batches are pending."""
    sink = Picky(*range(100))
    outbox, lost = make(sink)
    for step in range(100):
        outbox.offer(batch(step))
    outbox.close()
    assert sink.attempts == [0, 0, 0, 1, 1]
    assert lost.count == 100


def test_equal_batches_are_different_batches():
    """Two batches with equal contents are both written."""
    good = MemorySink()
    outbox, _ = make(good)
    outbox.offer(batch(1))
    outbox.offer(batch(1))
    outbox.flush()
    assert len(good.records) == 2


def test_one_list_offered_twice_is_written_twice():
    """The outbox does not identify batches by their list."""
    good, item = MemorySink(), batch(1)
    outbox, _ = make(good)
    outbox.offer(item)
    outbox.offer(item)
    outbox.flush()
    assert len(good.records) == 2


def test_close_reaches_every_sink():
    """One sink that fails to close does not keep the others open."""
    bad, good = Flaky([True]), Flaky()
    outbox, lost = make(bad, good)
    outbox.close()
    assert (bad.closed, good.closed) == (True, True)
    assert "1: Flaky could not be closed: OSError: disk full" in str(lost.take_error())


def test_working_sinks_close_first():
    """The retries of a broken sink do not delay the end of the others."""
    order = []

    class Noting(Flaky):
        def close(self) -> None:
            order.append(len(self.flushed))

    outbox, _ = make(Noting([True] * 100), Noting())
    outbox.offer(batch(0))
    outbox.close()
    assert order == [1, 0]


def test_open_reaches_every_sink(tmp_path, caplog):
    """Sinks have an open() that does nothing by default, and a fault in one does not matter to the others."""

    class Unopenable(MemorySink):
        def open(self) -> None:
            raise OSError("no route to host")

    outbox, lost = make(MemorySink(), Unopenable(), TensorBoardSink(tmp_path / "run"))
    outbox.open()
    assert len(list((tmp_path / "run").iterdir())) == 1
    assert "Unopenable failed: OSError: no route to host" in caplog.text
    assert lost.count == 0
    outbox.close()


def test_something_else_than_a_sink():
    """Run refuses an object that lacks a method of a sink, when the run is opened."""

    class Writer:
        def write(self, batch: Batch) -> None:
            pass

    for wrong in (Writer(), MemorySink):
        with pytest.raises(
            jb.UsageError,
            match="expected instances of jaxboard.sinks.Sink, got .*(Writer|MemorySink)",
        ):
            jb.Run(None, sinks=[wrong])  # pyright: ignore[reportArgumentType]


def test_a_sink_that_is_not_a_subclass():
    """A sink needs only write, flush and close, and the error at the end names it and its fault."""

    class Broken:
        def write(self, batch: Batch) -> None:
            raise KeyError("the cause")

        def flush(self) -> None:
            pass

        def close(self) -> None:
            pass

    memory = MemorySink()
    with (
        pytest.raises(jb.RunError, match="1: Broken failed: KeyError: 'the cause'") as caught,
        jb.Run(None, sinks=[memory, Broken()]),  # pyright: ignore[reportArgumentType]
    ):
        jb.scalar("a", 1.0, step=0)
    assert isinstance(caught.value.__cause__, KeyError)
    assert [record.tag for record in memory.records] == ["a"]


class Selective(Flaky):
    """A sink that cannot show the step 1, and counts it once it is flushed."""

    def __init__(self, faults: list[bool] | None = None) -> None:
        super().__init__(faults)
        self.taken = 0

    def take_lost(self) -> dict[str, int]:
        skipped = sum(record.step == 1 for record in self.flushed)
        new, self.taken = skipped - self.taken, skipped
        return {"the step is 1": new}


def test_records_that_a_sink_loses_are_counted_once():
    """Records that a sink cannot write are counted with its reason, once, whatever is written again."""
    sink = Selective([False, True, True])
    outbox, lost = make(sink, MemorySink())
    for step in range(3):
        outbox.offer(batch(step))
    for _ in range(4):
        outbox.flush()
    assert (outbox.pending, lost.count) == (0, 1)
    outbox.offer(batch(1))
    outbox.close()
    assert str(lost.take_error()) == (
        "run run: 2 reports were lost:\n  2: Selective: the step is 1"
    )


def test_a_sink_that_fails_to_count():
    """A fault of take_lost() is logged and loses nothing."""

    class Confused(MemorySink):
        def take_lost(self) -> dict[str, int]:
            raise OSError("no idea")

    sink = Confused()
    outbox, lost = make(sink)
    outbox.offer(batch(1))
    outbox.flush()
    outbox.close()
    assert (len(sink.records), lost.count) == (1, 0)


def test_every_failing_sink_is_named():
    """The faults list each sink that fails, with its exception."""
    outbox, _ = make(Broken(), Flaky([True]))
    outbox.offer(batch(0))
    outbox.flush()
    assert summary(outbox) == [
        "Broken failed: OSError: no route to host",
        "Flaky failed: OSError: disk full",
    ]
