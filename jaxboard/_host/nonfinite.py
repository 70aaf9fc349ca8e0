"""What is not finite: told once for each tag, with the last value that was.

It looks at what has reached the host anyway, on the flusher's thread: no step waits for it, and none is
compiled with checks in it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from jaxboard._errors import NonFiniteError, RunError
from jaxboard._frame import Composite
from jaxboard._host import seed_runs
from jaxboard._host.assemble import Assembler
from jaxboard._host.fetch import Fetched
from jaxboard._host.lost import LostReports
from jaxboard._log import describe, logger
from jaxboard._reduce.norms import Norms
from jaxboard.records import Batch, Histogram, Kind, Record, Scalars

TAG = "jaxboard/nonfinite"
"""Of the text entries."""

Policy: TypeAlias = Literal["warn", "raise", "ignore"] | Callable[[str], None]
"""What ``Run(on_nonfinite=...)`` may be."""

_ROWS = 50
"""How many tags one text entry lists; what is in it is enough to begin with."""


def policy(on_nonfinite: Policy, losses: LostReports) -> Callable[[str], None] | None:
    """What ``Run(on_nonfinite=...)`` asks for, as a function of what was found.

    Raises:
        RunError: it is neither one of the three names nor a function.
    """
    match on_nonfinite:
        case "warn":
            return lambda found: logger.warning("jaxboard, run %s: %s", losses.name, found)
        case "raise":
            return lambda found: losses.hold(NonFiniteError(f"run {losses.name}: {found}"))
        case "ignore":
            return None
    if not callable(on_nonfinite):
        raise RunError(
            f"Run(on_nonfinite={on_nonfinite!r}): expected 'warn', 'raise', 'ignore' or a function."
        )

    def call(found: str) -> None:
        try:
            on_nonfinite(found)
        except Exception as fault:
            losses.show(f"on_nonfinite raised {describe(fault)}", "The run goes on.")

    return call


class Finding(NamedTuple):
    """A tag that is not finite for the first time.

    Attributes:
        tag: the tag, of a watched tree with the name of the leaf.
        step: the step at which it is not.
        value: what it is instead.
        good: the last value that was finite, or "".
        good_step: the step of that.
    """

    tag: str
    step: int
    value: str
    good: str = ""
    good_step: int | None = None

    def __str__(self) -> str:
        text = f"{self.tag} is {self.value} at step {self.step}"
        if self.good_step is None:
            return f"{text}, and never was finite"
        return f"{text}; at step {self.good_step} it was {self.good}"


class NonFiniteMonitor:
    """An assembler that looks through what another one makes. Used by one thread, the flusher.

    Args:
        assembler: makes the batches.
        tell: called with one sentence when something is not finite for the first time; None looks at
            nothing.
    """

    def __init__(self, assembler: Assembler, tell: Callable[[str], None] | None):
        self._assembler = assembler
        self._tell = tell
        self._told: set[str] = set()
        # By tag or, of columns, by tags: the last step and what there was.
        self._good: dict[Any, tuple[int, Any]] = {}
        self._norms: dict[str, tuple[int, Norms]] = {}

    def assemble(self, items: list[Fetched], now: float) -> Batch:
        """What is complete with ``items``. See :meth:`Assembler.assemble`."""
        return self._watched(self._assembler.assemble(items, now))

    def so_far(self, untouched_since: float) -> Batch:
        """What grows still. See :meth:`Assembler.so_far`."""
        return self._watched(self._assembler.so_far(untouched_since))

    def finish(self) -> Batch:
        """All that was held back."""
        return self._watched(self._assembler.finish())

    def _watched(self, batch: Batch) -> Batch:
        out: Batch = [
            item.value.scalars(item.tag, item.step, item.wall_time, item.run)
            if isinstance(item, Record) and item.kind in (Composite.NORMS, Composite.STACK)
            else item
            for item in batch
        ]
        if self._tell is not None:
            # Of one step the columns first: a loss explains more than what was watched.
            told = [item for item in batch if item.run not in seed_runs.SUMMARIES]
            items = sorted(told, key=lambda item: isinstance(item, Record))
            found = [finding for item in items for finding in self._look(item)]
            if found:
                found.sort(key=lambda finding: finding.step)
                out.append(Record(Kind.TEXT, TAG, found[0].step, time.time(), _table(found)))
                others = f"; and {len(found) - 1} more" if len(found) > 1 else ""
                self._tell(f"{found[0]}{others}. The text entry {TAG!r} has all.")
        return out

    def _look(self, item: Record | Scalars) -> Iterator[Finding]:
        if item.run:
            item = _named(item)
        if isinstance(item, Scalars):
            yield from self._columns(item)
        elif item.kind is Kind.SCALAR:
            bad = not np.isfinite(item.value)
            yield from self._one(item.tag, item.step, bad, lambda: _number(item.value))
        elif item.kind is Kind.HISTOGRAM:
            value = item.value
            yield from self._one(item.tag, item.step, value.nonfinite > 0, lambda: _elements(value))
        elif item.kind is Composite.NORMS:
            yield from self._leaves(item.tag, item.step, item.value)
        elif item.kind is Composite.STACK:
            yield from self._columns(item.value.scalars(item.tag, item.step, item.wall_time))

    def _one(self, tag: str, step: int, bad: bool, text: Callable[[], str]) -> Iterator[Finding]:
        if not bad:
            self._good[tag] = step, text
        elif tag not in self._told:
            yield self._found(tag, step, text())

    def _found(self, tag: str, step: int, value: str) -> Finding:
        self._told.add(tag)
        known = [self._good[tag]] if tag in self._good else []
        for tags, (good_step, row) in self._good.items():
            if isinstance(tags, tuple) and tag in tags:
                number = row[tags.index(tag)]
                if np.isfinite(number):
                    known.append((good_step, lambda number=number: _number(number)))
        if not known:
            return Finding(tag, step, value)
        good_step, good = max(known, key=lambda each: each[0])
        return Finding(tag, step, value, good(), good_step)

    def _columns(self, block: Scalars) -> Iterator[Finding]:
        finite = np.isfinite(block.values)
        if finite.all():
            # A copy, lest one row keep the block alive.
            self._good[block.tags] = int(block.steps[-1]), block.values[-1].copy()
            return
        for place in np.flatnonzero(~finite.all(axis=0)):
            tag = block.tags[place]
            first = int(np.argmin(finite[:, place]))
            if first:
                number = block.values[first - 1, place]
                self._good[tag] = int(block.steps[first - 1]), lambda n=number: _number(n)
            if tag not in self._told:
                yield self._found(tag, int(block.steps[first]), _number(block.values[first, place]))
        self._good[block.tags] = int(block.steps[-1]), block.values[-1].copy()

    def _leaves(self, tag: str, step: int, norms: Norms) -> Iterator[Finding]:
        with np.errstate(invalid="ignore"):
            numbers = norms.squares + norms.largest
        bad = (norms.nonfinite > 0) | ~np.isfinite(numbers)
        before = self._norms.get(tag)
        for place in np.flatnonzero(bad):
            name = f"{tag}/{norms.names[place]}" if norms.names[place] else tag
            if name in self._told:
                continue
            self._told.add(name)
            count = int(norms.nonfinite[place])
            value = f"not finite in {count} of {norms.sizes[place]} elements"
            value = value if count else "not finite"
            if before is None:
                yield Finding(name, step, value)
            else:
                norm = before[1].norms[place]
                good = f"finite, its norm {_number(norm)}" if norm > 0 else "finite"
                yield Finding(name, step, value, good, before[0])
        if not bad.all():
            self._norms[tag] = step, norms


def _named(item: Record | Scalars) -> Record | Scalars:
    """An item of a run beneath this one, its tags with the name of that."""
    if isinstance(item, Record):
        return dataclasses.replace(item, tag=f"{item.tag} of {item.run}")
    return dataclasses.replace(item, tags=tuple(f"{tag} of {item.run}" for tag in item.tags))


def _number(value: Any) -> str:
    return f"{float(value):.6g}"


def _elements(value: Histogram) -> str:
    """A histogram in words."""
    if value.nonfinite:
        kinds = (("NaN", value.nan), ("+inf", value.posinf), ("-inf", value.neginf))
        named = ", ".join(f"{count} {name}" for name, count in kinds if count)
        return f"not finite in {value.nonfinite} of {value.nonfinite + value.counts.sum()} elements ({named})"
    if len(value.edges):
        return f"between {_number(value.edges[0])} and {_number(value.edges[-1])}"
    return "empty"


def _table(found: list[Finding]) -> str:
    lines = [
        f"**Not finite:** {found[0]}.",
        "",
        "| for the first time | step | is | was | at step |",
        "| --- | ---: | --- | --- | ---: |",
    ]
    for finding in found[:_ROWS]:
        at = "" if finding.good_step is None else finding.good_step
        lines.append(
            f"| `{finding.tag}` | {finding.step} | {finding.value} | {finding.good} | {at} |"
        )
    if len(found) > _ROWS:
        lines.append(f"| and {len(found) - _ROWS} more | | | | |")
    return "\n".join(lines)
