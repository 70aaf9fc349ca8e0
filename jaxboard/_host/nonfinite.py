"""The monitor that reports the first value of each tag that is NaN or infinite.

It looks at values that have reached the host anyway, on the flusher's thread. No step waits for it, and no
program is compiled with checks in it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, SupportsFloat, TypeAlias

import numpy as np

from jaxboard._check import is_one_of
from jaxboard._errors import NonFiniteError, UsageError
from jaxboard._host import seed_runs
from jaxboard._host.complete_points import Assembled, NormsPoint
from jaxboard._host.lost import LostReports
from jaxboard._log import describe, logger
from jaxboard._markdown import table
from jaxboard._safe_repr import printable, safe_repr
from jaxboard.records import Histogram, Kind, Record, Scalars

TAG = "jaxboard/nonfinite"
"""The tag of the text entries."""

Policy: TypeAlias = Literal["warn", "raise", "autopsy", "ignore"] | Callable[[str], None]
"""The type of ``Run(on_nonfinite=...)``."""

_MAX_ROWS = 50
"""Most tags that one text entry lists."""


class Finding(NamedTuple):
    """The first value of a tag that is not finite.

    Attributes:
        tag: the tag; for a watched tree, with the name of the leaf.
        step: the step of the value.
        value: a description of the value.
        last_finite: a description of the last finite value, or "".
        last_finite_step: the step of that value, or None if there was none.
    """

    tag: str
    step: int
    value: str
    last_finite: str = ""
    last_finite_step: int | None = None

    def __str__(self) -> str:
        text = f"{printable(self.tag)} is {self.value} at step {self.step}"
        if self.last_finite_step is None:
            return f"{text}, and never was finite"
        return f"{text}; at step {self.last_finite_step} it was {self.last_finite}"


class _FiniteValue(NamedTuple):
    """A finite value of a tag. It is described only when a later one is not finite."""

    step: int
    describe: Callable[[], str]


class _Row(NamedTuple):
    """The last row of a block of columns."""

    step: int
    values: np.ndarray


class _FiniteNorms(NamedTuple):
    """The last norms of a watched tree in which any leaf was finite."""

    step: int
    norms: np.ndarray


class NonFiniteMonitor:
    """Finds the first value of each tag that is not finite. Used by one thread, the flusher.

    Args:
        notify: called with one sentence when there are findings.
        found: see below.

    Attributes:
        found: the tags, or leaves, with such a value.
        first: the first finding of this run; None if there is none.
    """

    def __init__(self, notify: Callable[[str], None], found: Iterable[str] = ()):
        self.first: Finding | None = None
        self._notify = notify
        self.found = set(found)
        self._values: dict[str, _FiniteValue] = {}
        self._rows: dict[tuple[str, ...], _Row] = {}
        self._norms: dict[str, _FiniteNorms] = {}

    def start(self, settle: Callable[[float], object]) -> None:
        """Prepare for the first points; see :meth:`BatchMonitor.start`."""

    def observe(self, assembled: Assembled) -> list[Record]:
        """Return a text entry that lists the findings among these points, if there are any."""
        findings = list(self._find(assembled))
        if not findings:
            return []
        findings.sort(key=lambda finding: finding.step)
        first = findings[0]
        self.first = self.first or first
        others = f"; and {len(findings) - 1} more" if len(findings) > 1 else ""
        self._notify(f"{first}{others}. The text entry {TAG!r} has all.")
        return [Record(Kind.TEXT, TAG, first.step, time.time(), _as_table(findings))]

    def finish(self) -> list[Record]:
        """Return nothing: every finding was reported when it was seen."""
        return []

    def _find(self, assembled: Assembled) -> Iterator[Finding]:
        # Columns first: at the same step, a loss explains more than what was watched.
        items = [item for item in assembled.items if not seed_runs.is_summary(item.run)]
        for item in items:
            if isinstance(item, Scalars):
                yield from self._check_columns(item)
        for item in items:
            if isinstance(item, Record):
                yield from self._check_record(item)
        for point in assembled.all_norms:
            if not seed_runs.is_summary(point.run):
                yield from self._check_norms(point)

    def _check_record(self, record: Record) -> Iterator[Finding]:
        value = record.value
        if record.kind is Kind.SCALAR:
            finite = bool(np.isfinite(value))
            description = functools.partial(_number, value)
        elif isinstance(value, Histogram):
            finite = not value.nonfinite
            description = functools.partial(_describe_histogram, value)
        else:
            return
        tag = _with_run(record.tag, record.run)
        if finite:
            self._values[tag] = _FiniteValue(record.step, description)
        elif tag not in self.found:
            yield self._finding(tag, record.step, description())

    def _check_columns(self, block: Scalars) -> Iterator[Finding]:
        tags = tuple(_with_run(tag, block.run) for tag in block.tags) if block.run else block.tags
        finite = np.isfinite(block.values)
        if not finite.all():
            for index in np.flatnonzero(~finite.all(axis=0)):
                tag = tags[index]
                first = int(np.argmin(finite[:, index]))
                if first:
                    self._values[tag] = _finite_number(
                        int(block.steps[first - 1]), block.values[first - 1, index]
                    )
                if tag not in self.found:
                    value = _number(block.values[first, index])
                    yield self._finding(tag, int(block.steps[first]), value)
        # A copy, as a view of one row would keep the whole block in memory.
        self._rows[tags] = _Row(int(block.steps[-1]), block.values[-1].copy())

    def _finding(self, tag: str, step: int, value: str) -> Finding:
        self.found.add(tag)
        known = [self._values[tag]] if tag in self._values else []
        for tags, row in self._rows.items():
            if tag in tags:
                number = row.values[tags.index(tag)]
                if np.isfinite(number):
                    known.append(_finite_number(row.step, number))
        if not known:
            return Finding(tag, step, value)
        last = max(known, key=lambda each: each.step)
        return Finding(tag, step, value, last.describe(), last.step)

    def _check_norms(self, point: NormsPoint) -> Iterator[Finding]:
        norms, tag = point.norms, _with_run(point.tag, point.run)
        with np.errstate(invalid="ignore"):
            sums = norms.squares + norms.largest
        bad = (norms.nonfinite > 0) | ~np.isfinite(sums)
        before = self._norms.get(tag)
        for leaf in np.flatnonzero(bad):
            name = f"{point.tag}/{norms.names[leaf]}" if norms.names[leaf] else point.tag
            name = _with_run(name, point.run)
            if name in self.found:
                continue
            self.found.add(name)
            count = int(norms.nonfinite[leaf])
            counted = f" in {count} of {norms.sizes[leaf]} elements" if count else ""
            value = f"not finite{counted}"
            if before is None or len(before.norms) != len(norms.names):
                yield Finding(name, point.step, value)
            else:
                norm = before.norms[leaf]
                finite = f"finite, its norm {_number(norm)}" if norm > 0 else "finite"
                yield Finding(name, point.step, value, finite, before.step)
        if not bad.all():
            self._norms[tag] = _FiniteNorms(point.step, norms.norms)


def warner(run: str) -> Callable[[str], None]:
    """Return the reaction that logs findings."""
    return lambda text: logger.warning("jaxboard, run %s: %s", run, text)


def check_policy(on_nonfinite: object) -> None:
    """Raise :class:`UsageError` unless it is one of the names in :data:`Policy`, or a function."""
    if not callable(on_nonfinite) and not is_one_of(
        on_nonfinite, ("warn", "raise", "autopsy", "ignore")
    ):
        raise UsageError(
            f"Run(on_nonfinite={safe_repr(on_nonfinite)}): expected 'warn', 'raise', 'autopsy', 'ignore' or a function."
        )


def make_monitor(
    on_nonfinite: Literal["warn", "raise", "ignore"] | Callable[[str], None],
    lost: LostReports,
    found: Iterable[str] = (),
) -> NonFiniteMonitor | None:
    """Return the monitor that ``Run(on_nonfinite=...)`` asks for.

    Args:
        on_nonfinite: the reaction.
        lost: the log of the run.
        found: the tags with an earlier finding, which are not checked (:attr:`NonFiniteMonitor.found`).
    """
    if callable(on_nonfinite):
        function = on_nonfinite

        def call(text: str) -> None:
            try:
                function(text)
            except Exception as fault:
                lost.log_once(f"on_nonfinite raised {describe(fault)}", "The run continues.")

        return NonFiniteMonitor(call, found)
    if on_nonfinite == "raise":
        return NonFiniteMonitor(
            lambda text: lost.raise_later(NonFiniteError(f"run {lost.name}: {text}")), found
        )
    return NonFiniteMonitor(warner(lost.name), found) if on_nonfinite == "warn" else None


def _finite_number(step: int, number: SupportsFloat) -> _FiniteValue:
    return _FiniteValue(step, functools.partial(_number, number))


def _with_run(tag: str, run: str) -> str:
    return f"{tag} of {run}" if run else tag


def _number(value: SupportsFloat) -> str:
    return f"{float(value):.6g}"


def _describe_histogram(value: Histogram) -> str:
    if value.nonfinite:
        kinds = (("NaN", value.nan), ("+inf", value.posinf), ("-inf", value.neginf))
        named = ", ".join(f"{count} {name}" for name, count in kinds if count)
        total = value.nonfinite + value.counts.sum()
        return f"not finite in {value.nonfinite} of {total} elements ({named})"
    if len(value.edges):
        return f"between {_number(value.edges[0])} and {_number(value.edges[-1])}"
    return "empty"


def _as_table(findings: list[Finding]) -> str:
    rows: list[list[object]] = [["for the first time", "step", "is", "was", "at step"]]
    for finding in findings[:_MAX_ROWS]:
        step = "" if finding.last_finite_step is None else finding.last_finite_step
        rows.append(
            [f"`{printable(finding.tag)}`", finding.step, finding.value, finding.last_finite, step]
        )
    if len(findings) > _MAX_ROWS:
        rows.append([f"and {len(findings) - _MAX_ROWS} more"])
    return f"**Not finite:** {findings[0]}.\n\n{table(rows, numbers=(1, 4))}"
