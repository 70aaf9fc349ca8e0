"""Draw the chart of the README from the tables in benchmarks/README.md.

Each bar is the cost of one call with ten scalars, as a multiple of the call without logging, on a logarithmic axis.

    python benchmarks/chart.py
"""

from __future__ import annotations

import math
import pathlib
import re
from typing import NamedTuple
from xml.sax.saxutils import escape

FOLDER = pathlib.Path(__file__).parent
README = FOLDER / "README.md"
CHART = FOLDER.parent / "docs" / "images" / "call_cost.svg"

ROWS = {
    "jaxboard, no run open": ("No run is open", "jaxboard, 10"),
    "returned by hand, never read": ("Computed within the call", "returned by hand, 10"),
    "jaxboard, ten scalars per step": ("Computed within the call", "jaxboard, 10"),
    "jaxboard, every=100": ("Computed within the call", "jaxboard, 10, every=100"),
    "written in a thread (CLU, metrax)": ("Other methods", "in a thread (CLU, metrax), 10"),
    "merged, every 100 steps (CLU, metrax)": ("Other methods", "merged (CLU, metrax), 10"),
    "one io_callback": ("Other methods", "one io_callback, 10"),
    "one step late (MaxText)": ("Other methods", "one step late (MaxText), 10"),
    "float() and tensorboardX": ("Other methods", "float(), tensorboardX, 10"),
}
"""The label of each bar, with the title of its table and the name of its row there."""

WIDTH, ROW, LABELS, TOP, BOTTOM = 720, 22, 270, 34, 26
AXIS = WIDTH - LABELS - 60

STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #737b85 }
  .title { font-weight: 600 }
  .axis { font-size: 11px }
  .grid { stroke: #8886; stroke-width: 1 }
  .bar { fill: #8b949e }
  .own { fill: #2f81f7 }
"""
"""Colors that can be read on white and on black."""

TITLE = "The cost of a call that logs ten scalars, relative to the call without logging"


class Bar(NamedTuple):
    label: str
    ratio: float


def read_tables(text: str) -> dict[str, dict[str, float]]:
    """Return the ratios to the bare call in the section of ``call_cost``, by the title of the table and by row."""
    found = re.search(r"<!-- measured: call_cost -->\n(.*?)<!-- end -->", text, re.DOTALL)
    if found is None:
        raise SystemExit(f"{README} has no output of call_cost.")
    tables: dict[str, dict[str, float]] = {}
    title = ""
    for line in found[1].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            title = line or title
        elif re.fullmatch(r"[\d.]+", cells[2]):
            tables.setdefault(title, {})[cells[0]] = float(cells[2])
    return tables


def bars(tables: dict[str, dict[str, float]]) -> list[Bar]:
    """Return the bars of the chart, the shortest first."""
    chosen = [
        Bar(label, rows[row])
        for label, (start, row) in ROWS.items()
        for title, rows in tables.items()
        if title.startswith(start) and row in rows
    ]
    if len(chosen) != len(ROWS):
        missing = ", ".join(sorted(set(ROWS) - {bar.label for bar in chosen}))
        raise SystemExit(f"{README} has no number for: {missing}.")
    return sorted(chosen, key=lambda bar: bar.ratio)


def draw(shown: list[Bar]) -> str:
    """Return the chart as SVG."""
    end = TOP + ROW * len(shown)
    decades = max(1, math.ceil(math.log10(max(bar.ratio for bar in shown))))

    def x(ratio: float) -> float:
        return LABELS + AXIS * math.log10(ratio) / decades

    parts = [f'<text class="title" x="0" y="16">{escape(TITLE)}</text>']
    for power in range(decades + 1):
        place, label = x(10**power), "the call itself" if power == 0 else f"{10**power}x"
        parts += [
            f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP - 6}" y2="{end}"/>',
            f'<text class="axis" x="{place:.1f}" y="{end + 16}" text-anchor="middle">{label}</text>',
        ]
    for number, bar in enumerate(shown):
        y, kind = TOP + ROW * number, "own" if bar.label.startswith("jaxboard") else "bar"
        ratio = f"{bar.ratio:.2f}" if bar.ratio < 10 else f"{bar.ratio:.0f}"
        width = max(x(bar.ratio) - LABELS, 1.0)
        parts += [
            f'<text x="{LABELS - 10}" y="{y + 13}" text-anchor="end">{escape(bar.label)}</text>',
            f'<rect class="{kind}" x="{LABELS}" y="{y + 2}" width="{width:.1f}" height="{ROW - 7}"/>',
            f'<text x="{LABELS + width + 6:.1f}" y="{y + 13}">{ratio}x</text>',
        ]
    height = end + BOTTOM
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}">\n<style>{STYLE}</style>\n{body}\n</svg>\n'
    )


def main() -> None:
    CHART.write_text(draw(bars(read_tables(README.read_text()))))
    print(f"Drew {CHART}.")


if __name__ == "__main__":
    main()
