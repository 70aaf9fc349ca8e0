"""The detector of spikes against a reference in plain Python and SciPy, and curves without spikes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from jaxboard._alerts.detector import CUTOFF, LONGEST, WINDOW, Detector
from jaxboard._alerts.robust_score import robust_scores


def reference_score(before: np.ndarray, value: float) -> float:
    """Return the modified z-score of Iglewicz and Hoaglin; of positive values, that of their logarithms if it is closer to 0."""
    with np.errstate(divide="ignore"):
        scales = [(before, value)]
        if (before > 0).all():
            scales.append((np.log(before), float(np.log(max(value, 0)))))
    scores = []
    for values, x in scales:
        deviation = stats.median_abs_deviation(values)
        scores.append(0.6745 * (x - np.median(values)) / deviation if deviation > 0 else 0.0)
    if len({np.sign(score) for score in scores}) > 1:
        return 0.0
    return min(scores, key=abs)


def reference(values: Sequence[float]) -> list[tuple[int, int, int]]:
    """Return start, peak and end of each spike of a curve, point by point."""
    found: list[tuple[int, int, int]] = []
    outside: tuple[int, int, float, float] | None = None
    for n, x in enumerate(values):
        if outside is None:
            before = np.array(values[max(n - WINDOW, 0) : n])
            if len(before) < WINDOW or not np.isfinite([*before, x]).all():
                continue
            spread = before.max() - before.min()
            far = x > before.max() + 2 * spread or x < before.min() - 2 * spread
            median = float(np.median(before))
            far = far and abs(x - median) > 1e-3 * abs(median)
            if far and abs(reference_score(before, x)) > CUTOFF:
                outside = n, n, x, median
            continue
        start, peak, top, median = outside
        sign = np.sign(top - median)
        if sign * (x - top) > 0:
            outside = start, n, x, median
        elif sign * (x - median) < sign * (top - median) / 2:
            found.append((start, peak, n))
            outside = None
            continue
        if outside is not None and n - start == LONGEST:
            outside = None
    return found


def spikes_of(curves: np.ndarray, cuts: Sequence[int] = ()) -> list[list[tuple[int, int, int]]]:
    """Return the spikes of curves [K, N], passed to the detector in pieces."""
    detector = Detector()
    tags = detector.add_tags([("", str(k)) for k in range(len(curves))])
    found: list[list[tuple[int, int, int]]] = [[] for _ in curves]
    bounds = [0, *sorted(cuts), curves.shape[1]]
    for begin, end in itertools.pairwise(bounds):
        if begin < end:
            for spike in detector.observe(tags, np.arange(begin, end), curves[:, begin:end]):
                found[int(spike.tag)].append((spike.start, spike.peak, spike.end))
    return found


def noisy_curves(rng: np.random.Generator, count: int, size: int) -> np.ndarray:
    """Return curves of many kinds, with spikes, steps and non-finite values at random."""
    steps = np.arange(size)
    curves = []
    for _ in range(count):
        curve = [
            lambda: rng.normal(3, 0.1, size),
            lambda: 10 * np.exp(-steps / 90) + rng.normal(0, 0.02, size),
            lambda: rng.exponential(1, size) - 5,
            lambda: np.exp(rng.normal(0, 1, size)),
            lambda: rng.integers(0, 3, size).astype(float),
            lambda: np.round(rng.normal(0, 1, size)),
        ][rng.integers(6)]()
        for _ in range(rng.integers(1, 9)):
            at, length = rng.integers(size), rng.integers(1, 45)
            curve[at : at + length] += rng.normal(0, 20)
        if rng.random() < 0.3:
            curve[rng.integers(size)] = rng.choice([np.nan, np.inf, -np.inf])
        curves.append(curve)
    return np.array(curves)


@pytest.mark.parametrize("seed", range(3))
def test_against_the_reference(seed: int) -> None:
    """The spikes are those of the reference, however the points are divided."""
    rng = np.random.default_rng(seed)
    curves = noisy_curves(rng, 20, 900)
    expected = [reference(curve) for curve in curves]
    assert sum(map(len, expected)) >= 8
    assert spikes_of(curves) == expected
    assert spikes_of(curves, rng.integers(900, size=40).tolist()) == expected


def test_single_points() -> None:
    """Tags whose points come one by one, and that began at different times, have the same spikes."""
    curves = noisy_curves(np.random.default_rng(9), 5, 500)
    detector = Detector()
    tags = detector.add_tags([("", str(k)) for k in range(5)])
    found: list[list[tuple[int, int, int]]] = [[] for _ in tags]
    for n in range(500):
        late = tags[: 5 if n >= 60 else 3]
        for spike in detector.observe(late, np.array([n]), curves[late, n : n + 1]):
            found[int(spike.tag)].append((spike.start, spike.peak, spike.end))
    assert found[:3] == [reference(curve) for curve in curves[:3]]
    shifted = [[(a - 60, b - 60, c - 60) for a, b, c in each] for each in found[3:]]
    assert shifted == [reference(curve[60:]) for curve in curves[3:]]


def test_scores() -> None:
    """The scores are those of the reference, also of values that are mostly equal."""
    rng = np.random.default_rng(0)
    before = np.exp(rng.normal(0, 1, (WINDOW, 6))) - np.array([0, 0, 0, 5, 5, 5])
    before[: WINDOW // 2 + 5, 2] = 1.0
    values = rng.normal(0, 5, (20, 6))
    expected = [[reference_score(before[:, k], values[n, k]) for k in range(6)] for n in range(20)]
    np.testing.assert_allclose(robust_scores(before, values), expected, rtol=1e-12)


@pytest.mark.parametrize("own_steps", [False, True])
def test_steps_that_repeat(own_steps: bool) -> None:
    """Points of one call that replace others, or start their tags again, count as they do one by one."""
    rng = np.random.default_rng(7)
    curves = noisy_curves(rng, 4, 700)
    steps = np.arange(700)
    steps[300:] -= 1
    steps[500:] -= 180
    columns = np.stack([steps] * 4) if own_steps else steps
    together, single = Detector(), Detector()
    tags, _ = (each.add_tags([("", str(k)) for k in range(4)]) for each in (together, single))
    found = together.observe(tags, columns, curves)
    expected = [
        spike
        for n in range(700)
        for spike in single.observe(tags, columns[..., n : n + 1], curves[:, n : n + 1])
    ]
    assert expected
    key = lambda spike: (spike.end, spike.tag, spike.start, spike.peak)  # noqa: E731
    assert sorted(map(key, found)) == sorted(map(key, expected))


STEPS = np.arange(3000)
NOISE = np.random.default_rng(1).normal(0, 1, 3000)
NO_SPIKES: dict[str, Any] = {
    "constant": np.full(3000, 0.1),
    "constant with a step": np.where(STEPS < 1500, 0.1, 0.01),
    "rounding errors": 0.1 + 1e-9 * NOISE + 1e-5 * (STEPS == 2000),
    "linear warm-up": np.minimum(STEPS / 500, 1.0),
    "warm-up and cosine decay": np.minimum(STEPS / 300, 1) * (1 + np.cos(np.pi * STEPS / 3000)),
    "cosine with warm restarts": 1 + np.cos(np.pi * (STEPS % 500) / 500),
    "short restarts": 1 + np.cos(np.pi * (STEPS % 80) / 80),
    "exponential decay in stairs": 0.5 ** (STEPS // 400),
    "one-cycle": np.interp(STEPS, [0, 900, 2700, 3000], [0.04, 1, 0.04, 0.0004]),
    "counter": STEPS.astype(float),
    "loss that falls": 2 + 9 * np.exp(-STEPS / 60) + 0.05 * NOISE,
    "loss that falls late": 2.3 - 2 / (1 + np.exp(-(STEPS - 1500) / 4)) + 0.02 * NOISE,
    "loss near zero": np.exp(-STEPS / 400 + 0.8 * NOISE),
    "noisier later": NOISE * (0.1 + STEPS / 1000),
    "noise in steps": NOISE * np.where(STEPS < 1500, 1, 3),
    "binary": (NOISE > 0).astype(float),
    "rarely one": (np.random.default_rng(2).random(3000) < 0.01).astype(float),
    "accuracy near one": np.minimum(1, np.round(128 * (0.99 + 0.01 * NOISE)) / 128),
    "level that changes": np.where(STEPS < 1500, 1.0, 4.0) + 0.05 * NOISE,
    "level that changes and back": np.where((STEPS > 1500) & (STEPS < 1700), 4.0, 1.0)
    + 0.05 * NOISE,
    "sawtooth": (STEPS % 37) / 37 + 0.01 * NOISE,
    "peak in every epoch": 1 + 0.05 * NOISE + 2.0 * (STEPS % 90 == 89),
    "log-normal": np.exp(NOISE),
    "seconds": STEPS * 0.005 + 1e-4 * NOISE,
    "never finite": np.full(3000, np.nan),
    "random walk": np.cumsum(NOISE),
}


@pytest.mark.parametrize("name", NO_SPIKES)
def test_no_false_alarm(name: str) -> None:
    """These curves have no spikes."""
    curve = np.asarray(NO_SPIKES[name], float)
    assert spikes_of(curve[None], range(0, 3000, 70)) == [[]]
    assert spikes_of(curve[None].astype(np.float32)) == [[]]


def test_noise_has_no_spikes() -> None:
    """A million values of normal, Laplace and log-normal noise have none."""
    rng = np.random.default_rng(3)
    for sample in (rng.normal, rng.laplace, rng.lognormal):
        assert spikes_of(sample(0, 1, (100, 3400))) == [[]] * 100


def test_points_again() -> None:
    """A point at the last step replaces it; one at an earlier step starts the tag again."""
    curve = 3 + np.random.default_rng(4).normal(0, 0.1, 200)
    detector = Detector()
    tags = detector.add_tags([("", "loss")])

    def observe(step: int, value: float) -> list[Any]:
        return detector.observe(tags, np.array([step]), np.array([[value]]))

    detector.observe(tags, np.arange(150), curve[None, :150])
    assert observe(150, 50.0) == []
    assert observe(150, 3.0) == []  # the point was not complete
    assert observe(151, 3.0) == []
    assert observe(152, 50.0) == []
    assert [(spike.start, spike.end) for spike in observe(153, 3.0)] == [(152, 153)]
    assert observe(20, 50.0) == []  # a run that goes on from an earlier step
    assert observe(21, 3.0) == []
    detector.observe(tags, np.arange(22, 22 + WINDOW), curve[None, :WINDOW])
    assert observe(130, 90.0) == []
    assert [(spike.start, spike.end) for spike in observe(131, 3.0)] == [(130, 131)]
