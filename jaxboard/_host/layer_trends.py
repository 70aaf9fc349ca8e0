"""Layers whose weights or gradients explode, or whose weights drift, found in the history of their statistics.

Ordinary training must not be reported. Weights that start at zero grow in proportion to the steps, or to their square
while the learning rate rises; gradients grow by orders of magnitude when training leaves a plateau, but in all layers.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from jaxboard._host.column_history import HistoryColumns
from jaxboard._host.layer_history import LayerHistory
from jaxboard._reduce.layer_health import STATISTICS

_CHECK_INTERVAL = 3
"""Reports between two searches for trends."""

_MIN_REPORTS = 12
"""Fewest reports before a trend."""

_UPDATE_REPORTS = 10
"""Reports for which updates must be too large."""

_HELD_REPORTS = 3
"""Reports at the end that must all have a value, for it to count."""

_MIN_ELEMENTS = 16
"""Fewest elements of a layer: a single number may change by any factor."""

_MIN_WEIGHT_GROWTH = 10.0
_MIN_GRADIENT_GROWTH = 100.0
_LARGE_RATIO = 0.1
_MIN_DRIFT = 8.0
_EARLY_REPORTS = 30
"""Reports at the start of training, where large updates are ordinary."""

_MIN_STEADY_FRACTION = 0.8
"""The smallest fraction of changes that have the direction of the drift."""

_RATIO, _GRADIENT, _RMS = (STATISTICS.index(name) for name in ("ratio", "gradient_norm", "rms"))

Trend = Literal["weights explode", "gradient explodes", "weights drift", "updates are too large"]

EXPLOSIONS: tuple[Trend, ...] = ("weights explode", "gradient explodes")
"""The trends after which no other one of that layer matters."""


class TrendFinding(NamedTuple):
    """A layer with a trend.

    Attributes:
        trend: what it does.
        layer: its name.
        first_step: the step of the first value.
        first: the value then.
        last: the value now.
        others: the same for the median of the other layers: what their values were multiplied by, or their value. NaN
            if there is no other layer.
    """

    trend: Trend
    layer: str
    first_step: int
    first: float
    last: float
    others: float


class _Found(NamedTuple):
    """A trend, before the layer has its name. See :class:`TrendFinding`."""

    trend: Trend
    layer: int
    first_step: int
    first: float
    last: float
    others: float


def find_trends(history: LayerHistory, sizes: np.ndarray) -> list[TrendFinding]:
    """Return the layers with a trend as of the last report. The same one is found again as long as it lasts.

    Args:
        history: the statistics so far.
        sizes: float[L], the number of elements of each layer.
    """
    if history.count < _MIN_REPORTS or history.count % _CHECK_INTERVAL:
        return []
    large = sizes >= _MIN_ELEMENTS
    recent = history.recent
    explosions = _explosions(history, recent, large)
    exploding = {found.layer for found in explosions}
    others = [*_large_updates(history, recent, large), *_drifts(history, large)]
    return [
        TrendFinding(
            found.trend,
            history.layers[found.layer],
            found.first_step,
            float(found.first),
            float(found.last),
            found.others,
        )
        for found in [*explosions, *(other for other in others if other.layer not in exploding)]
    ]


def _explosions(history: LayerHistory, recent: HistoryColumns, large: np.ndarray) -> list[_Found]:
    before, now = recent.values[: len(recent.steps) // 2], recent.values[-_HELD_REPORTS:].min(0)
    first_step = int(recent.steps[len(before) // 2])
    found: list[_Found] = []
    rms = np.median(before[:, _RMS], 0)
    growth = _factor(now[_RMS], rms)
    for layer in np.flatnonzero(large & (growth >= _MIN_WEIGHT_GROWTH)).tolist():
        typical = _median_of_others(now[_RMS], layer)
        # Weights that start at zero grow as much at first, and stay small.
        is_late = history.count >= _EARLY_REPORTS and growth[layer] >= 3 * _MIN_WEIGHT_GROWTH
        if is_late or not now[_RMS][layer] < 3 * typical:
            others = _median_of_others(growth, layer)
            values = rms[layer], now[_RMS][layer]
            found.append(_Found("weights explode", layer, first_step, *values, others))
    exploding = {finding.layer for finding in found}
    norms = np.median(before[:, _GRADIENT], 0)
    growth = _factor(now[_GRADIENT], norms)
    candidates = large & (growth >= _MIN_GRADIENT_GROWTH)
    # Weights that explode are the cause of gradients that do.
    if not candidates.any() or exploding:
        return found
    for layer in np.flatnonzero(candidates).tolist():
        others = _median_of_others(growth, layer)
        usual = np.nanmedian(history.columns.values[:, _GRADIENT, layer])
        if not growth[layer] < 10 * others and now[_GRADIENT][layer] >= 10 * usual:
            values = norms[layer], now[_GRADIENT][layer]
            found.append(_Found("gradient explodes", layer, first_step, *values, others))
    return found


def _large_updates(
    history: LayerHistory, recent: HistoryColumns, large: np.ndarray
) -> list[_Found]:
    # The updates of weights that start at zero are large at first.
    if history.count < _EARLY_REPORTS:
        return []
    last = recent.values[-_UPDATE_REPORTS:, _RATIO]
    lowest = last.min(0)
    found: list[_Found] = []
    for layer in np.flatnonzero(large & (lowest >= _LARGE_RATIO)).tolist():
        others = _median_of_others(np.median(last, 0), layer)
        if lowest[layer] >= 10 * others:
            first_step = int(recent.steps[-_UPDATE_REPORTS])
            values = last[0, layer], last[-1, layer]
            found.append(_Found("updates are too large", layer, first_step, *values, others))
    return found


def _drifts(history: LayerHistory, large: np.ndarray) -> list[_Found]:
    steps, values = history.columns
    if history.count < _EARLY_REPORTS:
        return []
    middle = len(steps) // 2
    rms = values[middle:, _RMS]
    change = _factor(rms[-1], rms[0])
    candidates = large & ((change >= _MIN_DRIFT) | ((change <= 1 / _MIN_DRIFT) & (change > 0)))
    found: list[_Found] = []
    for layer in np.flatnonzero(candidates).tolist():
        factor = change[layer]
        differences = np.diff(rms[:, layer])
        steady = np.mean(differences > 0 if factor > 1 else differences < 0)
        others = _median_of_others(change, layer)
        relative = factor / others if factor > 1 else others / factor
        if steady >= _MIN_STEADY_FRACTION and not relative < _MIN_DRIFT / 2:
            first_step, values = int(steps[middle]), (rms[0, layer], rms[-1, layer])
            found.append(_Found("weights drift", layer, first_step, *values, others))
    return found


def _factor(now: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Return what values were multiplied by; 1 where that is not a finite number."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        factor = now / before
    return np.where(np.isfinite(factor), factor, 1.0)


def _median_of_others(values: np.ndarray, layer: int) -> float:
    """Return the median of the values of all layers but one; NaN if there are none."""
    others = np.delete(values, layer)
    others = others[np.isfinite(others)]
    return float(np.median(others)) if others.size else float("nan")
