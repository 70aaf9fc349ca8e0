"""Columns: the values of one scalar tag in one run, at many steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np

from jaxboard._frame import ReportSpec
from jaxboard._host.complete_points import FailedPoint, Point
from jaxboard._reduce.finishing import Finish, finish_values
from jaxboard.records import Scalars


class RunColumn(NamedTuple):
    """The values of one scalar tag in one run, at N steps.

    Attributes:
        run: the name of the run (:attr:`jaxboard.records.Record.run`).
        steps: int64[N].
        values: [N].
        has_value: bool[N]. Entries without a value are not points.
        faults: what the report's ``finish=`` raised, by index.
    """

    run: str
    steps: np.ndarray
    values: np.ndarray
    has_value: np.ndarray
    faults: Mapping[int, Exception] = {}

    @classmethod
    def concatenate(cls, columns: Sequence[RunColumn], order: np.ndarray) -> RunColumn:
        """Concatenate columns of one run, and put their entries in an order: int[N], their indices."""
        steps, values, has_value = (
            np.concatenate([getattr(column, name) for column in columns])[order]
            for name in ("steps", "values", "has_value")
        )
        faults: dict[int, Exception] = {}
        places, start = np.argsort(order), 0
        for column in columns:
            faults |= {int(places[start + row]): fault for row, fault in column.faults.items()}
            start += len(column.steps)
        return cls(columns[0].run, steps, values, has_value, faults)

    def finished(self, spec: ReportSpec) -> RunColumn:
        """Return the column after the function of the report, if it has one."""
        if spec.finish is None:
            return self
        values, has_value, faults = finish_values(
            cast("Finish", spec.finish), self.values, self.has_value
        )
        by_row = {row: fault for (row,), fault in faults.items()}
        return RunColumn(self.run, self.steps, values, has_value, by_row)

    def points(self, tag: str, wall_times: np.ndarray) -> list[Point]:
        """Return the points of the entries that have a value, and those that failed.

        Args:
            tag: the tag.
            wall_times: float64[N], in seconds since the epoch.
        """
        failed: list[Point] = [
            FailedPoint(tag, int(self.steps[row]), float(wall_times[row]), fault, self.run)
            for row, fault in self.faults.items()
        ]
        rows = self.has_value
        if not rows.any():
            return failed
        values = self.values[rows, None]
        return [*failed, Scalars((tag,), self.steps[rows], wall_times[rows], values, self.run)]
