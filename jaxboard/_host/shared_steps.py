"""The steps that several calls share, so that their values make one point.

Calls of an evaluation share a step, and so may calls whose step the user computes. Their frames are open. Merging
takes microseconds for each value, so this module finds the steps that belong to a single call: these points are
complete, and are made in columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from jaxboard._frame import FrameBatch, Number, Observation, ReportSpec


class _Steps:
    """The steps of the values of one report, in no particular order."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._newest = -np.inf, 0

    def add(self, steps: np.ndarray, wall_times: np.ndarray) -> None:
        self._arrays.append(steps)
        self._newest = max(self._newest, (float(wall_times[-1]), int(steps[-1])))

    @property
    def are_distinct(self) -> bool:
        steps = np.concatenate(self._arrays)
        return len(np.unique(steps)) == len(steps)

    @property
    def newest(self) -> int:
        """The step of the value that was reported last: the next call may have it too."""
        return self._newest[1]


def close_single_steps(
    batches: list[tuple[int, FrameBatch]],
    others: Iterable[Observation | Number],
    reached: int,
    open_step: Callable[[ReportSpec], int | None],
) -> list[tuple[int, FrameBatch]]:
    """Return the batches with those frames closed whose step no other value can have.

    If calls share a step, the report's other points stay open too, so that all are in the order of their steps.

    Args:
        batches: batches, each with its position among all items.
        others: reports from plain Python, which may belong to the same points.
        reached: the largest step. Points of earlier steps receive no more values.
        open_step: returns the step of the incomplete point of a report, or None.
    """
    steps = {spec: _Steps() for _, batch in batches if batch.open for spec in _specs(batch)}
    if not steps:
        return batches
    for _, batch in batches:
        for spec in _specs(batch) if batch.open else ():
            steps[spec].add(batch.steps, batch.wall_times)
    for value in others:
        if value.spec in steps:
            steps[value.spec].add(np.array([value.step]), np.array([value.wall_time]))
    shared = {spec for spec, found in steps.items() if not found.are_distinct}
    split: list[tuple[int, FrameBatch]] = []
    for position, batch in batches:
        specs = _specs(batch)
        if not batch.open or not specs or not shared.isdisjoint(specs):
            split.append((position, batch))
            continue
        last = {step for spec in specs if (step := steps[spec].newest) >= reached}
        first = {step for spec in specs if (step := open_step(spec)) is not None}
        still_open = np.isin(batch.steps, list(last | first))
        split += [
            (position, batch.rows(rows, open=is_open))
            for rows, is_open in ((still_open, True), (~still_open, False))
            if rows.any()
        ]
    return split


def _specs(batch: FrameBatch) -> list[ReportSpec]:
    """Return the reports whose points have the steps of the calls."""
    return [entry.spec for entry in batch.plan.entries if entry.step is None]
