"""From frames to records: many frames of one plan at once, in columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxboard._frame import (
    Composite,
    Entry,
    Frame,
    FrameBatch,
    LoopChunk,
    Observation,
    ReportSpec,
    Slot,
)
from jaxboard._host import seed_runs
from jaxboard._host.fetch import Fetched
from jaxboard._host.points import Points
from jaxboard._reduce import State, reducer
from jaxboard.records import Batch, Kind, Record, Scalars


class Assembler:
    """Makes batches for the sinks of what the buffer held. Used by one thread, the flusher."""

    def __init__(self) -> None:
        self._points = Points()
        # Of each streamed loop that runs: when its last chunk came, and how many iterations so far.
        self._loops: dict[Any, tuple[float, int]] = {}

    def assemble(self, items: list[Fetched], now: float) -> Batch:
        """What is complete with ``items``.

        Args:
            items: what was reported, in order.
            now: the flusher's clock, in seconds.
        """
        batch: Batch = []
        made: Batch = []
        growing: list[tuple[int, Observation, bool]] = []
        # By identity: frames of one program share their plan, and hashing it takes microseconds.
        groups: dict[Any, tuple[int, list[FrameBatch]]] = {}
        strips: list[tuple[int, FrameBatch]] = []
        reached = -1
        for place, item in enumerate(items):
            if isinstance(item, Frame) and item.plan.rows and item.plan.step:
                strip = self._chunk(item, item.plan.rows, item.plan.step)
                strips += [] if strip is None else [(place, strip)]
            elif isinstance(item, FrameBatch):
                groups.setdefault((id(item.plan), item.open), (place, []))[1].append(item)
            elif isinstance(item, Observation):
                growing.append((place, item, item.own))
                reached = reached if item.own else max(reached, item.step)
            elif isinstance(item, Record):
                batch.append(item)
        strips += [(place, FrameBatch.joined(group)) for place, group in groups.values()]
        for place, strip in strips:
            reached = max(reached, int(strip.steps.max()))
            made += _records(strip)
            growing += [(place, *value) for value in _growing(strip)]
        # In the order they were made: points grow by the last value, say.
        for _, value, last in sorted(growing, key=lambda found: (found[1].wall_time, found[0])):
            made += self._points.add(value, now=now, last=last)
        made += self._points.before(reached)
        # TensorBoard drops points that go back.
        singles = [record for record in made if isinstance(record, Record)]
        singles.sort(key=lambda record: record.wall_time)
        return batch + singles + _in_order([item for item in made if isinstance(item, Scalars)])

    def _chunk(self, frame: Frame, rows: LoopChunk, slot: Slot) -> FrameBatch | None:
        loop = frame.plan.entries
        since, run = self._loops.pop(loop, (frame.wall_time, 0))
        run += rows.size
        if rows.total is None or run < rows.total:
            self._loops[loop] = frame.wall_time, run
        return FrameBatch.of_rows(frame, slot, since)

    def so_far(self, untouched_since: float) -> Batch:
        """The points of single steps that still grow, but haven't since then, by the flusher's clock."""
        return list(self._points.so_far(untouched_since))

    def finish(self) -> Batch:
        """All that was held back, windows that are not over too."""
        return list(self._points.all())


def _in_order(columns: list[Scalars]) -> list[Scalars]:
    """Columns in which each tag stands once, its points in the order they were made."""
    homes: dict[tuple[str, str], set[Any]] = {}
    for column in columns:
        for tag in column.tags:
            home = column.tags, column.values.dtype
            homes.setdefault((column.run, tag), set()).add(home)
    parts: dict[Any, list[Scalars]] = {}
    for column in columns:
        if all(len(homes[column.run, tag]) == 1 for tag in column.tags):
            parts.setdefault((column.run, column.tags), []).append(column)
            continue
        # Programs for different steps report different sets of tags: tag by tag, then.
        for place, tag in enumerate(column.tags):
            values = column.values[:, place, None]
            alone = Scalars((tag,), column.steps, column.wall_times, values, column.run)
            parts.setdefault((alone.run, alone.tags), []).append(alone)
    return [same[0] if len(same) == 1 else _merged(same) for same in parts.values()]


def _merged(columns: list[Scalars]) -> Scalars:
    walls = np.concatenate([column.wall_times for column in columns])
    order = np.argsort(walls, kind="stable")
    steps = np.concatenate([column.steps for column in columns])
    values = np.concatenate([column.values for column in columns])
    return Scalars(columns[0].tags, steps[order], walls[order], values[order], columns[0].run)


def _growing(strip: FrameBatch) -> Iterator[tuple[Observation, bool]]:
    """The values that are not a point by themselves; whether each ends its step."""
    # One report may have two accumulators, of different dtypes.
    ends = {entry.spec: entry for entry in strip.plan.entries}
    for entry in strip.plan.entries:
        if not _grows(entry, strip):
            continue
        spec, every = entry.spec, _state(entry, strip.arrays)
        owns = None if entry.step is None else entry.step.read(strip.arrays).tolist()
        for place, (step, wall) in enumerate(
            zip(strip.steps.tolist(), strip.wall_times.tolist(), strict=True)
        ):
            state = _at(every, place)
            if owns is not None:
                for inner, own in enumerate(owns[place]):
                    yield Observation(spec, _at(state, inner), own, wall, own=True), True
            elif spec.windowed or step % spec.every == 0:
                last = ends[spec] is entry and not strip.open
                yield Observation(spec, state, step, wall), last


def _grows(entry: Entry, strip: FrameBatch) -> bool:
    return entry.spec.windowed or (strip.open and entry.step is None)


def _records(strip: FrameBatch) -> Batch:
    """The values that are points by themselves."""
    steps, walls = strip.steps, strip.wall_times
    batch: Batch = []
    columns: dict[Any, list[tuple[str, np.ndarray]]] = {}
    for entry in strip.plan.entries:
        if _grows(entry, strip):
            continue
        state = _state(entry, strip.arrays)
        if entry.step is not None:
            batch += _points(entry, state, entry.step.read(strip.arrays), walls)
            continue
        if entry.spec.kind is not Kind.SCALAR:
            batch += _single(entry, state, steps, walls)
        else:
            for run, _, values, held in _runs(entry.spec, state, steps):
                if held.all():
                    columns.setdefault((run, values.dtype), []).append((entry.spec.tag, values))
                elif held.any():
                    batch.append(
                        Scalars(
                            (entry.spec.tag,), steps[held], walls[held], values[held, None], run
                        )
                    )
    for (run, _), column in columns.items():
        tags, values = zip(*column, strict=True)
        batch.append(Scalars(tags, steps, walls, np.stack(values, axis=1), run))
    return batch


def _runs(
    spec: ReportSpec, state: State, steps: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """The runs that have values of a scalar: name, steps [N], values [N], and which of them count."""
    if spec.lanes:
        yield from seed_runs.columns(spec, state, steps, steps % spec.every == 0)
    else:
        held = _held(steps % spec.every == 0, state)
        yield "", steps, np.asarray(reducer(spec).finish(state)), held


def _held(due: np.ndarray, state: State) -> np.ndarray:
    """Which of the N points that are due hold something."""
    return due if isinstance(state.weight, int) else due & (state.weight > 0)


def _state(entry: Entry, packed: dict[str, np.ndarray]) -> State:
    value = jax.tree.unflatten(entry.value, [slot.read(packed) for slot in entry.slots])
    weight = entry.weight if isinstance(entry.weight, int) else entry.weight.read(packed)
    return State(value, weight)


def _at(state: State, index: Any) -> State:
    weight = state.weight if isinstance(state.weight, int) else state.weight[index]
    return State(jax.tree.map(lambda x: x[index], state.value), weight)


def _single(entry: Entry, state: State, steps: np.ndarray, walls: np.ndarray) -> Batch:
    spec = entry.spec
    due = steps % spec.every == 0
    if spec.lanes:
        return [
            found
            for i in range(len(steps))
            for found in seed_runs.points(spec, _at(state, i), steps[i], float(walls[i]), due[i])
        ]
    finish = reducer(spec).finish
    return [
        Record(spec.kind, spec.tag, int(steps[i]), float(walls[i]), finish(_at(state, i)))
        for i in np.flatnonzero(_held(due, state))
    ]


def _of_one_step(spec: ReportSpec, state: State, steps: np.ndarray) -> tuple[State, np.ndarray]:
    """Points that bring the same step as one, unless it is asked that they stay apart."""
    if spec.lanes or spec.kind is Composite.STACK:
        return state, steps
    unique, first, which = np.unique(steps, return_index=True, return_inverse=True)
    if len(unique) == len(steps):
        return state, steps
    collapse = reducer(spec).collapse
    order = np.argsort(first)
    made = [collapse(_at(state, np.flatnonzero(which == place))) for place in order]
    weights = [one.weight for one in made]
    value = jax.tree.map(lambda *x: np.stack(x), *(one.value for one in made))
    return State(value, np.array(weights)), unique[order]


def _points(entry: Entry, state: State, steps: np.ndarray, walls: np.ndarray) -> Batch:
    """Records of a report that brings its own steps: an axis of points in each frame."""
    spec, count = entry.spec, steps.shape[1]
    if not (spec.lanes and spec.kind is Kind.SCALAR):
        batch: Batch = []
        for frame in range(len(steps)):
            inner, own = _of_one_step(spec, _at(state, frame), steps[frame])
            batch += _single(entry, inner, own, np.full(len(own), walls[frame]))
        return batch
    # All frames at once: many runs make many points.
    flat = lambda x: x if isinstance(x, int) else x.reshape(-1, *x.shape[2:])  # noqa: E731
    state, steps = jax.tree.map(flat, (state, steps))
    times = np.repeat(walls, count)
    return [
        Scalars((spec.tag,), own[held], times[held], values[held, None], run)
        for run, own, values, held in seed_runs.columns(spec, state, steps, steps % spec.every == 0)
        if held.any()
    ]
