"""The text entry of a spike: what spiked, the steps around it, what was kept, and what moved first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from jaxboard._alerts.columns import Columns
from jaxboard._alerts.detector import CUTOFF, WINDOW, Spike
from jaxboard._alerts.kept_arrays import KeptArray
from jaxboard._alerts.robust_score import robust_scores
from jaxboard._markdown import table
from jaxboard._safe_repr import printable

LOOK_BACK = 10
"""The number of points before a spike that may have moved first."""

_FEWEST_BEFORE = 30
"""A tag with fewer points before these is not compared."""

_MAX_TAGS = 6
"""Most tags in a row of the steps around a spike, and most spikes in the first table."""

_MAX_MOVED = 12
"""Most tags that are listed as those that moved first."""

_MAX_STEPS = 16
"""Most steps around a spike."""

_MAX_ELEMENTS = 1024
"""Most elements of a kept array in the entry."""


class Movement(NamedTuple):
    """The first value of a tag that was far from the values before it.

    Attributes:
        tag: the tag.
        step: the step of the value.
        value: the value.
        median: the median before.
        score: its robust z-score.
    """

    tag: str
    step: int
    value: float
    median: float
    score: float


def movements(columns: Iterable[Columns], start: int, peak: int) -> list[Movement]:
    """Return the tags that moved up to the peak of a spike, in the order in which they did.

    Args:
        columns: the rows of each set of tags before and during the spike.
        start: the step of its first value.
        peak: the step of its peak.
    """
    found: list[Movement] = []
    for block in columns:
        at = int(np.searchsorted(block.steps, start))
        last = int(np.searchsorted(block.steps, peak, side="right"))
        first = max(at - LOOK_BACK, 0)
        before, rows = block.values[max(first - WINDOW, 0) : first], block.values[first:last]
        if len(before) < _FEWEST_BEFORE or not len(rows):
            continue
        finite = np.isfinite(before).all(axis=0)
        scores = robust_scores(np.where(finite, before, 0), rows)
        moved = np.abs(scores) > CUTOFF
        for k in np.flatnonzero(moved.any(axis=0)).tolist():
            n = int(np.argmax(moved[:, k]))
            median = float(np.median(before[:, k]))
            step, value = int(block.steps[first + n]), float(rows[n, k])
            found.append(Movement(block.tags[k], step, value, median, float(scores[n, k])))
    found.sort(key=lambda movement: (movement.step, -abs(movement.score)))
    return found


def sentence(spikes: Sequence[Spike]) -> str:
    """Return one sentence about spikes at the same time, of which the first is the most important."""
    spike = spikes[0]
    verb = "rose" if spike.value > spike.median else "fell"
    others = f"; {len(spikes) - 1} more tags spiked with it" if len(spikes) > 2 else ""
    if len(spikes) == 2:
        others = f"; {printable(spikes[1].tag)} spiked with it"
    return (
        f"{printable(spike.tag)} {verb} to {_number(spike.value)} at step {spike.peak}, from {_number(spike.median)} (the median of "
        f"{WINDOW} points), and was back at step {spike.end}{others}."
    )


def entry(
    spikes: Sequence[Spike],
    columns: Sequence[Columns],
    kept: Sequence[KeptArray],
) -> str:
    """Return the text entry, in Markdown.

    Args:
        spikes: the spikes that overlap, the first one first.
        columns: the rows of each set of tags of the run, before and during the spikes.
        kept: the arrays that were kept around the spikes.
    """
    parts = [f"**Spike:** {sentence(spikes)}"]
    rows = [
        [
            _code(spike.tag),
            spike.start,
            spike.peak,
            _number(spike.value),
            _number(spike.median),
            f"{spike.score:.1f}",
            spike.end,
        ]
        for spike in spikes[:_MAX_TAGS]
    ]
    names = ["tag", "from step", "peak at", "peak", "median before", "robust z-score", "back at"]
    parts.append(table([names, *rows]))
    if kept:
        rows = [[_code(array.name), array.step, f"`{_listed(array.value)}`"] for array in kept]
        parts += ["**Kept by `jaxboard.keep`:**", table([["name", "step", "value"], *rows])]
    start, peak = min(spike.start for spike in spikes), max(spike.peak for spike in spikes)
    moved = movements(columns, start, peak)
    if moved:
        rows = [
            [
                _code(movement.tag),
                movement.step,
                _number(movement.value),
                _number(movement.median),
                f"{movement.score:.1f}",
            ]
            for movement in moved[:_MAX_MOVED]
        ]
        parts += [
            "**Moved first:**",
            table([["tag", "at step", "value", "median before", "robust z-score"], *rows]),
        ]
    around = list(_rows_around(spikes, columns))
    if around:
        tags = [_code(spike.tag) for spike in spikes[:_MAX_TAGS]]
        parts += ["**Steps around it:**", table([["step", *tags], *around])]
    return "\n\n".join(parts)


def _rows_around(spikes: Sequence[Spike], columns: Sequence[Columns]) -> Iterator[list[object]]:
    """Yield the values of the tags that spiked, from five steps before on."""
    values: dict[str, dict[int, float]] = {}
    for spike in spikes[:_MAX_TAGS]:
        for block in columns:
            if spike.tag in block.tags:
                column = block.values[:, block.tags.index(spike.tag)].tolist()
                values.setdefault(spike.tag, {}).update(
                    zip(block.steps.tolist(), column, strict=True)
                )
    start, end = min(spike.start for spike in spikes), max(spike.end for spike in spikes)
    steps = sorted({step for column in values.values() for step in column})
    before = [step for step in steps if step < start][-5:]
    during = [step for step in steps if start <= step <= end]
    for step in [*before, *during][:_MAX_STEPS]:
        row = [values.get(spike.tag, {}).get(step) for spike in spikes[:_MAX_TAGS]]
        yield [step, *("" if value is None else _number(value) for value in row)]


def _listed(value: np.ndarray) -> str:
    """Return all elements of an array as a list, or the first ones."""
    if value.size <= _MAX_ELEMENTS:
        return str(value.tolist())
    first = ", ".join(map(str, value.reshape(-1)[:_MAX_ELEMENTS].tolist()))
    return f"{first}, … ({value.size} elements of shape {list(value.shape)})"


def _code(name: str) -> str:
    """Return a name as code in a cell of a table, which is one line and has no backquotes."""
    line = "".join(c if c.isprintable() else " " for c in name)
    return f"`{line.replace('`', ' ')}`".replace("|", "\\|")


def _number(value: float) -> str:
    return f"{value:.6g}"
