"""A chart as SVG: a line for the mean of each range of steps, and a band from the smallest to the largest value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from html import escape

import numpy as np

from jaxboard._live.charts import Chart
from jaxboard._live.curve import CurvePoints
from jaxboard._live.frame import number

WIDTH, HEIGHT = 320, 130
_TOP, _BOTTOM = 6, 16
_LOG_FACTOR = 100
"""Values that are above 0 and differ by this factor have a logarithmic axis."""

COLOURS = ("#1f77c9", "#d55e00", "#00926a", "#b0619b", "#8a7000", "#7f7f7f", "#c0392b", "#5b6bbf")
"""Each has a contrast of at least 3 to white and to the background of dark themes."""

_DASHES = ("", "6 3", "2 3", "8 3 2 3")
"""Curves also differ in this, so that no reader needs the colours."""


def svg(chart: Chart) -> str:
    """Return a chart as an SVG element. Text and axes have the colour of the text around it."""
    curves = {name: curve.points() for name, curve in chart.curves.items()}
    curves = {name: points for name, points in curves.items() if len(points.steps)}
    first = min(int(points.steps[0]) for points in curves.values())
    last = max(max(curve.last_step for curve in chart.curves.values()), first)
    lows = [float(np.nanmin(p.lows)) for p in curves.values() if np.isfinite(p.lows).any()]
    highs = [float(np.nanmax(p.highs)) for p in curves.values() if np.isfinite(p.highs).any()]
    low, high = min(lows, default=0.0), max(highs, default=0.0)
    is_log = low > 0 and high / low >= _LOG_FACTOR
    height = _scale(low, high, is_log)
    bottom = HEIGHT - _BOTTOM

    def x(steps: np.ndarray) -> np.ndarray:
        return (steps - first) / max(last - first, 1) * WIDTH

    def y(values: np.ndarray) -> np.ndarray:
        return bottom - height(values) * (bottom - _TOP)

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_label(chart))}" '
        'style="width:100%;height:auto;display:block;overflow:visible">',
        f'<path d="M0 {_TOP}V{bottom}H{WIDTH}" fill="none" stroke="currentColor" stroke-opacity=".35"/>',
    ]
    for place, points in enumerate(curves.values()):
        parts += _curve(points, x, y, place)
    text = 'font-size="10" fill="currentColor" fill-opacity=".75"'
    scale = " (log scale)" if is_log else ""
    parts += [
        f'<text x="3" y="{_TOP + 8}" {text}>{number(high)}{scale}</text>',
        f'<text x="3" y="{bottom - 3}" {text}>{number(low)}</text>',
        f'<text x="0" y="{HEIGHT - 4}" {text}>{first:,}</text>',
        f'<text x="{WIDTH}" y="{HEIGHT - 4}" text-anchor="end" {text}>{last:,}</text>',
        "</svg>",
    ]
    return "".join(parts)


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
    colour, dash = COLOURS[place % len(COLOURS)], _DASHES[place % len(_DASHES)]
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
            dashed = f' stroke-dasharray="{dash}"' if dash else ""
            yield (
                f'<polyline points="{" ".join(corners)}" fill="none" stroke="{colour}" stroke-width="1.5"'
                f"{dashed}/>"
            )
    for left in across[points.is_broken]:
        yield (
            f'<text x="{left:.0f}" y="{HEIGHT - _BOTTOM - 2}" text-anchor="middle" font-size="11" '
            'font-weight="bold" fill="#d62728">×</text>'
        )


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
