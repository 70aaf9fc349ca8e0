"""The contents of the event files of one run, with scalars in columns.

A message takes 5 to 10 µs through its class, and a scalar in columns 0.3 µs. Events of one length and one layout are
decoded together; only one event of each set of tags goes through the class, which also checks the layout. All others, such
as images, are read one by one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxboard._read.event_layout import Layout, find_layout
from jaxboard._read.framing import Block
from jaxboard._read.summary_values import UNKNOWN, UnreadableValue, as_scalar, kind_of
from jaxboard.sinks import _proto

_FEW = 4
"""Most events of one length that are read one by one."""
_LONG_BYTES = 1 << 16
"""The length of an event from which on it is read alone."""
_ROWS_BYTES = 1 << 21
"""The size of the events that are decoded together, so that they are in a processor's cache."""
_MAX_LAYOUTS = 64
"""Most layouts among events that are decoded together; the others are read one by one."""
_KNOWN_EVENTS = 1 << 16
"""Most sets of tags that are remembered."""
_UNWANTED, _NOT_SCALARS = -1, -2
_FACTORS = 2 * np.random.default_rng(0).integers(
    0, 1 << 63, _LONG_BYTES // 8, np.uint64
) + np.uint64(1)
"""Odd factors of a hash, one for each word of an event."""


class Points(NamedTuple):
    """Points in columns: arrays [N].

    Attributes:
        tags: int32, indices into :attr:`Contents.tags`.
        records: int64, the number of the record that each comes from.
        steps: int64.
        wall_times: float64.
        values: float64 for scalars; for other kinds, objects: each a ``Summary.Value``.
    """

    tags: np.ndarray
    records: np.ndarray
    steps: np.ndarray
    wall_times: np.ndarray
    values: np.ndarray


@dataclasses.dataclass
class Contents:
    """The contents of some event files, in which records are numbered consecutively.

    Attributes:
        tags: the tags of the points.
        points: the points of the wanted kind and tags.
        restarts: the records that mark a restart, each with its step.
        hidden: by tag, the records that hide earlier points of that tag, each with the first step that it hides.
        kinds: the kinds of each tag, each with its first record.
        unreadable: the records that are not events, or have a value that is not of its kind. The second item is a tag
            or None.
        wrong_times: the records whose wall time is NaN or infinite.
        records: the number of records.
    """

    tags: list[str] = dataclasses.field(default_factory=list)
    points: list[Points] = dataclasses.field(default_factory=list)
    restarts: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    hidden: dict[str, list[tuple[int, int]]] = dataclasses.field(default_factory=dict)
    kinds: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    unreadable: list[tuple[int, str | None]] = dataclasses.field(default_factory=list)
    wrong_times: list[int] = dataclasses.field(default_factory=list)
    records: int = 0

    def all_points(self) -> Points:
        """Return the points of all blocks, in no particular order."""
        if not self.points:
            return Points(
                np.zeros(0, np.int32),
                np.zeros(0, np.int64),
                np.zeros(0, np.int64),
                np.zeros(0, np.float64),
                np.zeros(0, np.float64),
            )
        return Points(*map(np.concatenate, zip(*self.points, strict=True)))


class EventReader:
    """A reader of the records of one run.

    Args:
        kind: the kind of values to keep.
        wants: returns whether to keep the values of a tag.

    Attributes:
        contents: what was read so far.
    """

    def __init__(self, kind: str, wants: Callable[[str], bool]) -> None:
        self.contents = Contents()
        self._kind = kind
        self._wants = wants
        self._ids: dict[str, int] = {}
        self._known: dict[bytes, np.ndarray | None] = {}

    def read(self, block: Block) -> None:
        """Read the records of a block."""
        order = np.argsort(block.sizes, kind="stable")
        lengths, first = np.unique(block.sizes[order], return_index=True)
        single: list[np.ndarray] = []
        for length, group in zip(lengths.tolist(), np.split(order, first[1:]), strict=True):
            if len(group) <= _FEW or length >= _LONG_BYTES or not length:
                single.append(group)
                continue
            rows = max(1, _ROWS_BYTES // length)
            for begin in range(0, len(group), rows):
                single += self._read_equal(block, group[begin : begin + rows], length)
        if single:
            self._read_single(block, np.sort(np.concatenate(single)))
        self.contents.records += len(block.starts)

    # --- Many events of one length ----------------------------------------------------------------

    def _read_equal(self, block: Block, group: np.ndarray, length: int) -> Iterator[np.ndarray]:
        """Read events of one length. Yield the places of those that have to be read one by one."""
        padded = length + -length % 8
        fits = block.starts[group] + padded <= len(block.data)
        yield group[~fits]
        group = group[fits]
        positions = np.ndarray(
            max(0, len(block.data) - padded + 1), f"V{padded}", block.data, strides=(1,)
        )
        words = positions[block.starts[group]].view(np.uint64).reshape(len(group), -1)
        skipped: list[int] = []
        layouts = 0
        while len(group) and layouts < _MAX_LAYOUTS:
            layout = find_layout(words[0].tobytes()[:length])
            if layout is None:
                skipped.append(int(group[0]))
                group, words = group[1:], words[1:]
                continue
            layouts += 1
            same = ~((words ^ words[0]) & layout.structure).any(axis=1)
            if same.all():
                yield self._read_rows(group, words, layout, length)
                group = group[:0]
            else:
                yield self._read_rows(group[same], words[same], layout, length)
                group, words = group[~same], words[~same]
        yield np.array(skipped, np.int64)
        yield group

    def _read_rows(
        self, group: np.ndarray, words: np.ndarray, layout: Layout, length: int
    ) -> np.ndarray:
        """Read events of one layout and return the places of those that have to be read one by one."""
        names = words & layout.names
        if (names == names[0]).all():
            first, inverse = np.zeros(1, np.int64), np.zeros(len(group), np.int64)
            is_read = np.ones(len(group), np.bool_)
        else:
            hashes = (names * _FACTORS[: names.shape[1]]).sum(axis=1, dtype=np.uint64)
            _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
            is_read = ~(names ^ names[first[inverse]]).any(axis=1)  # False if two hashes collide.
        records = self.contents.records + group
        columns = _columns(words.view(np.uint8), layout)
        known = [
            self._tags_of(words[place], layout, length, records[place], [c[place] for c in columns])
            for place in first.tolist()
        ]
        ids = np.array(known)[inverse]
        is_read &= ids[:, 0] != _NOT_SCALARS
        kept = ((ids >= 0) & is_read[:, None]).ravel()
        steps, wall_times, values = columns
        self.contents.wrong_times += records[is_read & ~np.isfinite(wall_times)].tolist()
        repeats = ids.shape[1]
        self.contents.points.append(
            Points(
                ids.ravel()[kept],
                np.repeat(records, repeats)[kept],
                np.repeat(steps, repeats)[kept],
                np.repeat(wall_times, repeats)[kept],
                values.ravel()[kept],
            )
        )
        return group[~is_read]

    def _tags_of(
        self, words: np.ndarray, layout: Layout, length: int, record: int, decoded: list[Any]
    ) -> np.ndarray:
        """Return the numbers of the tags of an event: int32[K], with ``_UNWANTED`` for each that is not kept.

        All of them are ``_NOT_SCALARS`` if events with this structure and these names have to be read one by one.
        """
        key = (words & (layout.names | layout.structure)).tobytes()
        known = self._known.get(key)
        if known is None:
            known = self._learn(words.tobytes()[:length], record, decoded)
            if known is None:
                known = np.full(len(layout.values), _NOT_SCALARS, np.int32)
            if len(self._known) >= _KNOWN_EVENTS:
                self._known.clear()
            self._known[key] = known
        return known

    def _learn(self, data: bytes, record: int, decoded: list[Any]) -> np.ndarray | None:
        """Read an event through its class. Return the numbers of its tags, or None if the columns differ from it."""
        try:
            event = _proto.Event.FromString(data)
            values = [as_scalar(value) for value in event.summary.value]
        except (_proto.DecodeError, UnreadableValue):
            return None
        expected = np.array([event.step, event.wall_time, *values], np.float64)
        found = np.array([decoded[0], decoded[1], *decoded[2]], np.float64)
        if expected.tobytes() != found.tobytes() or any(
            kind_of(value) != "scalar" for value in event.summary.value
        ):
            return None
        for value in event.summary.value:
            self._note(value.tag, "scalar", record)
        return np.array([self._tag(value.tag, "scalar") for value in event.summary.value], np.int32)

    # --- Single events ----------------------------------------------------------------------------

    def _read_single(self, block: Block, places: np.ndarray) -> None:
        points: list[tuple[int, int, int, float, Any]] = []
        starts, sizes = block.starts[places].tolist(), block.sizes[places].tolist()
        for place, start, size in zip(places.tolist(), starts, sizes, strict=True):
            record = self.contents.records + place
            try:
                event = _proto.Event.FromString(block.data[start : start + size])
            except _proto.DecodeError:
                self.contents.unreadable.append((record, None))
                continue
            if event.session_log.status == _proto.SessionLog.START:
                self.contents.restarts.append((record, event.step))
            if not math.isfinite(event.wall_time):
                self.contents.wrong_times.append(record)
            for value in event.summary.value:
                if value.WhichOneof("value") == _proto.HIDING:
                    self.contents.hidden.setdefault(value.tag, []).append((record, event.step))
                    continue
                try:
                    tag, content = self._read_value(value, record)
                except UnreadableValue:
                    self.contents.unreadable.append((record, value.tag))
                    continue
                if tag >= 0:
                    points.append((tag, record, event.step, event.wall_time, content))
        if points:
            tags, records, steps, wall_times, contents = zip(*points, strict=True)
            values = np.empty(len(points), np.float64 if self._kind == "scalar" else np.object_)
            values[:] = contents
            self.contents.points.append(
                Points(
                    np.array(tags, np.int32),
                    np.array(records, np.int64),
                    np.array(steps, np.int64),
                    np.array(wall_times, np.float64),
                    values,
                )
            )

    def _read_value(self, value: Any, record: int) -> tuple[int, Any]:
        """Return the number of the tag of a value, and its number or itself."""
        # Some writers store the kind only in the first value of a tag.
        kind = kind_of(value) or next(iter(self.contents.kinds.get(value.tag, ())), UNKNOWN)
        self._note(value.tag, kind, record)
        content = as_scalar(value) if kind == "scalar" else value
        return self._tag(value.tag, kind), content

    def _note(self, tag: str, kind: str, record: int) -> None:
        kinds = self.contents.kinds.setdefault(tag, {})
        kinds[kind] = min(kinds.get(kind, record), record)

    def _tag(self, tag: str, kind: str) -> int:
        """Return the number of a tag, or ``_UNWANTED``."""
        if kind != self._kind:
            return _UNWANTED
        number = self._ids.get(tag)
        if number is None:
            number = _UNWANTED
            if self._wants(tag):
                number = len(self.contents.tags)
                self.contents.tags.append(tag)
            self._ids[tag] = number
        return number


def _columns(rows: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the steps int64[N], wall times float64[N] and values float64[N, K] of events uint8[N, size]."""
    steps = np.zeros(len(rows), np.uint64)
    for place, byte in enumerate(range(layout.step.start, layout.step.stop)):
        steps |= (rows[:, byte] & 127).astype(np.uint64) << np.uint64(7 * place)
    wall_times = np.ascontiguousarray(rows[:, layout.wall_time]).view("<f8")[:, 0]
    count, width = layout.values.shape
    floats = np.ascontiguousarray(rows[:, layout.values.ravel()])
    values = floats.view(f"<f{width}").reshape(len(rows), count)
    with np.errstate(invalid="ignore"):  # A signaling NaN becomes a quiet one.
        return steps.view(np.int64), wall_times.astype(np.float64), values.astype(np.float64)
