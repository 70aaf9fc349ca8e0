"""The cadences that a run gives to the reports of the program, by patterns of their tags."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, cast

from jaxboard._check import as_positive_int
from jaxboard._errors import UsageError
from jaxboard._frame import Composite, Entry, Frame, Plan, ReportSpec
from jaxboard._host.plan_cache import PlanCache
from jaxboard._log import logger
from jaxboard._safe_repr import safe_repr

Choice: TypeAlias = int | Literal["code"] | None
"""The cadence in steps, None if the report is left out, or "code" for the cadence in the program."""

_MAX_ENTRIES = 4096
"""Most tags, and most reports, whose cadences are remembered."""


class Selection:
    """The cadences of reports by patterns of their tags, which never change.

    Args:
        cadences: the patterns and what they choose. The last pattern that matches a tag decides.

    Attributes:
        cadences: see above.
        matched: the patterns that matched a tag so far.
    """

    __slots__ = ("_choices", "_plans", "_specs", "cadences", "matched")

    def __init__(self, cadences: Mapping[str, int | None]):
        self.cadences = dict(cadences)
        self.matched: set[str] = set()
        self._choices: dict[tuple[str, bool], Choice] = {}
        self._specs: dict[ReportSpec, ReportSpec | None] = {}
        self._plans = PlanCache[tuple[Plan, tuple[int, ...]]]()

    def including(self, changes: Iterable[tuple[str, Choice]]) -> Selection:
        """Return this selection with other patterns after its own; "code" removes a pattern."""
        cadences = dict(self.cadences)
        for pattern, choice in changes:
            cadences.pop(pattern, None)
            if choice != "code":
                cadences[pattern] = choice
        selection = Selection(cadences)
        selection.matched |= self.matched
        return selection

    def choice(self, tag: str, *, is_prefix: bool = False) -> Choice:
        """Return what the patterns choose for a tag.

        Args:
            tag: the tag, scopes included.
            is_prefix: whether the report makes several curves below the tag. ``tag/*`` then matches it too.
        """
        known = self._choices.get((tag, is_prefix), self)
        if known is not self:
            return cast("Choice", known)
        names = (tag, f"{tag}/") if is_prefix else (tag,)
        choice: Choice = "code"
        for pattern, every in self.cadences.items():
            if any(fnmatch.fnmatchcase(name, pattern) for name in names):
                self.matched.add(pattern)
                choice = every
        if len(self._choices) >= _MAX_ENTRIES:
            self._choices.clear()
        self._choices[tag, is_prefix] = choice
        return choice

    def choice_for(self, spec: ReportSpec) -> Choice:
        """Return what the patterns choose for a report."""
        return self.choice(spec.tag, is_prefix=isinstance(spec.kind, Composite))

    def selected(self, spec: ReportSpec) -> ReportSpec | None:
        """Return a report with the cadence that is chosen for it, None if it is left out."""
        try:
            return self._specs[spec]
        except KeyError:
            pass
        every = self.choice_for(spec)
        selected: ReportSpec | None = spec
        if every is None:
            selected = None
        elif every not in ("code", spec.every):
            selected = dataclasses.replace(spec, every=every)
        if len(self._specs) >= _MAX_ENTRIES:
            self._specs.clear()
        self._specs[spec] = selected
        return selected

    def selected_frame(self, frame: Frame) -> Frame:
        """Return a frame whose reports have the cadences that are chosen for them."""
        plan, positions = self._plans.get(frame.plan, self._selected_plan)
        if plan is frame.plan:
            return frame
        vectors = tuple([frame.vectors[position] for position in positions])
        return Frame(plan, vectors, frame.step, frame.wall_time, open=frame.open)

    def _selected_plan(self, plan: Plan) -> tuple[Plan, tuple[int, ...]]:
        """Return a plan with the reports that are selected, and the positions of its vectors in those of ``plan``."""
        entries: list[Entry] = []
        for entry in plan.entries:
            spec = self.selected(entry.spec)
            if spec is not None:
                entries.append(
                    entry if spec is entry.spec else dataclasses.replace(entry, spec=spec)
                )
        selected = plan
        if tuple(entries) != plan.entries:
            selected = dataclasses.replace(plan, entries=tuple(entries))
        return selected, tuple(map(plan.vector_names.index, selected.vector_names))

    def warn_of_unmatched(self, name: str) -> None:
        """Log the patterns that matched no tag.

        Args:
            name: the run, for the message.
        """
        unmatched = [pattern for pattern in self.cadences if pattern not in self.matched]
        if unmatched:
            logger.warning(
                "jaxboard, run %s: select: no report has a tag that matches %s.",
                name,
                " or ".join(map(repr, unmatched)),
            )


def choice_of(selection: Selection | None, spec: ReportSpec) -> Choice:
    """Return what a run chooses for a report. Without a selection, that is the cadence in the program."""
    return "code" if selection is None else selection.choice_for(spec)


def changed_windows(plan: Plan, old: Selection | None, new: Selection | None) -> Plan:
    """Return the plan of incomplete windows for a change of cadences.

    A window whose cadence changes becomes a point at its last step: with the cadence 1, the host waits for no more.
    """

    def ended(entry: Entry) -> Entry:
        spec = entry.spec
        if choice_of(old, spec) == choice_of(new, spec):
            return entry
        return dataclasses.replace(entry, spec=dataclasses.replace(spec, every=1))

    return dataclasses.replace(plan, entries=tuple(map(ended, plan.entries)))


def check_selection(select: object) -> Selection | None:
    """Return what ``Run(select=...)`` selects, None if it selects nothing.

    Raises:
        UsageError: it is not a mapping from patterns to cadences.
    """
    if select is None:
        return None
    try:
        chosen = list(cast("Mapping[object, object]", select).items())
    except Exception:
        raise UsageError(
            f"Run(select={safe_repr(select)}): expected a dict of patterns of tags and cadences, such as "
            "{'debug/*': None, 'act/*': 100}."
        ) from None
    cadences: dict[str, int | None] = {}
    for pattern, every in chosen:
        if not isinstance(pattern, str) or not pattern.strip():
            raise UsageError(
                f"Run(select={{{safe_repr(pattern)}: ...}}): expected a pattern of tags, such as 'debug/*'."
            )
        cadences[pattern] = None if every is None else as_positive_int(every)
        if every is not None and cadences[pattern] is None:
            raise UsageError(
                f"Run(select={{{safe_repr(pattern)}: {safe_repr(every)}}}): expected a positive integer (steps), or "
                "None to leave these reports out."
            )
    return Selection(cadences)
