"""A chart as SVG: a line for the mean of each range of steps, and a band from the smallest to the largest value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape

import numpy as np

from jaxboard._live.charts import Chart
from jaxboard._live.curve import CurvePoints
from jaxboard._live.frame import number

_WIDTH, _HEIGHT = 340, 130
_LEFT, _TOP, _BOTTOM = 52, 6, 16
_STYLE = "width:100%;height:auto;display:block;overflow:visible"
_LOG_FACTOR = 30
"""Values above 0 whose largest is so many times their median have a logarithmic axis: a linear one would show most of
them as a flat line."""

COLOURS = ("#1f77c9", "#d55e00", "#00926a", "#b0619b", "#8a7000", "#7f7f7f", "#c0392b", "#5b6bbf")
"""Each has a contrast of at least 3 to white and to the background of dark themes."""

ALARM = "#d62728"
"""The colour of values that are not finite."""

_DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""Curves also differ in this, so that no reader needs the colours."""


def svg(chart: Chart) -> str:
    """Return a chart as an SVG element. Text and axes have the colour of the text around it."""
    curves = [curve.points() for curve in chart.curves.values()]
    first = min(int(points.steps[0]) for points in curves)
    last = max(int(points.steps[-1]) for points in curves)
    last = max(last, *(curve.last_step for curve in chart.curves.values()))
    values = np.concatenate([[*points.lows, *points.means, *points.highs] for points in curves])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    is_log = low > 0 and high > _LOG_FACTOR * float(np.median(values))
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
        f'<path d="{axes}" fill="none" stroke="currentColor" stroke-opacity=".35"/>',
    ]
    for place, points in enumerate(curves):
        parts += _curve(points, x, y, place)
    low_at = bottom if high > low else _HEIGHT // 2
    parts.append(_text(_LEFT - 4, low_at, number(low, 3), "end"))
    if high > low:
        parts.append(_text(_LEFT - 4, _TOP + 8, number(high, 3), "end"))
    if is_log:
        parts.append(_text(_LEFT - 4, _HEIGHT // 2, "log", "end"))
    parts.append(_text(_LEFT, _HEIGHT - 4, f"{first:,}", "start"))
    parts.append(_text(_WIDTH, _HEIGHT - 4, f"{last:,}", "end"))
    return "".join([*parts, "</svg>"])


def marker(place: int) -> str:
    """Return the line of a curve for a legend.

    Args:
        place: which curve of the chart it is.
    """
    return (
        '<svg width="20" height="8" aria-hidden="true" style="display:inline-block;vertical-align:middle">'
        f'<path d="M0 4H20" {_stroke(place)} stroke-width="2.5"/></svg>'
    )


def _stroke(place: int) -> str:
    dash = _DASHES[place % len(_DASHES)]
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'fill="none" stroke="{COLOURS[place % len(COLOURS)]}"{dashed}'


def _text(left: int, top: int, text: str, anchor: str) -> str:
    return (
        f'<text x="{left}" y="{top}" text-anchor="{anchor}" font-size="10" fill="currentColor" '
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
    colour = COLOURS[place % len(COLOURS)]
    across = x(points.steps)
    if (points.highs > points.lows).any():
        finite = np.isfinite(points.means)
        upper = _coordinates(across[finite], y(points.highs[finite]))
        lower = _coordinates(across[finite], y(points.lows[finite]))[::-1]
        corners = " ".join([*upper, *lower])
        yield f'<polygon points="{corners}" fill="{colour}" fill-opacity=".18"/>'
    for part in _finite_parts(points.means):
        corners = _coordinates(across[part], y(points.means[part]))
        if len(corners) == 1:
            left, _, top = corners[0].partition(",")
            yield f'<circle cx="{left}" cy="{top}" r="2" fill="{colour}"/>'
        else:
            yield f'<polyline points="{" ".join(corners)}" {_stroke(place)} stroke-width="1.5"/>'
    top = _HEIGHT - _BOTTOM - 8
    crosses = "".join(f"M{left - 3:.0f} {top}l6 6m0 -6l-6 6" for left in across[points.is_broken])
    if crosses:
        yield f'<path d="{crosses}" stroke="{ALARM}" stroke-width="2"/>'


def _coordinates(across: np.ndarray, down: np.ndarray) -> list[str]:
    return [f"{a:.0f},{d:.1f}" for a, d in zip(across.tolist(), down.tolist(), strict=True)]


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
