"""A panel as one line of text, for a terminal and for front ends without HTML."""

from __future__ import annotations

import unicodedata

from jaxboard._live.charts import Chart
from jaxboard._live.panel_contents import PanelContents, number
from jaxboard._live.sparkline import sparkline

_BAR_WIDTH = 10
_SPARKLINE_WIDTH = 12


def text_line(contents: PanelContents, width: int, *, has_blocks: bool = True) -> str:
    """Return a panel as one line: the progress, and as many charts as there is space for.

    Args:
        contents: what the panel shows.
        width: the largest number of columns.
        has_blocks: whether the terminal shows block characters.
    """
    name = contents.name.rpartition("/")[2]
    line = f"{name} {_progress(contents, has_blocks)}, {contents.pace_text()}"
    if contents.nonfinite is not None:
        line = _joined(line, [f"{contents.nonfinite.tag} is not finite"], width)
    for chart in contents.charts:
        line = _joined(line, _texts(chart, has_blocks), width)
    line = "".join(c if c.isprintable() else "?" for c in line)
    while _columns(line) > width:
        line = line[:-1]
    return line


def _joined(line: str, texts: list[str], width: int) -> str:
    """Return the line with the first of these texts that fits, or the line alone."""
    joined = (f"{line} | {text}" for text in texts)
    return next((each for each in joined if _columns(each) <= width), line)


def _progress(contents: PanelContents, has_blocks: bool) -> str:
    pace = contents.pace
    if pace.fraction is None or pace.steps is None:
        return f"step {pace.step:,}"
    full = round(pace.fraction * _BAR_WIDTH)
    bar = f"{'█' * full}{'░' * (_BAR_WIDTH - full)} " if has_blocks else ""
    return f"{bar}{100 * pace.fraction:.0f}% {pace.step:,}/{pace.steps:,}"


def _texts(chart: Chart, has_blocks: bool) -> list[str]:
    """Return texts for a chart, the longest first: all last values and a sparkline, all last values, one last value."""
    values = [f"{name} {number(curve.last, 3)}".strip() for name, curve in chart.curves.items()]
    texts = [f"{chart.name} {', '.join(values)}", f"{chart.name} {values[0]}"]
    if has_blocks:
        points = next(iter(chart.curves.values())).points()
        curve = sparkline(points.steps, points.means, _SPARKLINE_WIDTH).rstrip()
        texts.insert(0, f"{texts[0]} {curve}")
    return texts


def _columns(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )
