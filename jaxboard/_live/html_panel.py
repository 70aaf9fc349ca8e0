"""A panel as HTML for a notebook. It has no script, iframe or style sheet, so that every front end shows it."""

from __future__ import annotations

from html import escape

from jaxboard._live.charts import Chart
from jaxboard._live.panel_contents import PanelContents, number
from jaxboard._live.svg import ALARM, COLORS, marker, svg

_ACCENT = COLORS[0]
_MAX_CHARACTERS = 400
"""Most characters of the message about a value that is not finite."""


def html(contents: PanelContents, hint: str = "") -> str:
    """Return a panel as HTML.

    Args:
        contents: what the panel shows.
        hint: a sentence below the charts if the run has more tags; "" for none.
    """
    parts = [
        '<div style="font:13px/1.45 system-ui,sans-serif;max-width:1080px;padding:2px 0">',
        f"<div><b>{escape(contents.name)}</b> · {_steps(contents)}, {contents.pace_text()}</div>",
        _progress_bar(contents),
    ]
    if contents.nonfinite is not None:
        sentence = escape(_shortened(str(contents.nonfinite)))
        parts.append(
            f'<div style="border-left:4px solid {ALARM};padding:1px 8px;margin:4px 0">'
            f"<b>Not finite:</b> {sentence}</div>"
        )
    if contents.charts:
        parts.append('<div style="display:flex;flex-wrap:wrap;gap:8px 20px;margin-top:6px">')
        parts += [_chart(chart) for chart in contents.charts]
        parts.append("</div>")
    if contents.has_more and hint:
        parts.append(f'<div style="opacity:.75;margin-top:4px">{escape(hint)}</div>')
    parts.append("</div>")
    return "".join(parts)


def _steps(contents: PanelContents) -> str:
    pace = contents.pace
    return f"step {pace.step:,}" if pace.steps is None else f"step {pace.step:,} of {pace.steps:,}"


def _progress_bar(contents: PanelContents) -> str:
    fraction = contents.pace.fraction
    if fraction is None:
        return ""
    percent = f"{100 * fraction:.1f}"
    return (
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}" '
        'aria-label="steps" style="height:6px;border-radius:3px;margin:3px 0;max-width:700px;'
        'background:rgba(127,127,127,.3)">'
        f'<div style="width:{percent}%;height:6px;border-radius:3px;background:{_ACCENT}"></div></div>'
    )


def _chart(chart: Chart) -> str:
    values: list[str] = []
    for place, (name, curve) in enumerate(chart.curves.items()):
        values.append(
            f"{marker(place)} {escape(f'{_shortened(name, 40)} {number(curve.last)}'.strip())}"
        )
    legend = " &nbsp; ".join(values)
    name = escape(_shortened(chart.name, 60))
    return (
        '<div style="flex:1 1 300px;max-width:340px;min-width:0">'
        f'<div style="overflow-wrap:anywhere"><b>{name}</b> &nbsp; {legend}</div>{svg(chart)}</div>'
    )


def _shortened(text: str, length: int = _MAX_CHARACTERS) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
