"""The layout of an event with scalars: the bytes that differ between events which a program writes in a loop.

These are the wall time, the step and the floats. Events with equal bits elsewhere are decoded together, in columns.

Wire format: https://protobuf.dev/programming-guides/encoding/ and the files named in ``sinks/_columns.py``;
tensorflow/core/framework/tensor.proto (TensorProto: 1 dtype, 2 tensor_shape, 3 version_number, 4 tensor_content,
5 float_val, 6 double_val).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Layout(NamedTuple):
    """The places of the parts of an event of ``size`` bytes.

    Attributes:
        structure: uint64[ceil(size / 8)], the bits that decide where the parts are. Events that have them in common
            have a common layout.
        names: the bits of tags and metadata, in the same form.
        wall_time: the place of its eight bytes.
        step: the place of its varint; empty if the step is 0 and left out.
        values: int64[K, width], the places of the bytes of the floats: ``width`` is 4 or 8.
    """

    structure: np.ndarray
    names: np.ndarray
    wall_time: slice
    step: slice
    values: np.ndarray


class _Unsupported(Exception):  # noqa: N818 (it is caught here)
    """The event has another form, or is damaged."""


def find_layout(event: bytes) -> Layout | None:
    """Return the layout of an event; None if it holds anything but scalars, or is damaged.

    Example:
        >>> from jaxboard.sinks import _proto
        >>> value = _proto.Summary.Value(tag="loss", simple_value=0.5)
        >>> event = _proto.Event(wall_time=1.0, step=3, summary=_proto.Summary(value=[value]))
        >>> find_layout(event.SerializeToString()).values
        array([[22, 23, 24, 25]])
    """
    parts = _Parts(len(event))
    try:
        parts.read_event(event)
        return parts.layout()
    except (_Unsupported, IndexError):
        return None


class _Parts:
    """The parts of one event that were found so far."""

    def __init__(self, size: int) -> None:
        padding = bytes(-size % 8)
        self._structure = bytearray(size * b"\xff" + padding)
        self._names = bytearray(size + len(padding))
        self._wall_time: slice | None = None
        self._step: slice | None = None
        self._values: list[tuple[int, int]] = []
        self._summaries = 0

    def layout(self) -> Layout:
        widths = {end - start for start, end in self._values}
        if self._wall_time is None or self._summaries != 1 or len(widths) != 1:
            raise _Unsupported
        return Layout(
            np.frombuffer(self._structure, np.uint64),
            np.frombuffer(self._names, np.uint64),
            self._wall_time,
            self._step or slice(0, 0),
            np.array([range(start, end) for start, end in self._values], np.int64),
        )

    def read_event(self, data: bytes) -> None:
        for field, start, end in _fields(data, 0, len(data)):
            if field == (1, _FIXED64) and self._wall_time is None:
                self._wall_time = slice(start, end)
                self._vary(start, end)
            elif field == (2, _VARINT) and self._step is None:
                self._step = slice(start, end)
                self._structure[start:end] = (end - start) * b"\x80"
            elif field == (5, _BYTES):
                self._summaries += 1
                for field, start, end in _fields(data, start, end):  # noqa: B020, PLW2901
                    _require(field == (1, _BYTES))
                    self._read_value(data, start, end)
            else:
                raise _Unsupported

    def _read_value(self, data: bytes, start: int, end: int) -> None:
        values = len(self._values)
        for field, first, last in _fields(data, start, end):
            if field in ((1, _BYTES), (9, _BYTES)):
                self._vary(first, last)
                self._names[first:last] = (last - first) * b"\xff"
            elif field == (2, _FIXED32):
                self._add_value(first, last)
            elif field == (8, _BYTES):
                self._read_tensor(data, first, last)
            else:
                raise _Unsupported
        _require(len(self._values) == values + 1)

    def _read_tensor(self, data: bytes, start: int, end: int) -> None:
        for field, first, last in _fields(data, start, end):
            if field in ((4, _BYTES), (5, _BYTES), (5, _FIXED32), (6, _BYTES), (6, _FIXED64)):
                _require(last - first in (4, 8))
                self._add_value(first, last)
            else:
                _require(field in ((1, _VARINT), (2, _BYTES), (3, _VARINT)))

    def _add_value(self, start: int, end: int) -> None:
        self._values.append((start, end))
        self._vary(start, end)

    def _vary(self, start: int, end: int) -> None:
        self._structure[start:end] = bytes(end - start)


def _fields(data: bytes, position: int, end: int) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Yield the fields of a message: the number and the wire type, and where the value begins and ends."""
    while position < end:
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            _, last = _varint(data, position)
        elif wire_type == _BYTES:
            size, position = _varint(data, position)
            last = position + size
        else:
            _require(wire_type in (_FIXED32, _FIXED64))
            last = position + (4 if wire_type == _FIXED32 else 8)
        _require(last <= end)
        yield (number, wire_type), position, last
        position = last


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Return a number, and where it ends."""
    number = 0
    for place in range(10):
        byte = data[position + place]
        number |= (byte & 127) << 7 * place
        if byte < 128:
            return number, position + place + 1
    raise _Unsupported


def _require(condition: bool) -> None:
    if not condition:
        raise _Unsupported
