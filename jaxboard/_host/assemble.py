"""From frames to records: many frames of one plan at once, in columns."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jaxboard._frame import Entry, Frame
from jaxboard._record import Batch, Kind, Record, Scalars
from jaxboard.reduce import State, reducer


class Assembler:
    """Makes batches for the sinks of what the buffer held. Used by one thread, the flusher."""

    def assemble(self, items: list[Frame | Record]) -> Batch:
        """The records in ``items``; the arrays of frames are NumPy's by now."""
        batch: Batch = []
        # By identity: frames of one program share their plan, and hashing it takes microseconds.
        by_plan: dict[int, list[Frame]] = {}
        for item in items:
            if isinstance(item, Record):
                batch.append(item)
            else:
                by_plan.setdefault(id(item.plan), []).append(item)
        made = [record for frames in by_plan.values() for record in _records(frames)]
        # In the order they were made: TensorBoard drops points that go back.
        singles = [record for record in made if isinstance(record, Record)]
        batch += sorted(singles, key=lambda record: record.wall_time)
        batch += _in_order([columns for columns in made if isinstance(columns, Scalars)])
        return batch

    def finish(self) -> Batch:
        """What is still held back when the run closes: nothing, since every step is complete."""
        return []


def _in_order(columns: list[Scalars]) -> list[Scalars]:
    """Columns in which each tag stands once, its points in the order they were made."""
    homes: dict[str, set[Any]] = {}
    for column in columns:
        for tag in column.tags:
            homes.setdefault(tag, set()).add((column.tags, column.values.dtype))
    parts: dict[Any, list[Scalars]] = {}
    for column in columns:
        if all(len(homes[tag]) == 1 for tag in column.tags):
            parts.setdefault(column.tags, []).append(column)
            continue
        # Programs for different steps report different sets of tags: tag by tag, then.
        for place, tag in enumerate(column.tags):
            values = column.values[:, place, None]
            alone = Scalars((tag,), column.steps, column.wall_times, values)
            parts.setdefault(alone.tags, []).append(alone)
    return [same[0] if len(same) == 1 else _merged(same) for same in parts.values()]


def _merged(columns: list[Scalars]) -> Scalars:
    walls = np.concatenate([column.wall_times for column in columns])
    order = np.argsort(walls, kind="stable")
    steps = np.concatenate([column.steps for column in columns])
    values = np.concatenate([column.values for column in columns])
    return Scalars(columns[0].tags, steps[order], walls[order], values[order])


def _records(frames: list[Frame]) -> Batch:
    """What frames of one plan hold."""
    plan = frames[0].plan
    packed = {
        dtype: np.stack([frame.arrays[dtype] for frame in frames]) for dtype in frames[0].arrays
    }
    if plan.step is not None:
        steps = plan.step.read(packed).astype(np.int64)
    else:
        steps = np.array([frame.step for frame in frames], np.int64)
    walls = np.array([frame.wall_time for frame in frames])

    batch: Batch = []
    columns: dict[Any, list[tuple[str, np.ndarray]]] = {}
    for entry in plan.entries:
        state = _state(entry, packed)
        if entry.step is not None:
            batch += _points(entry, state, entry.step.read(packed), walls)
            continue
        keep = steps % entry.spec.every == 0
        if not isinstance(state.weight, int):
            keep &= state.weight > 0
        if entry.spec.kind is not Kind.SCALAR:
            batch += _single(entry, state, steps, walls, keep)
        else:
            values = np.asarray(reducer(entry.spec).finish(state))
            if keep.all():
                columns.setdefault(values.dtype, []).append((entry.spec.tag, values))
            elif keep.any():
                batch.append(
                    Scalars((entry.spec.tag,), steps[keep], walls[keep], values[keep, None])
                )
    for column in columns.values():
        tags, values = zip(*column, strict=True)
        batch.append(Scalars(tags, steps, walls, np.stack(values, axis=1)))
    return batch


def _state(entry: Entry, packed: dict[str, np.ndarray]) -> State:
    value = jax.tree.unflatten(entry.value, [slot.read(packed) for slot in entry.slots])
    weight = entry.weight if isinstance(entry.weight, int) else entry.weight.read(packed)
    return State(value, weight)


def _at(state: State, index: Any) -> State:
    weight = state.weight if isinstance(state.weight, int) else state.weight[index]
    return State(jax.tree.map(lambda x: x[index], state.value), weight)


def _single(
    entry: Entry, state: State, steps: np.ndarray, walls: np.ndarray, keep: np.ndarray
) -> Batch:
    finish = reducer(entry.spec).finish
    return [
        Record(
            entry.spec.kind, entry.spec.tag, int(steps[i]), float(walls[i]), finish(_at(state, i))
        )
        for i in np.flatnonzero(keep)
    ]


def _points(entry: Entry, state: State, steps: np.ndarray, walls: np.ndarray) -> Batch:
    """Records of a report that brings its own steps: an axis of points in each frame."""
    batch: Batch = []
    for frame, own in enumerate(steps):
        inner = _at(state, frame)
        keep = own % entry.spec.every == 0
        if not isinstance(inner.weight, int):
            keep &= inner.weight > 0
        batch += _single(entry, inner, own, np.full(len(own), walls[frame]), keep)
    return batch
