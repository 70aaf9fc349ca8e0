"""capture(): the reports of a block, for users' tests."""

import jax.numpy as jnp
import pytest
from by_hand import frame, record

from jaxboard import Run, RunError
from jaxboard._run import channel_of, current_run
from jaxboard.sinks import MemorySink
from jaxboard.testing import capture


def put(*steps, tag="loss"):
    run = current_run()
    assert run is not None
    for step in steps:
        channel_of(run).put(record(step, tag))


def test_the_list_is_complete_and_in_step_order():
    """After the block the list holds every record, sorted by step; within a step, the order of reporting."""
    with capture() as records:
        assert type(records) is list
        put(2, 0, 1)
        put(0, tag="acc")
    assert [(r.tag, r.step) for r in records] == [("loss", 0), ("acc", 0), ("loss", 1), ("loss", 2)]
    assert current_run() is None


def test_the_first_step():
    """step= is the first step, as in Run."""
    with capture(step=7):
        run = current_run()
        assert run is not None
        assert run.step == 7


def test_an_exception_keeps_earlier_records():
    """An exception propagates; the run is closed and the list holds what was reported before it."""
    captured = []

    def use():
        with capture() as records:
            captured.append(records)
            put(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    (records,) = captured
    assert [r.step for r in records] == [0]
    assert current_run() is None


def test_a_lost_report_raises_with_its_cause():
    """The error at the end of the block names the fault, which is its cause, and the rest is in the list."""
    deleted = jnp.zeros(1)
    deleted.delete()
    captured = []

    def use():
        with capture() as records:
            captured.append(records)
            run = current_run()
            assert run is not None
            channel_of(run).put(frame(0, deleted))
            put(1)

    with pytest.raises(RunError, match="1: computing them failed: RuntimeError: Arr") as caught:
        use()
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert [r.step for r in captured[0]] == [1]


@pytest.mark.parametrize("fails_too", [True, False])
def test_the_fault_of_a_sink_in_the_block(fails_too):
    """The error of a run in the block names the sink and the cause, also beside an error of the block."""

    class Broken(MemorySink):
        def write(self, batch):
            raise KeyError("the cause")

    def use():
        with capture(), Run(None, sinks=[Broken()], telemetry=False):
            put(0)
            if fails_too:
                raise ZeroDivisionError

    text = "1 report was lost:\n  1: Broken failed: KeyError: 'the cause'"
    with pytest.raises(ZeroDivisionError if fails_too else RunError) as caught:
        use()
    if fails_too:
        assert text in caught.value.__notes__[0]
    else:
        assert text in str(caught.value)
        assert isinstance(caught.value.__cause__, KeyError)


def test_captures_nest():
    """Reports go to the innermost capture."""
    with capture() as outer:
        with capture() as inner:
            put(1)
        put(0)
    assert ([r.step for r in outer], [r.step for r in inner]) == ([0], [1])
