"""Points of several values: when they are complete, and what is written before."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxboard._frame import Observation, ReportSpec
from jaxboard._host.points import Points
from jaxboard._reduce import reducer
from jaxboard.records import Kind

MEAN = ReportSpec(Kind.SCALAR, "mean", "mean")


def observation(value, step, spec=MEAN, *, explicit_step=False, weight=None):
    state = reducer(spec).start(np.array(value, np.float32), weight, 0)
    return Observation(spec, state, step, 1000.0 + step, explicit_step)


def add(points, value, step, spec=MEAN, *, now=0.0, last=False, **options):
    return seen(points.add(observation(value, step, spec, **options), now=now, last=last))


def seen(records):
    return [(r.tag, r.step, float(r.value)) for r in records]


def test_a_later_step_completes_a_point():
    """Values of one step make one point, which is complete once a later step has a value."""
    points = Points()
    assert add(points, 1, 5) == []
    assert add(points, 3, 5) == []
    assert add(points, 9, 6) == [("mean", 5, 2.0)]
    assert seen(points.complete_before(6)) == []
    assert seen(points.complete_before(7)) == [("mean", 6, 9.0)]
    assert seen(points.finish()) == []


def test_the_last_value_of_a_step_completes_it():
    """If a step has no more values, its point is not held back."""
    points = Points()
    assert add(points, 1, 5) == []
    assert add(points, 3, 5, last=True) == [("mean", 5, 2.0)]


def test_an_incomplete_point_is_written_after_a_while():
    """A point that has stopped changing is written, and written again with all its values if it changes."""
    points = Points()
    add(points, 1, 5, now=10.0)
    assert seen(points.partial(9.9)) == []
    assert seen(points.partial(10.0)) == [("mean", 5, 1.0)]
    assert seen(points.partial(11.0)) == []
    add(points, 3, 5, now=12.0)
    assert seen(points.partial(12.0)) == [("mean", 5, 2.0)]
    assert seen(points.complete_before(6)) == []


def test_an_incomplete_window_is_not_written():
    """Points of several steps wait for their last step, or for the end of the run."""
    points = Points()
    window = ReportSpec(Kind.SCALAR, "w", "sum", every=4)
    for step in range(1, 4):
        assert add(points, step, step, window, last=True) == []
    assert seen(points.partial(100.0)) == []
    assert add(points, 4, 4, window, last=True) == [("w", 4, 10.0)]
    assert add(points, 5, 5, window, last=True) == []
    assert seen(points.finish()) == [("w", 5, 5.0)]


def test_own_steps_are_unrelated_to_the_steps_of_the_run():
    """A window in epochs is not complete just because the run is at a later step."""
    points = Points()
    epochs = ReportSpec(Kind.SCALAR, "e", "sum", every=2)
    assert add(points, 1, 1, epochs, explicit_step=True, last=True) == []
    assert seen(points.complete_before(1000)) == []
    assert add(points, 2, 2, epochs, explicit_step=True, last=True) == [("e", 2, 3.0)]


def test_a_masked_value_makes_no_point():
    """A value that a mask leaves out neither makes a point nor completes one."""
    points = Points()
    assert add(points, 1, 5, weight=np.array(0)) == []
    assert seen(points.finish()) == []
    add(points, 1, 5)
    assert add(points, 1, 6, weight=np.array(0)) == []
    assert seen(points.finish()) == [("mean", 5, 1.0)]


@given(
    every=st.integers(1, 7),
    reports=st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(-50, 50), max_size=3)), max_size=30
    ),
)
def test_points_hold_every_value_once(every, reports):
    """For any reports at any steps, each value is in exactly one point, at the right step."""
    spec = ReportSpec(Kind.SCALAR, "s", "sum", every=every)
    points, made, expected, step = Points(), [], {}, 0
    for forward, values in reports:
        step += forward
        for value in values:
            made += add(points, value, step, spec)
            end = -(-step // every) * every
            expected.setdefault(end, []).append(value)
    made += seen(points.finish())
    if expected:  # The last window may be incomplete.
        last = max(expected)
        reached = made[-1][1]
        assert last - every < reached <= last
        made[-1] = ("s", last, made[-1][2])
    assert made == [("s", end, float(sum(values))) for end, values in expected.items()]
