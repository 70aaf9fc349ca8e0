"""Wall times that reports were given, until their points are in order."""

from __future__ import annotations

import numpy as np
import pytest

import jaxboard as jb
from jaxboard._host.given_times import GivenTimes, at_walltime
from jaxboard.records import Kind, Record, Scalars
from jaxboard.testing import capture


def wall_times(points):
    """Return the wall times of single points."""
    return [point.wall_time for point in points]


def test_points_of_one_report():
    """Tags below that of the report have its time, other tags at the same time do not, and a time applies once."""
    times = GivenTimes()
    with at_walltime(5.0):
        reported = times.time_of_report("x")
    points = [Record(Kind.PR_CURVE, tag, 0, reported, None) for tag in ("x/a", "x/b", "xy", "y")]
    assert wall_times(times.applied(points)) == [5.0, 5.0, reported, reported]
    assert wall_times(times.applied(points)) == [reported] * 4


def test_points_of_a_stack():
    """Points with indices for the ``{}`` of the tag, or without it, have the time of their report; others do not."""
    times = GivenTimes()
    with at_walltime(5.0):
        reported = times.time_of_report("b/{}/x")
    tags = ("b/03/x", "b/01/12/x", "b/x", "b/{}/x", "b/y/x", "b/03/y")
    points = [Record(Kind.SCALAR, tag, 0, reported, None) for tag in tags]
    assert wall_times(times.applied(points)) == [5.0] * 4 + [reported] * 2


@pytest.mark.parametrize("report", [jb.scalar, jb.histogram])
def test_a_stacked_report(report):
    """A report with ``reduce="stack"`` and ``{}`` in its tag has the wall time that it was given."""
    with capture() as records, at_walltime(5.0):
        report("b/{}/x", np.float32(1), reduce="stack")
    assert [(record.tag, record.wall_time) for record in records] == [("b/x", 5.0)]


def test_columns():
    """Rows of a column have the times that their reports were given; others keep theirs."""
    times = GivenTimes()
    reported = []
    for given in (9.0, None, 8.0):
        with at_walltime(given):
            reported.append(times.time_of_report("x"))
    column = Scalars(("x",), np.arange(3), np.array(reported), np.zeros((3, 1)))
    (shown,) = times.applied([column])
    assert isinstance(shown, Scalars)
    assert shown.wall_times.tolist() == [9.0, reported[1], 8.0]


def test_reports_at_the_same_time():
    """Reports with a wall time have times of their own, also if the clock does not advance."""
    times = GivenTimes()
    with at_walltime(5.0):
        reported = [times.time_of_report("x") for _ in range(1000)]
    assert len(set(reported)) == 1000
