"""``python -m jaxboard diff``: how two runs differ, and where their curves diverge."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxboard import _paths
from jaxboard._cli.console import open_console
from jaxboard._cli.counts import counted
from jaxboard._cli.requirements import is_installed
from jaxboard._errors import JaxboardError, UsageError
from jaxboard._own_tags import is_own
from jaxboard._read.curves import Curve, read_curves
from jaxboard._read.read import name_pattern
from jaxboard._read.recorded_settings import read_settings
from jaxboard._safe_repr import first_names, printable

_NOT_COMPARED = 2
_ABSENT = "not there"

_MAX_PREFIXES, _MAX_NAMES = 12, 4
"""Most prefixes of the curves that only one run has, and most names of each, that are printed."""


class Divergence(NamedTuple):
    """The first step at which two curves differ.

    Attributes:
        run: the run.
        tag: the tag.
        step: the first step with two values, or with a value in one of the two only.
        first: the value in the first directory, None if it has no point there.
        second: the value in the second directory, None if it has no point there.
        largest: the largest relative difference at a step of both: 0 if all values are equal.
    """

    run: str
    tag: str
    step: int
    first: float | None
    second: float | None
    largest: float


class Differences(NamedTuple):
    """The differences between the runs of two directories.

    Attributes:
        settings: the hyperparameters, versions and flags that differ: run, name, the value in the first directory, and
            in the second one. None is a name that one of them lacks.
        divergences: where the curves of both diverge, in the order of steps.
        only_first: the curves that only the first directory has, as run and tag.
        only_second: those that only the second one has.
        equal: the number of curves that are equal.
    """

    settings: list[tuple[str, str, object, object]]
    divergences: list[Divergence]
    only_first: list[tuple[str, str]]
    only_second: list[tuple[str, str]]
    equal: int

    @property
    def is_equal(self) -> bool:
        """True if nothing differs."""
        return not (self.settings or self.divergences or self.only_first or self.only_second)


def main(
    first: str, second: str, *, tags: Sequence[str] | None, tolerance: float, as_json: bool
) -> int:
    """Compare two directories and print how they differ.

    Args:
        first: a directory with one run, or with several.
        second: another one. Runs of the same name below the directories are compared.
        tags: patterns of the tags to compare; None compares all but those that jaxboard reports itself.
        tolerance: the relative difference up to which two values are equal.
        as_json: print one JSON object; docs/command_line.md documents it.

    Returns:
        The exit status, as that of ``diff``: 0 if nothing differs, 1 if something does, 2 if they were not compared.
    """
    if not as_json and not is_installed("rich", "diff"):
        return _NOT_COMPARED
    try:
        differences = compare(first, second, tags=tags, tolerance=tolerance)
    except JaxboardError as error:
        print(error, file=sys.stderr)
        return _NOT_COMPARED
    if as_json:
        print(json.dumps(_as_json(first, second, differences), indent=2))
    else:
        _print(first, second, differences)
    return 0 if differences.is_equal else 1


def compare(
    first: str, second: str, *, tags: Sequence[str] | None = None, tolerance: float = 0.0
) -> Differences:
    """Return how the runs of two directories differ; see :func:`main`.

    Raises:
        UsageError: there is no such directory, it has no event files, no run has the same name in both, or no curve
            matches ``tags``.
        RunError: a URL cannot be read here.
    """
    wants = name_pattern("tags", tags)

    def wants_tag(tag: str) -> bool:
        return wants(tag) if tags else not is_own(tag)

    settings: list[tuple[str, str, object, object]] = []
    a, b = (read_settings(logdir, "diff") for logdir in (first, second))
    for logdir, found in ((first, a), (second, b)):
        if not found:
            raise UsageError(f"diff({logdir!r}): there are no event files.")
    if not a.keys() & b.keys():
        names = "; the second has ".join(first_names(sorted(found), _MAX_NAMES) for found in (a, b))
        raise UsageError(
            f"diff({first!r}, {second!r}): no run of one has the name of a run of the other. The first has {names}. Pass "
            "the directories of two single runs."
        )
    for run in sorted(a.keys() & b.keys()):
        rows = _differing(a[run].hyperparameters, b[run].hyperparameters)
        if a[run].program and b[run].program:
            rows += _differing(a[run].program, b[run].program)
        settings += [(run, *row) for row in rows]
    ours, theirs = (
        {(c.run, c.tag): c for c in read_curves(logdir, "diff", wants_tag=wants_tag)}
        for logdir in (first, second)
    )
    if tags and not ours and not theirs:
        raise UsageError(
            f"diff({first!r}, {second!r}): no curve matches --tags {shlex.join(tags)}."
        )
    found = [
        find_divergence(ours[name], theirs[name], tolerance) for name in ours if name in theirs
    ]
    divergences = [each for each in found if each is not None]
    return Differences(
        settings,
        sorted(
            divergences, key=lambda divergence: (divergence.step, divergence.tag, divergence.run)
        ),
        [name for name in ours if name not in theirs],
        [name for name in theirs if name not in ours],
        len(found) - len(divergences),
    )


def find_divergence(first: Curve, second: Curve, tolerance: float) -> Divergence | None:
    """Return where two curves diverge; None if they do not.

    Values are equal if ``|a - b| <= tolerance * max(|a|, |b|)``; NaN equals NaN.
    """
    steps = np.union1d(first.steps, second.steps)
    values = np.full((2, len(steps)), np.nan)
    is_there = np.zeros((2, len(steps)), np.bool_)
    for row, curve in enumerate((first, second)):
        places = np.searchsorted(steps, curve.steps)
        values[row, places] = curve.values
        is_there[row, places] = True
    a, b = values
    with np.errstate(invalid="ignore", over="ignore"):
        scale = np.maximum(np.abs(a), np.abs(b))
        distance = np.where(a == b, 0.0, np.abs(a - b) / np.where(scale > 0, scale, 1))
    distance = np.where(
        np.isnan(a) & np.isnan(b), 0.0, np.where(np.isnan(distance), np.inf, distance)
    )
    in_both = is_there.all(0)
    differs = ~in_both | (distance > tolerance)
    if not differs.any():
        return None
    place = int(differs.argmax())
    at = [
        float(row[place]) if there[place] else None
        for row, there in zip(values, is_there, strict=True)
    ]
    largest = float(distance[in_both].max()) if in_both.any() else 0.0
    return Divergence(first.run, first.tag, int(steps[place]), at[0], at[1], largest)


def _differing(
    first: Mapping[str, object], second: Mapping[str, object]
) -> list[tuple[str, object, object]]:
    names = sorted(first.keys() | second.keys())
    rows = [(name, first.get(name), second.get(name)) for name in names]
    return [row for row in rows if row[1] != row[2]]


def _print(first: str, second: str, differences: Differences) -> None:
    print(f"A: {_paths.shorten(first)}\nB: {_paths.shorten(second)}")
    if differences.is_equal:
        print(f"A and B are equal: {counted(differences.equal, 'curve')}.")
        return
    only = (differences.only_first, differences.only_second)
    named = (*differences.settings, *differences.divergences, *only[0], *only[1])
    has_runs = any(run != "." for run, *_ in named)
    if differences.settings:
        _print_table(
            ["run", "setting", "A", "B"],
            [(run, name, _value(a), _value(b)) for run, name, a, b in differences.settings],
            has_runs,
        )
    if differences.divergences:
        _print_table(
            ["run", "curve", "diverges at step", "A", "B", "largest difference"],
            [
                (
                    each.run,
                    each.tag,
                    f"{each.step:,}",
                    _value(each.first),
                    _value(each.second),
                    f"{each.largest:.2g}",
                )
                for each in differences.divergences
            ],
            has_runs,
        )
    for label, names in zip("AB", only, strict=True):
        if 0 < len(names) <= _MAX_NAMES:
            shown = ", ".join(tag if run == "." else f"{run}: {tag}" for run, tag in names)
            print(f"Only in {label}: {printable(shown)}.")
        elif names:
            print(f"Only in {label}: {counted(len(names), 'curve')}. --json lists all.")
            _print_table(["run", "prefix", "curves", "names"], _by_prefix(names), has_runs)
    if differences.equal:
        others = counted(differences.equal, "other curve")
        print(f"{others} {'is' if differences.equal == 1 else 'are'} equal.")
    else:
        print("No curve is equal in A and B.")


def _print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], has_runs: bool) -> None:
    """Print a table whose first column, the run, is left out if there is one run only."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    first = 0 if has_runs else 1
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings[first:]:
        table.add_column(Text(heading), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row[first:]))
    open_console().print(table)


def _by_prefix(names: Sequence[tuple[str, str]]) -> list[tuple[str, str, str, str]]:
    """Return a row for each first part of the tags of a run: run, part, number of curves, and the first names.

    Example:
        >>> _by_prefix([(".", "lr"), (".", "train/loss"), (".", "train/accuracy")])
        [('.', '', '1', 'lr'), ('.', 'train', '2', 'loss, accuracy')]
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for run, tag in names:
        prefix, name = tag.split("/", 1) if "/" in tag else ("", tag)
        groups.setdefault((run, prefix), []).append(name)
    rows = [
        (run, prefix, f"{len(found):,}", first_names(found, _MAX_NAMES))
        for (run, prefix), found in groups.items()
    ]
    others = sum(map(len, [*groups.values()][_MAX_PREFIXES:]))
    if others:
        rows[_MAX_PREFIXES:] = [("", "others", f"{others:,}", "")]
    return rows


def _value(value: object) -> str:
    if value is None:
        return _ABSENT
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _as_json(first: str, second: str, differences: Differences) -> dict[str, Any]:
    def plain(value: object) -> object:
        is_number = isinstance(value, float) and not np.isfinite(value)
        return str(value) if is_number else value

    return {
        "first": first,
        "second": second,
        "equal": differences.is_equal,
        "settings": [
            {"run": run, "name": name, "first": plain(a), "second": plain(b)}
            for run, name, a, b in differences.settings
        ],
        "curves": [
            {name: plain(value) for name, value in each._asdict().items()}
            for each in differences.divergences
        ],
        "only_first": [{"run": run, "tag": tag} for run, tag in differences.only_first],
        "only_second": [{"run": run, "tag": tag} for run, tag in differences.only_second],
        "equal_curves": differences.equal,
    }
