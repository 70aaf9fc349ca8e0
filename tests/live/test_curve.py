"""A curve keeps the mean and the limits of ranges of steps, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from jaxboard._live.curve import Curve


def curve_of(*parts):
    """Return a curve with these steps and values."""
    curve = Curve()
    for steps, values in parts:
        curve.add(np.asarray(steps, np.int64), np.asarray(values, np.float64))
    return curve


def test_few_points_are_exact():
    """Each step has a point of its own while they are few."""
    curve = curve_of(([3, 4], [1.0, 2.0]), ([7], [5.0]))
    points = curve.points()
    assert points.steps.tolist() == [3, 4, 7]
    assert points.means.tolist() == points.lows.tolist() == points.highs.tolist() == [1, 2, 5]
    assert (curve.last_step, curve.last) == (7, 5.0)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_many_points_are_merged(size):
    """A hundred thousand values fill at most 150 ranges, with exact counts, means and limits, in whatever order they arrive."""
    steps = np.arange(50, 100_050)
    values = np.sin(steps / 1000)
    curve = curve_of(
        *(
            (steps[i : i + size], values[i : i + size])
            for i in range(0, min(size * 2000, 100_000), size)
        )
    )
    points = curve.points()
    count = min(size * 2000, 100_000)
    assert len(points.steps) <= 150
    width = int(np.diff(points.steps).max())
    ranges = steps[:count] // width
    expected = [values[:count][ranges == each] for each in np.unique(ranges)]
    np.testing.assert_allclose(points.means, [each.mean() for each in expected])
    assert points.lows.tolist() == [each.min() for each in expected]
    assert points.highs.tolist() == [each.max() for each in expected]


def test_earlier_steps():
    """Steps before the first one are accepted: a program may set the step back."""
    curve = curve_of(([1000], [1.0]), ([10], [3.0]), ([2**62], [5.0]))
    points = curve.points()
    assert points.steps.tolist() == [0, 2**62]
    assert points.means.tolist() == [2, 5]
    assert points.lows.tolist() == [1, 5]


def test_values_that_are_not_finite():
    """Values that are not finite are marked, and change neither means nor limits."""
    points = curve_of(([0, 1, 2], [1.0, np.nan, np.inf]), ([1], [4.0])).points()
    assert points.steps.tolist() == [0, 1, 2]
    assert points.is_broken.tolist() == [False, True, True]
    np.testing.assert_array_equal(points.means, [1, 4, np.nan])
    np.testing.assert_array_equal(points.highs, [1, 4, np.nan])


def test_large_values():
    """The mean of values whose sum overflows is between them."""
    points = curve_of(([0, 0], [1.6e308, 1.7e308])).points()
    assert 1.6e308 <= points.means[0] <= 1.7e308
