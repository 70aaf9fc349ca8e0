"""Several values become one point: over the steps of a window, and over repeated reports of one step.

A point is a tag at a step. Its values come one after the other, from the calls of an evaluation step, say,
or from the steps of a window of ``every`` steps, and merge as the report's reducer says. A point is
complete once a value for a later point has come; what the program reduced itself is complete at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from jaxboard._frame import Observation, ReportSpec
from jaxboard._host import seed_runs
from jaxboard._reduce import State, reducer
from jaxboard.records import Record, Scalars


class _Growing:
    """A point that is not complete.

    Attributes:
        step: where it goes when it is complete: for a window, its last step.
        reached: the step of its newest value.
        wall_time: when that was reported.
        state: the values so far.
        changed: whether it has grown since it was last written.
        touched: when it last grew, by the flusher's clock.
        own: whether its steps are the user's, which say nothing of the run's.
    """

    __slots__ = ("changed", "own", "reached", "state", "step", "touched", "wall_time")

    def __init__(self, step: int, state: State):
        self.step = step
        self.state = state
        self.changed = True


class Points:
    """The points that still grow. Used by one thread, the flusher."""

    def __init__(self) -> None:
        self._growing: dict[ReportSpec, _Growing] = {}

    def add(self, value: Observation, *, now: float, last: bool) -> Iterator[Record | Scalars]:
        """Takes a value.

        Args:
            value: the value.
            now: the flusher's clock, in seconds.
            last: whether its step has no more values.

        Yields:
            The points that are complete now.
        """
        spec, state, step = value.spec, value.state, value.step
        if not _holds_any(state):
            return
        ends = -(-step // spec.every) * spec.every if spec.windowed else step
        point = self._growing.get(spec)
        if point is not None and point.step != ends:
            yield from self._complete(spec)
            point = None
        if point is None:
            point = self._growing[spec] = _Growing(ends, state)
        else:
            point.state = reducer(spec).merge(point.state, state)
        point.reached, point.wall_time, point.own = step, value.wall_time, value.own
        point.touched, point.changed = now, True
        if last and step == ends:
            yield from self._complete(spec)

    def before(self, step: int) -> Iterator[Record | Scalars]:
        """The points that are complete because the run has come to ``step``."""
        over = [s for s, point in self._growing.items() if point.step < step and not point.own]
        for spec in over:
            yield from self._complete(spec)

    def so_far(self, untouched_since: float) -> Iterator[Record | Scalars]:
        """Points of a single step as they are now, unless they have been written so or grew lately.

        Should one grow afterwards, it is written again: the last point of a step holds all its values.
        """
        for spec, point in self._growing.items():
            if not spec.windowed and point.changed and point.touched <= untouched_since:
                point.changed = False
                yield from _records(spec, point)

    def all(self) -> Iterator[Record | Scalars]:
        """Every point; a window that is not over is put at its newest step."""
        for spec in list(self._growing):
            self._growing[spec].step = self._growing[spec].reached
            yield from self._complete(spec)

    def _complete(self, spec: ReportSpec) -> Iterator[Record | Scalars]:
        point = self._growing.pop(spec)
        if point.changed:
            yield from _records(spec, point)


def _holds_any(state: State) -> bool:
    return isinstance(state.weight, int) or bool(np.any(np.asarray(state.weight) > 0))


def _records(spec: ReportSpec, point: _Growing) -> Iterator[Record | Scalars]:
    if spec.lanes:
        yield from seed_runs.points(spec, point.state, point.step, point.wall_time)
        return
    value: Any = reducer(spec).finish(point.state)
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    yield Record(spec.kind, spec.tag, point.step, point.wall_time, value)
