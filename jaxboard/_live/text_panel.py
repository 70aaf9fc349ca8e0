"""A panel as one line of text, for a terminal and for front ends without HTML."""

from __future__ import annotations

import unicodedata

from jaxboard._live.charts import Chart
from jaxboard._live.frame import Frame, number
from jaxboard._live.sparkline import sparkline

_BAR = 10
_SPARKLINE = 12


def text_line(frame: Frame, width: int, *, has_blocks: bool = True) -> str:
    """Return a panel as one line: the progress, and as many charts as there is space for.

    Args:
        frame: the contents.
        width: the most columns.
        has_blocks: whether the terminal shows block characters.
    """
    name = frame.name.rpartition("/")[2]
    line = f"{name} {_progress(frame, has_blocks)}, {frame.pace_text()}"
    if frame.nonfinite is not None:
        line = _joined(line, [f"{frame.nonfinite.tag} is not finite"], width)
    for chart in frame.charts:
        line = _joined(line, _texts(chart, has_blocks), width)
    line = "".join(c if c.isprintable() else "?" for c in line)
    while _columns(line) > width:
        line = line[:-1]
    return line


def _joined(line: str, texts: list[str], width: int) -> str:
    """Return the line with the first of these texts that has space in it."""
    longer = (f"{line} | {text}" for text in texts)
    return next((each for each in longer if _columns(each) <= width), line)


def _progress(frame: Frame, has_blocks: bool) -> str:
    pace = frame.pace
    if pace.fraction is None or pace.steps is None:
        return f"step {pace.step:,}"
    full = round(pace.fraction * _BAR)
    bar = f"{'█' * full}{'░' * (_BAR - full)} " if has_blocks else ""
    return f"{bar}{100 * pace.fraction:.0f}% {pace.step:,}/{pace.steps:,}"


def _texts(chart: Chart, has_blocks: bool) -> list[str]:
    """Return the last values of a chart, with the first curve, without it, and that of the first curve alone."""
    values = [f"{name} {number(curve.last, 3)}".strip() for name, curve in chart.curves.items()]
    texts = [f"{chart.name} {', '.join(values)}", f"{chart.name} {values[0]}"]
    if has_blocks:
        points = next(iter(chart.curves.values())).points()
        curve = sparkline(points.steps, points.means, _SPARKLINE).rstrip()
        texts.insert(0, f"{texts[0]} {curve}")
    return texts


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
