"""Points that merge several values: the steps of a window, or repeated reports at one step.

A point is a tag at a step. Its values arrive one after the other, for example from the calls of an
evaluation step or from the ``every`` steps of a window, and the report's reducer merges them. A point is complete
once a value for a later point arrives. Values that the program has already reduced complete their point
immediately.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaxboard._frame import Observation, ReportSpec
from jaxboard._host import seed_runs
from jaxboard._host.cadence_changes import CadenceChanges
from jaxboard._host.complete_points import Composed, Point, make_points
from jaxboard._host.run_columns import RunColumn
from jaxboard._host.run_state import SavedPoint, point_step
from jaxboard._host.stacked_points import points_of_windows
from jaxboard._host.value_columns import ValueColumn
from jaxboard._log import log_once
from jaxboard._reduce import State, is_positive, reducer
from jaxboard._reduce.named_objects import has_names, with_names
from jaxboard.records import Kind, Scalars


class _OpenPoint:
    """A point that may receive more values.

    Attributes:
        step: the step of the complete point: for a window, its last step.
        newest_step: the largest step of a value.
        wall_time: when the last value was reported.
        state: the merged values.
        unwritten: whether it has changed since it was last written.
        changed_at: when it last changed, by the flusher's clock.
        explicit_step: whether the user gave the step. It is then unrelated to the steps of the run.
    """

    __slots__ = (
        "changed_at",
        "explicit_step",
        "newest_step",
        "state",
        "step",
        "unwritten",
        "wall_time",
    )

    def __init__(self, step: int, state: State):
        self.step = step
        self.state = state
        self.newest_step = -(2**63)

    def update(self, value: Observation, now: float) -> None:
        """Note that ``value`` has just been merged."""
        self.newest_step = max(self.newest_step, value.step)
        self.wall_time = value.wall_time
        self.explicit_step = value.explicit_step
        self.changed_at = now
        self.unwritten = True


class Points:
    """The points that are not complete. Used by one thread, the flusher.

    Args:
        restored: those of an earlier run that this one continues.
        cadence_changes: the changes of the cadences of the run.
    """

    def __init__(
        self, restored: Iterable[SavedPoint] = (), cadence_changes: CadenceChanges | None = None
    ) -> None:
        self._cadence_changes = CadenceChanges() if cadence_changes is None else cadence_changes
        self._open: dict[ReportSpec, _OpenPoint] = {}
        # The points of reports that have only names wait here until the report itself follows.
        self._named: dict[ReportSpec, SavedPoint] = {}
        for point in restored:
            if not self.wait_for_report(point):
                self._restore(point.spec, point)

    def wait_for_report(self, point: SavedPoint) -> bool:
        """Keep a point whose report has only names until that report follows; return False for any other point."""
        if has_names(point.spec):
            self._named.setdefault(point.spec, point)
        return has_names(point.spec)

    def _continued(self, spec: ReportSpec) -> _OpenPoint | None:
        """Return the incomplete point of a report, which may be one of an earlier run; None if it has none."""
        if self._named and (saved := self._named.pop(with_names(spec), None)) is not None:
            self._restore(spec, saved)
        return self._open.get(spec)

    def _restore(self, spec: ReportSpec, saved: SavedPoint) -> _OpenPoint:
        """Open a point of an earlier run, for a report."""
        _, state, step, wall_time, explicit_step, _ = saved
        point = self._open[spec] = _OpenPoint(point_step(spec, step), state)
        point.update(Observation(spec, state, step, wall_time, explicit_step), 0.0)
        return point

    def saved(self) -> list[SavedPoint]:
        """Return the points as a state holds them."""
        points = [
            SavedPoint(spec, point.state, point.newest_step, point.wall_time, point.explicit_step)
            for spec, point in self._open.items()
        ]
        return [*map(portable_point, points), *self._named.values()]

    def add(self, value: Observation, *, now: float, last: bool) -> Iterator[Point]:
        """Merge a value into its point.

        Args:
            value: the value.
            now: the flusher's clock, in seconds.
            last: whether its step has no more values.

        Yields:
            The points that are now complete.
        """
        spec, state, step = value.spec, value.state, value.step
        if not _has_weight(state):
            return
        end = point_step(spec, step)
        point = self._continued(spec)
        if point is not None and point.step != end:
            yield from self._complete(spec)
            point = None
        if point is None:
            point = self._open[spec] = _OpenPoint(end, state)
        else:
            point.state = reducer(spec).merge(point.state, state)
        point.update(value, now)
        if last and step == end:
            yield from self._complete(spec)

    def open_step(self, spec: ReportSpec) -> int | None:
        """Return the step of the newest value of an incomplete point, or None if the report has none."""
        point = self._open.get(spec)
        return None if point is None else point.newest_step

    def add_column(self, column: ValueColumn, *, now: float) -> Iterator[Point]:
        """Merge the values of a column into their points.

        Args:
            column: the values, whose reducer is elementwise. Nothing else has values of the report at present.
            now: the flusher's clock, in seconds.

        Yields:
            The points that are now complete.
        """
        spec, column = column.spec, column.counted()
        if not len(column.steps):
            return
        point = self._continued(spec)
        if point is not None and point.step == column.point_steps[0]:
            starts = column.starts
            count = int(starts[1]) if len(starts) > 1 else len(column.steps)
            for value in column.rows(slice(count)).values():
                yield from self.add(value.observation, now=now, last=value.last)
            column = column.rows(slice(count, None))
        if len(column.steps) and spec in self._open:
            yield from self._complete(spec)
        merged = column.merged()
        yield from points_of_windows(spec, merged.complete, merged.steps, merged.wall_times)
        if merged.growing is not None:
            yield from self.add(merged.growing.observation, now=now, last=merged.growing.last)

    def complete_before(self, step: int) -> Iterator[Point]:
        """Yield the points that are complete because the run has reached ``step``.

        A window whose cadence has changed ends at its newest step.
        """
        if self._cadence_changes:
            for spec, point in self._open.items():
                if spec.windowed and self._cadence_changes.has_changed(
                    spec, point.newest_step, step
                ):
                    point.step = point.newest_step
        complete = [
            s for s, point in self._open.items() if point.step < step and not point.explicit_step
        ]
        for spec in complete:
            yield from self._complete(spec)
        self._drop([s for s, p in self._named.items() if p.end < step and not p.explicit_step])

    def _drop(self, specs: list[ReportSpec]) -> None:
        """Drop points of reports that no program makes any more: nothing can compute their values."""
        for spec in specs:
            del self._named[spec]
            log_once(
                ("not continued", spec.tag),
                f"the incomplete point of {spec.tag!r} in the state of the run is lost: no such report followed.",
            )

    def partial(self, unchanged_since: float) -> Iterator[Point]:
        """Yield incomplete points of a single step that have not changed since then.

        Each state of a point is yielded once. A point that changes afterwards is written again: the last point
        of a step has all its values.
        """
        for spec, point in self._open.items():
            if not spec.windowed and point.unwritten and point.changed_at <= unchanged_since:
                point.unwritten = False
                yield from _finish(spec, point)

    def finish(self) -> Iterator[Point]:
        """Yield every point. An incomplete window is placed at its newest step."""
        for spec in list(self._open):
            self._open[spec].step = self._open[spec].newest_step
            yield from self._complete(spec)
        self._drop(list(self._named))

    def _complete(self, spec: ReportSpec) -> Iterator[Point]:
        point = self._open.pop(spec)
        if point.unwritten:
            yield from _finish(spec, point)


def portable_point(point: SavedPoint) -> SavedPoint:
    """Return a point whose report compares as equal in another process. If it names objects, it also has its tags."""
    spec = with_names(point.spec)
    if spec is point.spec:
        return point
    finished = finish_state(point.spec, point.state, point.end, point.wall_time)
    return point._replace(spec=spec, tags=tags_of(finished))


def tags_of(points: Iterable[Point]) -> tuple[tuple[str, str], ...]:
    """Return the run and the tag of each curve to which points belong."""
    items = (each.scalars() if isinstance(each, Composed) else each for each in points)
    return tuple(
        (item.run, tag)
        for item in items
        for tag in (item.tags if isinstance(item, Scalars) else (item.tag,))
    )


def _has_weight(state: State) -> bool:
    """Return whether a state has any value: a mask may leave out all of them."""
    return bool(np.any(is_positive(state.weight)))


def _finish(spec: ReportSpec, point: _OpenPoint) -> Iterator[Point]:
    return finish_state(spec, point.state, point.step, point.wall_time)


def finish_state(spec: ReportSpec, state: State, step: int, wall_time: float) -> Iterator[Point]:
    """Yield the points of a report from its merged values."""
    if spec.lanes:
        yield from seed_runs.points(spec, state, step, wall_time)
        return
    value: Any = reducer(spec).finish(state)
    if spec.kind is Kind.SCALAR and spec.finish is not None:
        column = RunColumn(spec.run, np.array([step]), np.array([value]), np.array([True]))
        yield from column.finished(spec).points(spec.tag, np.array([wall_time]))
        return
    if getattr(value, "ndim", None) == 0:
        value = value[()]
    yield from make_points(spec, step, wall_time, value)
