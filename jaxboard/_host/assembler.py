"""The assembler: makes points from frames, many frames of one plan at a time, in columns."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator

from jaxboard._frame import (
    Frame,
    FrameBatch,
    Number,
    Observation,
    ReportSpec,
)
from jaxboard._host.cadence_changes import CadenceChanges
from jaxboard._host.clipping import ClippingLog
from jaxboard._host.complete_points import Assembled, Point
from jaxboard._host.fetch import Fetched
from jaxboard._host.given_times import GivenTimes
from jaxboard._host.last_steps import LastSteps
from jaxboard._host.loop_chunks import LoopChunks
from jaxboard._host.missing_steps import MissingSteps
from jaxboard._host.point_order import in_order
from jaxboard._host.points import Points
from jaxboard._host.restored_windows import RestoredWindows
from jaxboard._host.run_state import HostState, RunState, SavedPoint
from jaxboard._host.shared_steps import close_single_steps
from jaxboard._host.stacked_points import points_of_batch
from jaxboard._host.value_columns import (
    OpenValue,
    columns_of_batch,
    columns_of_numbers,
    join_columns,
)
from jaxboard.records import Record


class Assembler:
    """Makes points from the contents of the buffer. Used by one thread, the flusher.

    Args:
        missing_steps: warns if many values have no step of their own. By default nothing does.
        clipping: warns if images were clipped.
        state: the state that the run continues; None for a new run.
        windows: the windows of that state, as long as no function continues them.
        given_times: the wall times that reports were given.
        cadence_changes: the changes of the cadences of the run.
    """

    def __init__(
        self,
        missing_steps: MissingSteps | None = None,
        clipping: ClippingLog | None = None,
        state: RunState | None = None,
        windows: RestoredWindows | None = None,
        *,
        given_times: GivenTimes | None = None,
        cadence_changes: CadenceChanges | None = None,
    ) -> None:
        self._missing_steps = missing_steps
        self._clipping = clipping or ClippingLog()
        self._points = Points(state.points if state else (), cadence_changes)
        self._last_steps = LastSteps(state.last_steps if state else None)
        self._windows = RestoredWindows() if windows is None else windows
        self._given_times = given_times or GivenTimes()
        self._loops = LoopChunks()

    def assemble(self, items: list[Fetched], now: float) -> Assembled:
        """Return the points that ``items`` complete.

        Args:
            items: the reports, in order.
            now: the flusher's clock, in seconds.
        """
        if self._missing_steps is not None:
            self._missing_steps.observe(items)
        records: list[Point] = []
        values: list[OpenValue] = []
        numbers: list[tuple[int, Number]] = []
        batches: list[tuple[int, FrameBatch]] = []
        # By identity: frames of one program share their plan, and hashing a plan takes microseconds.
        groups: dict[tuple[int, bool], tuple[int, list[FrameBatch]]] = {}
        reached = -1
        for position, item in enumerate(items):
            if isinstance(item, Frame):
                batch = self._loops.batch(item)
                batches += [] if batch is None else [(position, batch)]
            elif isinstance(item, FrameBatch):
                group = groups.setdefault((id(item.plan), item.open), (position, []))
                group[1].append(item)
            elif isinstance(item, Number):
                numbers.append((position, item))
                reached = reached if item.explicit_step else max(reached, item.step)
            elif isinstance(item, Observation):
                values.append(OpenValue(position, item, item.explicit_step))
                reached = reached if item.explicit_step else max(reached, item.step)
            else:
                records.append(item)
        batches += [
            (position, FrameBatch.concatenate(group)) for position, group in groups.values()
        ]
        self._last_steps.have_own_steps(_with_own_steps(items, batches))
        reached = max([reached, *(int(batch.steps.max()) for _, batch in batches)])
        others = (*(value.observation for value in values), *(number for _, number in numbers))
        batches = close_single_steps(batches, others, reached, self._points.open_step)
        points: list[Point] = []
        columns, single = columns_of_numbers(numbers)
        values += single
        for position, batch in batches:
            points += points_of_batch(batch)
            columns += columns_of_batch(batch, position)
        reported = {value.observation.spec for value in values}
        reported.update(column.spec for column in columns)
        values += self._restored_values(reached, reported)
        columns, single = join_columns(columns, {value.observation.spec for value in values})
        values += single
        # In the order of reporting, which matters to some reducers, such as "last". The iterations of one chunk may have one
        # wall time.
        values.sort(
            key=lambda value: (
                value.observation.wall_time,
                value.position,
                value.observation.step,
            )
        )
        for value in values:
            points += self._points.add(value.observation, now=now, last=value.last)
        for column in columns:
            points += self._points.add_column(column, now=now)
        points += self._points.complete_before(reached)
        return self._assembled([*records, *in_order(points)])

    def partial(self, unchanged_since: float) -> Assembled:
        """Return the incomplete points of single steps that have not changed since then.

        Args:
            unchanged_since: by the flusher's clock, in seconds.
        """
        return self._plain(self._points.partial(unchanged_since))

    def finish(self) -> Assembled:
        """Return every point that was held back, incomplete windows included."""
        points: list[Point] = []
        for value in self._as_values(self._windows.take(math.inf)):
            points += self._points.add(value.observation, now=0.0, last=False)
        return self._assembled([*points, *self._points.finish()])

    def save(self, step: int) -> HostState:
        """Return what is held back, and the last steps of tags.

        Args:
            step: the step of the next call.
        """
        return HostState(tuple(self._points.saved()), self._last_steps.saved(step))

    def _restored_values(self, reached: int, reported: Collection[ReportSpec]) -> list[OpenValue]:
        """Return the values of restored windows that must be merged now."""
        if not self._windows:
            return []
        return self._as_values(self._windows.take(reached, reported))

    def _as_values(self, windows: Iterable[SavedPoint]) -> list[OpenValue]:
        """Return restored windows as values, except those that wait for their report."""
        return [_restored_value(each) for each in windows if not self._points.wait_for_report(each)]

    def _assembled(self, points: Iterable[Point]) -> Assembled:
        assembled = self._plain(points)
        self._last_steps.observe(assembled)
        return assembled

    def _plain(self, points: Iterable[Point]) -> Assembled:
        return Assembled.of(self._given_times.applied(map(self._clipping.plain, points)))


def _with_own_steps(
    items: Iterable[Fetched], batches: Iterable[tuple[int, FrameBatch]]
) -> Iterator[tuple[str, str]]:
    """Yield run and tag of the reports whose steps the run does not count."""
    specs: dict[int, ReportSpec] = {}  # By identity, as in columns_of_numbers.
    for item in items:
        if isinstance(item, Number | Observation):
            if item.explicit_step:
                specs[id(item.spec)] = item.spec
        elif isinstance(item, Record):
            yield item.run, item.tag
    for spec in specs.values():
        yield spec.run, spec.tag
    for _, batch in batches:
        for entry in batch.plan.entries:
            if entry.step is not None:
                yield entry.spec.run, entry.spec.tag


def _restored_value(point: SavedPoint) -> OpenValue:
    value = Observation(point.spec, point.state, point.newest_step, point.wall_time)
    return OpenValue(-1, value, last=False)
