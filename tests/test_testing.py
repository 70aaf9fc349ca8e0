"""capture(): the reports of a block, for users' tests."""

import pytest
from by_hand import record

from jaxboard._run import channel_of, current_run
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


def test_captures_nest():
    """Reports go to the innermost capture."""
    with capture() as outer:
        with capture() as inner:
            put(1)
        put(0)
    assert ([r.step for r in outer], [r.step for r in inner]) == ([0], [1])
