"""The changes of cadences in an open run. In plain Python, a change ends the windows of the reports that it concerns."""

from __future__ import annotations

from typing import NamedTuple

from jaxboard._frame import ReportSpec
from jaxboard._host.selection import Selection, choice_of


class _Change(NamedTuple):
    step: int
    old: Selection | None
    new: Selection | None


class CadenceChanges:
    """The changes so far, by step. The thread that takes the step adds them, and the flusher looks them up."""

    __slots__ = ("_changes",)

    def __init__(self) -> None:
        self._changes: list[_Change] = []

    def __bool__(self) -> bool:
        return bool(self._changes)

    def add(self, step: int, old: Selection | None, new: Selection | None) -> None:
        """Note a change that precedes the reports of a step."""
        self._changes.append(_Change(step, old, new))

    def has_changed(self, spec: ReportSpec, newest_step: int, reached: int) -> bool:
        """Return whether the cadence of a report has changed since its newest value.

        Args:
            spec: the report.
            newest_step: the step of that value.
            reached: the step that the run has reached.
        """
        return any(
            newest_step < change.step <= reached
            and choice_of(change.old, spec) != choice_of(change.new, spec)
            for change in self._changes
        )
