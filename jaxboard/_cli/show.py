"""``python -m jaxboard show``: the scalars of runs as a table in the terminal."""

from __future__ import annotations

import json
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
        print(f"show({logdir!r}): there are no scalars.", file=sys.stderr)
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
    is_wide = console.width >= 100
    width = _WIDE if is_wide else _NARROW
    has_runs = len({curve.run for curve in curves}) > 1
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("tag", overflow="fold", min_width=16)
    if has_runs:
        table.add_column("run", overflow="fold", min_width=8)
    table.add_column("curve", min_width=width)
    for name in ("last", "min", "max", "step", "points")[: 5 if is_wide else 4]:
        table.add_column(name, justify="right", overflow="fold")
    previous = None
    for curve in curves:
        if has_runs and previous not in (None, curve.tag):
            table.add_section()
        cells = ["" if curve.tag == previous else printable(curve.tag)]
        if has_runs:
            cells.append(printable(curve.run))
        low, high = _range(curve)
        cells.append(sparkline(curve.steps, curve.values, width))
        cells += [f"{value:.4g}" for value in (curve.values[-1], low, high)]
        cells += [f"{curve.steps[-1]:,}", f"{len(curve.steps):,}"]
        # Text: brackets in a tag are not markup.
        table.add_row(*map(Text, cells[: len(table.columns)]))
        previous = curve.tag
    console.print(table)


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
