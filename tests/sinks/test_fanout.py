"""FanOut: each sink gets each batch exactly once, whatever the others do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxboard._record import Batch, Kind, Record
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
