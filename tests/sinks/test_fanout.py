"""FanOut: each sink gets each batch exactly once, whatever the others do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxboard as jb
from jaxboard.records import Batch, Kind, Record
from jaxboard.sinks import FanOut, MemorySink, Sink, TensorBoardSink


class Flaky:
    """A sink that loses what it has not flushed when it fails, as an event file does."""

    def __init__(self, faults: list[bool] | None = None) -> None:
        self.faults = faults or []
        self.kept: list[Record] = []
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
        self.kept += self.queue
        self.queue.clear()

    def close(self) -> None:
        self.closed = True
        self._perhaps_fail()


def batch(step: int) -> Batch:
    return [Record(Kind.SCALAR, "a", step, 0.0, np.float32(step))]


def steps(sink: Flaky) -> list[int]:
    return [record.step for record in sink.kept]


def deliver(sink: Sink, batches: list[Batch]) -> None:
    """What a run does: writes the same batches again until a flush after them has returned."""
    for _ in range(100):
        try:
            for item in batches:
                sink.write(item)
            sink.flush()
        except ExceptionGroup:
            continue
        return
    raise AssertionError("not delivered in 100 attempts")


@given(
    st.lists(st.lists(st.booleans(), max_size=8), min_size=1, max_size=4),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
)
def test_every_batch_arrives_exactly_once_and_in_order(faults, groups):
    """Whichever writes and flushes fail in whichever sinks, nothing is lost, doubled or moved."""
    flaky = [Flaky(list(pattern)) for pattern in faults]
    sink, expected = FanOut(flaky), []
    for count in groups:
        batches = [batch(len(expected) + i) for i in range(count)]
        expected += range(len(expected), len(expected) + count)
        deliver(sink, batches)
    assert [steps(each) for each in flaky] == [expected] * len(flaky)


def test_a_failing_write_does_not_keep_the_batch_from_the_others():
    """The sinks before and after the failing one have it at once, and only once."""
    bad, good = Flaky([True]), MemorySink()
    sink, item = FanOut([MemorySink(), bad, good]), batch(3)
    with pytest.raises(ExceptionGroup, match="^write failed in 1 of 3 sinks: Flaky") as caught:
        sink.write(item)
    assert [str(fault) for fault in caught.value.exceptions] == ["disk full"]
    assert len(good.records) == 1
    sink.write(item)
    sink.flush()
    assert len(good.records) == 1
    assert steps(bad) == [3]


def test_a_run_that_goes_on_after_a_fault_loses_nothing():
    """A sink that missed a batch gets it before the next one."""
    bad = Flaky([True])
    sink = FanOut([bad, MemorySink()])
    with pytest.raises(ExceptionGroup):
        sink.write(batch(1))
    sink.write(batch(2))
    sink.flush()
    assert steps(bad) == [1, 2]


class Broken(Flaky):
    """A sink that fails until it is mended."""

    mended = False

    def _perhaps_fail(self) -> None:
        if not self.mended:
            raise OSError("no route to host")


def test_the_others_go_on_while_one_is_broken():
    """They get what comes meanwhile; the broken one gets all of it, in order, once it is mended."""
    bad, good = Broken(), MemorySink()
    with jb.Run(None, sinks=[bad, good], flush_secs=60) as run:
        for step in range(3):
            jb.scalar("a", float(step), step=step)
            with pytest.raises(jb.RunError, match=f" {step + 1} reports are not on disk yet"):
                run.flush()
            assert [record.step for record in good.records] == list(range(step + 1))
        bad.mended = True
        run.flush()
        assert steps(bad) == [0, 1, 2]
        jb.scalar("a", 3.0, step=3)
    assert steps(bad) == [record.step for record in good.records] == [0, 1, 2, 3]


def test_what_a_broken_sink_never_took_is_told():
    """Every report that one sink lacks is counted at the end, once."""
    good = MemorySink()
    run = jb.Run(None, sinks=[Broken(), good], flush_secs=60)
    for step in range(3):
        jb.scalar("a", float(step), step=step)
        with pytest.raises(jb.RunError):
            run.flush()
    jb.scalar("a", 3.0, step=3)
    with pytest.raises(jb.RunError, match="5 reports did not reach the disk") as caught:
        run.close()  # the fifth is that the sink couldn't be closed either
    assert "  4: ExceptionGroup: " in str(caught.value)
    assert [record.step for record in good.records] == [0, 1, 2, 3]


def test_no_more_waits_than_it_may():
    """What waits for a broken sink is bounded: from there on the others wait with it."""
    bad, good = Broken(), MemorySink()
    sink = FanOut([bad, good], max_bytes=7)
    assert (sink.takes_more, sink.undelivered) == (True, 0)
    for step in range(2):
        with pytest.raises(ExceptionGroup):
            sink.write(batch(step))
        assert (sink.takes_more, sink.undelivered) == (step == 0, step + 1)
    run = jb.Run(None, sinks=[FanOut([Broken(), good], max_bytes=0)], flush_secs=60)
    for step in (5, 6):
        jb.scalar("a", 1.0, step=step)
        with pytest.raises(jb.RunError):
            run.flush()
    assert [record.step for record in good.records] == [0, 1, 5]
    with pytest.raises(jb.RunError):
        run.close()
    assert [record.step for record in good.records] == [0, 1, 5, 6]


def test_equal_batches_are_not_the_same_batch():
    """Two batches with equal contents are both written."""
    good = MemorySink()
    sink = FanOut([good])
    sink.write(batch(1))
    sink.write(batch(1))
    assert len(good.records) == 2


def test_close_reaches_every_sink():
    """One sink that fails to close does not keep the others open."""
    bad, good = Flaky([True]), Flaky()
    with pytest.raises(ExceptionGroup, match="^close failed in 1 of 2 sinks: Flaky"):
        FanOut([bad, good]).close()
    assert (bad.closed, good.closed) == (True, True)


def test_open_reaches_the_sinks_that_have_it(tmp_path):
    """A sink that has nothing to open does not matter."""
    FanOut([MemorySink(), TensorBoardSink(tmp_path / "run")]).open()
    assert len(list((tmp_path / "run").iterdir())) == 1


def test_it_is_a_sink():
    """It has what the protocol asks for, and shows what it is made of."""
    inner = MemorySink()
    assert isinstance(FanOut([inner]), Sink)
    assert FanOut([inner]).sinks == (inner,)
