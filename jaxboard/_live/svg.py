"""A chart as SVG: a line for the mean of each range of steps, and a band from the smallest to the largest value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape

import numpy as np

from jaxboard._live.charts import Chart
from jaxboard._live.curve import CurvePoints
from jaxboard._live.panel_contents import number

# Coordinates are integers, two for each pixel: they take a third of the time and space that fractions take.
_WIDTH, _HEIGHT = 680, 260
_LEFT, _TOP, _BOTTOM = 104, 12, 32
_STYLE = "width:100%;height:auto;display:block;overflow:visible"
_LOG_FACTOR = 30
"""The axis is logarithmic if all values are above 0 and the largest is more than this many times their median. A linear
axis would show most of them as a flat line."""

COLORS = ("#1f77c9", "#d55e00", "#00926a", "#b0619b", "#8a7000", "#7f7f7f", "#c0392b", "#5b6bbf")
"""Each has a contrast ratio of at least 3 to white and to the background of dark themes."""

ALARM = "#d62728"
"""The color of values that are not finite."""

_DASHES = ("", "12 6", "4 6", "16 6 4 6")
"""The dash patterns of the curves, so that they differ not only in color."""


def svg(chart: Chart) -> str:
    """Return a chart as an SVG element. Text and axes have the color of the text around it."""
    curves = [curve.points() for curve in chart.curves.values()]
    first = min(int(points.steps[0]) for points in curves)
    last = max(int(points.steps[-1]) for points in curves)
    last = max(last, *(curve.last_step for curve in chart.curves.values()))
    values = np.concatenate([each for p in curves for each in (p.lows, p.means, p.highs)])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    # The median of ratios to the largest value, as a sum of two large values overflows.
    is_log = low > 0 and _LOG_FACTOR * float(np.median(values / high)) < 1
    height = _scale(low, high, is_log)
    bottom = _HEIGHT - _BOTTOM

    def x(steps: np.ndarray) -> np.ndarray:
        return _LEFT + (steps - first) / max(last - first, 1) * (_WIDTH - _LEFT)

    def y(values: np.ndarray) -> np.ndarray:
        return bottom - height(values) * (bottom - _TOP)

    label = escape(_label(chart))
    axes = f"M{_LEFT} {_TOP}V{bottom}H{_WIDTH}"
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}" style="{_STYLE}">',
        f'<path d="{axes}" fill="none" stroke="currentColor" stroke-opacity=".35" stroke-width="2"/>',
    ]
    for place, points in enumerate(curves):
        parts += _curve(points, x, y, place)
    low_at = bottom if high > low else _HEIGHT // 2
    parts.append(_text(_LEFT - 8, low_at, number(low, 3), "end"))
    if high > low:
        parts.append(_text(_LEFT - 8, _TOP + 16, number(high, 3), "end"))
    if is_log:
        parts.append(_text(_LEFT - 8, _HEIGHT // 2, "log", "end"))
    parts.append(_text(_LEFT, _HEIGHT - 8, f"{first:,}", "start"))
    parts.append(_text(_WIDTH, _HEIGHT - 8, f"{last:,}", "end"))
    return "".join([*parts, "</svg>"])


def marker(place: int) -> str:
    """Return the line of a curve for a legend.

    Args:
        place: which curve of the chart it is.
    """
    return (
        '<svg width="20" height="8" viewBox="0 0 40 16" aria-hidden="true" style="display:inline-block;vertical-align:middle">'
        f'<path d="M0 8H40" {_stroke(place)} stroke-width="5"/></svg>'
    )


def _stroke(place: int) -> str:
    dash = _DASHES[place % len(_DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'fill="none" stroke="{COLORS[place % len(COLORS)]}"{dashed}'


def _text(left: int, top: int, text: str, anchor: str) -> str:
    return (
        f'<text x="{left}" y="{top}" text-anchor="{anchor}" font-size="20" fill="currentColor" '
        f'fill-opacity=".8">{text}</text>'
    )


def _scale(low: float, high: float, is_log: bool) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from values to heights between 0 and 1."""
    if is_log:
        bottom, extent = math.log(low), math.log(high) - math.log(low)
        return lambda values: (np.log(values) - bottom) / extent
    half = high / 2 - low / 2  # A difference may overflow.
    if half == 0:
        return lambda values: np.where(np.isnan(values), np.nan, 0.5)
    return lambda values: (values / 2 - low / 2) / half


def _curve(
    points: CurvePoints,
    x: Callable[[np.ndarray], np.ndarray],
    y: Callable[[np.ndarray], np.ndarray],
    place: int,
) -> Iterable[str]:
    color = COLORS[place % len(COLORS)]
    across = x(points.steps)
    if (points.highs > points.lows).any():
        finite = np.isfinite(points.means)
        around = np.concatenate([across[finite], across[finite][::-1]])
        limits = np.concatenate([points.highs[finite], points.lows[finite][::-1]])
        yield f'<polygon points="{_coordinates(around, y(limits))}" fill="{color}" fill-opacity=".18"/>'
    down = y(points.means)
    for part in _finite_parts(points.means):
        if part.stop - part.start == 1:
            left, top = _coordinates(across[part], down[part]).split()
            yield f'<circle cx="{left}" cy="{top}" r="4" fill="{color}"/>'
        else:
            corners = _coordinates(across[part], down[part])
            yield f'<polyline points="{corners}" {_stroke(place)} stroke-width="3"/>'
    top = _HEIGHT - _BOTTOM - 16
    lefts = np.round(across[points.is_broken]).astype(int).tolist()
    if lefts:
        crosses = "".join(f"M{left - 6} {top}l12 12m0 -12l-12 12" for left in lefts)
        yield f'<path d="{crosses}" stroke="{ALARM}" stroke-width="4"/>'


def _coordinates(across: np.ndarray, down: np.ndarray) -> str:
    corners = np.stack([across, down], axis=1).round().astype(int)
    return " ".join(map(str, corners.ravel().tolist()))


def _finite_parts(means: np.ndarray) -> list[slice]:
    """Return the ranges of points without a gap."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.isfinite(means), [0]])))
    return [slice(start, end) for start, end in edges.reshape(-1, 2).tolist()]


def _label(chart: Chart) -> str:
    values = [
        f"{name or chart.name} is {number(curve.last)} at step {curve.last_step:,}"
        for name, curve in chart.curves.items()
    ]
    return f"{chart.name}: {', '.join(values)}"
