"""capture(): the run for users' own tests."""

import pytest
from by_hand import record

from jaxboard._run import current_run
from jaxboard.testing import capture


def put(*steps, tag="loss"):
    run = current_run()
    assert run is not None
    for step in steps:
        run.channel.put(record(step, tag))


def test_the_list_is_complete_and_in_step_order():
    """After the block the list has everything, by step, and within a step as reported."""
    with capture() as records:
        assert type(records) is list
        put(2, 0, 1)
        put(0, tag="acc")
    assert [(r.tag, r.step) for r in records] == [("loss", 0), ("acc", 0), ("loss", 1), ("loss", 2)]
    assert current_run() is None


def test_it_starts_where_it_is_told():
    """step= is the first step, as that of a Run."""
    with capture(step=7):
        run = current_run()
        assert run is not None
        assert run.step == 7


def test_what_came_before_an_exception_is_there():
    """The exception passes, the run is closed, and the list has what was reported until then."""
    kept = []

    def use():
        with capture() as records:
            kept.append(records)
            put(0)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        use()
    (records,) = kept
    assert [r.step for r in records] == [0]
    assert current_run() is None


def test_captures_nest():
    """Reports go to the innermost capture."""
    with capture() as outer:
        with capture() as inner:
            put(1)
        put(0)
    assert ([r.step for r in outer], [r.step for r in inner]) == ([0], [1])
