"""Cadences are due at their multiples, in any set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from jaxboard._trace.cadences import Cadences

SETS = st.frozensets(st.integers(2, 30), max_size=4)


@given(SETS, st.integers(0, 10_000))
def test_not_due(cadences, step):
    """Exactly the cadences that do not divide the step are not due."""
    assert Cadences(cadences).not_due(step) == {n for n in cadences if step % n}


@given(SETS, st.integers(0, 100), st.integers(1, 100))
def test_skip_due(cadences, last_step, by):
    """A jump skips a due step if a multiple of a cadence is at or after the last step and before the next one."""
    step = last_step + by
    skips = any(
        any(at % n == 0 for at in range(last_step + 1, step)) and last_step % n for n in cadences
    )
    assert Cadences(cadences).skip_due(last_step, step) == skips


@given(SETS, SETS)
def test_including(some, more):
    """Cadences that a later trace finds are added."""
    assert Cadences(some).including(more).all == some | more
