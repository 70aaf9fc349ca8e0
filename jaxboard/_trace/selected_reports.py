"""The reports of a function with the cadences that a run selects for them."""

from __future__ import annotations

import dataclasses

from jaxboard._frame import ReportSpec
from jaxboard._host.selection import Selection
from jaxboard._trace.pack import Harvested


class SelectedReports:
    """The reports that were found in a function, and what the selection of a run makes of each.

    Args:
        selection: the selection; None if the reports have the cadences in the program.

    Attributes:
        selection: see above. It may be replaced by one that agrees about the reports found so far.
    """

    __slots__ = ("_found", "selection")

    def __init__(self, selection: Selection | None = None):
        self.selection = selection
        self._found: dict[ReportSpec, ReportSpec | None] = {}

    def __bool__(self) -> bool:
        """Return whether any report was found."""
        return bool(self._found)

    def select(self, spec: ReportSpec) -> ReportSpec | None:
        """Note a report, and return it with its selected cadence; None if it is left out."""
        if spec not in self._found:
            self._found[spec] = spec if self.selection is None else self.selection.selected(spec)
        return self._found[spec]

    def of(self, reports: list[Harvested]) -> list[Harvested]:
        """Return harvested reports with their selected cadences. :func:`.pruning.select` does not reach all of them."""
        if self.selection is None:
            return reports
        selected = [(self.select(report.spec), report) for report in reports]
        return [dataclasses.replace(x, spec=spec) for spec, x in selected if spec is not None]

    def agrees_with(self, selection: Selection) -> bool:
        """Return whether another selection has the same effect on the reports found so far."""
        # A copy, as a call on another thread may find some more.
        found = list(self._found.items())
        return all(selection.selected(spec) == selected for spec, selected in found)
