"""Everything that jaxboard wrote about a run itself, read back from its event files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, cast

from jaxboard._own_tags import RUN_PREFIX, is_own
from jaxboard._read.curves import Curve
from jaxboard._read.event_columns import Points
from jaxboard._read.read import read_run
from jaxboard._read.run_files import EventFile, find_runs
from jaxboard._read.summary_values import UnreadableValue, decode
from jaxboard._read.visible_points import visible


class Entry(NamedTuple):
    """A text entry.

    Attributes:
        tag: its tag, without the prefix.
        step: its step.
        wall_time: when it was written, in seconds since the epoch.
        text: Markdown.
    """

    tag: str
    step: int
    wall_time: float
    text: str


class Evidence(NamedTuple):
    """The text entries and the scalars of one run under ``jaxboard/`` and ``profile/``. Points that a restart hides are left out.

    Attributes:
        run: the directory below the log directory; ``"."`` is the log directory itself.
        entries: the text entries by tag, each list in the order of steps. Tags are without ``jaxboard/``: ``"nonfinite"``, ``"profile/verdict"``.
        curves: the scalars by tag, likewise; their tags, too, are without ``jaxboard/``. No curve is empty.
    """

    run: str
    entries: dict[str, list[Entry]]
    curves: dict[str, Curve]

    def entries_below(self, tag: str) -> list[Entry]:
        """Return the entries of a tag and of the tags below it (``recompiles/train_step``), in the order of steps."""
        found = [
            entry
            for name, entries in self.entries.items()
            if name == tag or name.startswith(f"{tag}/")
            for entry in entries
        ]
        return sorted(found, key=lambda entry: (entry.step, entry.wall_time))

    def curves_below(self, tag: str) -> dict[str, Curve]:
        """Return the curves of the tags below a tag, by the rest of their tags."""
        start = f"{tag}/"
        return {
            name.removeprefix(start): curve
            for name, curve in self.curves.items()
            if name.startswith(start)
        }


def read_evidence(logdir: str | os.PathLike[str]) -> list[Evidence]:
    """Return what jaxboard wrote about each run in a directory.

    Raises:
        UsageError: there is no such directory.
        RunError: a URL cannot be read.
    """
    return [evidence_of(run, files) for run, files in find_runs(logdir, "why").items()]


def evidence_of(run: str, files: Sequence[EventFile]) -> Evidence:
    """Return what jaxboard wrote about a run with these files."""
    entries: dict[str, list[Entry]] = {}
    for name, points in _by_tag(files, "text"):
        for step, wall_time, value in zip(*points[2:], strict=True):
            text = _text(value)
            if text is not None:
                entries.setdefault(name, []).append(Entry(name, int(step), float(wall_time), text))
    curves = {
        name: Curve(run, name, points.steps, points.values, points.wall_times)
        for name, points in _by_tag(files, "scalar")
    }
    return Evidence(run, entries, curves)


def _by_tag(files: Sequence[EventFile], kind: str) -> list[tuple[str, Points]]:
    """Return the visible points of each tag that jaxboard writes, by its name without ``jaxboard/``."""
    contents = read_run(files, kind, is_own)
    points = visible(contents)
    found: list[tuple[str, Points]] = []
    for number, tag in enumerate(contents.tags):
        chosen = points.tags == number
        if chosen.any():
            found.append(
                (tag.removeprefix(RUN_PREFIX), Points(*(column[chosen] for column in points)))
            )
    return found


def _text(message: object) -> str | None:
    """Return the text of a message; None if it is damaged or a table of another writer."""
    try:
        value = decode("text", message)
    except UnreadableValue:
        return None
    return cast("str", value) if isinstance(value, str) else None
