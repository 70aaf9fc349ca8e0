"""``python -m jaxboard show``: the scalars of runs as a table in the terminal."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxboard._cli.console import open_console
from jaxboard._cli.counts import counted
from jaxboard._cli.requirements import is_installed
from jaxboard._errors import JaxboardError
from jaxboard._live.sparkline import sparkline
from jaxboard._own_tags import is_own
from jaxboard._read.curves import Curve, read_curves
from jaxboard._read.read import name_pattern
from jaxboard._safe_repr import printable

_WIDE, _NARROW = 24, 12
"""The characters of a curve, in a terminal of 100 columns or more and in a narrower one."""

_GAP = 2
"""The characters between two columns, and those at both ends of a row."""

_LEAST_TAG = 12
"""The least width of the column of tags. Narrow terminals have fewer columns, so that it fits."""


def main(
    logdir: str,
    *,
    tags: Sequence[str] | None,
    runs: Sequence[str] | None,
    show_all: bool,
    as_json: bool,
) -> int:
    """Print the scalars of all runs in a directory.

    Args:
        logdir: the directory.
        tags: patterns of the tags to show; None shows all.
        runs: patterns of the runs to show; None shows all.
        show_all: show the curves that jaxboard reports itself, too: ``jaxboard/…`` and ``profile/…``.
        as_json: print one JSON object; docs/command_line.md documents it.

    Returns:
        The exit status: 0, or 1 if there is nothing to show.
    """
    if not as_json and not is_installed("rich", "show"):
        return 1
    try:
        curves = read_curves(
            logdir,
            "show",
            wants_tag=name_pattern("tags", tags),
            wants_run=name_pattern("runs", runs),
        )
    except JaxboardError as error:
        print(error, file=sys.stderr)
        return 1
    shown = [curve for curve in curves if show_all or tags or not is_own(curve.tag)]
    if not curves:
        patterns = [*(tags or []), *(runs or [])]
        found = f"no scalar matches {shlex.join(patterns)}" if patterns else "there are no scalars"
        print(f"show({logdir!r}): {found}.", file=sys.stderr)
        return 1
    if as_json:
        print(
            json.dumps({"logdir": logdir, "curves": [_as_json(curve) for curve in shown]}, indent=2)
        )
        return 0
    if shown:
        _print_table(shown)
    if len(shown) < len(curves):
        hidden = len(curves) - len(shown)
        verb, them = ("is", "it") if hidden == 1 else ("are", "them")
        print(
            f"{counted(hidden, 'curve')} about the program itself {verb} left out; --all shows {them}."
        )
    return 0


def _print_table(curves: Sequence[Curve]) -> None:
    """Print a row for each curve; the runs of a tag are in adjacent rows."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = open_console()
    rows = [_cells(curve, _WIDE if console.width >= 100 else _NARROW) for curve in curves]
    has_runs = len({curve.run for curve in curves}) > 1
    names = [name for name in rows[0] if has_runs or name != "run"]
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    if has_runs:
        widths["run"] = min(widths["run"], console.width // 5)

    def room() -> int:
        """Return the width that the other columns leave for the tags."""
        return console.width - sum(widths[name] + _GAP for name in names if name != "tag") - _GAP

    for name in ("points", "min", "max"):
        if room() < _LEAST_TAG:
            names.remove(name)
    widths["tag"] = max(room(), _LEAST_TAG)

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for name in names:
        is_number = name not in ("tag", "run", "curve")
        table.add_column(name, justify="right" if is_number else "left", no_wrap=True)
    previous = None
    for row in rows:
        if has_runs and previous not in (None, row["tag"]):
            table.add_section()
        shown = row if row["tag"] != previous else {**row, "tag": ""}
        # Text: brackets in a tag are not markup.
        table.add_row(*(Text(_divided(shown[name], widths[name])) for name in names))
        previous = row["tag"]
    console.print(table)


def _cells(curve: Curve, width: int) -> dict[str, str]:
    """Return the texts in the row of a curve, whose picture has at most ``width`` characters."""
    low, high = _range(curve)
    numbers = {"last": curve.last, "min": low, "max": high}
    return {
        "tag": printable(curve.tag),
        "run": printable(curve.run),
        "curve": sparkline(curve.steps, curve.values, width),
        **{name: f"{value:.4g}" for name, value in numbers.items()},
        "step": f"{curve.steps[-1]:,}",
        "points": f"{len(curve.steps):,}",
    }


def _divided(text: str, width: int) -> str:
    """Return a text in lines of at most ``width`` characters, divided after ``/`` if possible.

    Example:
        >>> _divided("gradients/layer1/kernel", 12).splitlines()
        ['gradients/', 'layer1/', 'kernel']
    """
    lines = rf".{{1,{width}}}$|.{{0,{width - 1}}}/|.{{1,{width}}}"
    return "\n".join(re.findall(lines, text))


def _as_json(curve: Curve) -> dict[str, Any]:
    low, high = _range(curve)
    return {
        "run": curve.run,
        "tag": curve.tag,
        "points": len(curve.steps),
        "first_step": int(curve.steps[0]),
        "last_step": int(curve.steps[-1]),
        "last": _finite(curve.values[-1]),
        "min": _finite(low),
        "max": _finite(high),
        "nonfinite": int((~np.isfinite(curve.values)).sum()),
        "last_wall_time": _finite(curve.wall_times[-1]),
    }


def _range(curve: Curve) -> tuple[float, float]:
    """Return the smallest and the largest value that is not NaN; NaN if there is none."""
    numbers = curve.values[~np.isnan(curve.values)]
    return (float(numbers.min()), float(numbers.max())) if len(numbers) else (np.nan, np.nan)


def _finite(number: float) -> float | str:
    """Return a number that JSON has, and the name of one that it has not: ``"nan"``, ``"inf"``, ``"-inf"``."""
    return float(number) if np.isfinite(number) else str(float(number))
