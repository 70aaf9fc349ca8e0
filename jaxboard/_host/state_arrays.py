"""The state of a run as arrays, which any format of checkpoints can store.

It is a dict of two NumPy arrays. One holds the step, for readers; the other holds everything as bytes: a description in
JSON, followed by the arrays that it refers to. Nothing is pickled.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias, cast

import jax
import numpy as np

from jaxboard._errors import UsageError
from jaxboard._frame import ReportSpec
from jaxboard._host.run_state import RunState, SavedPoint, SavedWindow
from jaxboard._log import describe, log_once
from jaxboard._safe_repr import safe_repr

SavedState: TypeAlias = dict[str, np.ndarray]
"""``step``: int64[]; ``contents``: uint8[N]."""

_FORMAT = "jaxboard 1"

_LENGTH = struct.Struct("<Q")
"""The length of the description, which is first."""

_MIN_BYTES = 4096

_OWN_MODULES = ("jaxboard._frame.", "jaxboard._reduce.", "jaxboard.records.")
"""The modules whose NamedTuples, dataclasses and enums may be in a state."""


def encode(state: RunState) -> SavedState:
    """Return a state as arrays.

    The size is a power of two, so that the state of one program nearly always has the same shape, as some
    checkpoint formats need.
    """
    writer = _Writer()
    description = {
        "format": _FORMAT,
        "step": state.step,
        "current": state.current,
        "has_steps": state.has_steps,
        "points": _storable(state.points, lambda point: point.spec, writer),
        "windows": _storable(state.windows, lambda window: window.point.spec, writer),
        "last_steps": state.last_steps,
        "found": state.found,
        "totals": state.totals,
    }
    text = json.dumps(description).encode()
    data = b"".join([_LENGTH.pack(len(text)), text, *writer.arrays])
    size = max(_MIN_BYTES, 1 << (len(data) - 1).bit_length())
    contents = np.frombuffer(data.ljust(size, b"\0"), np.uint8)
    return {"step": np.asarray(state.step, np.int64), "contents": contents}


def decode(saved: Any) -> RunState:
    """Return the state that :func:`encode` stored.

    Args:
        saved: the arrays, of NumPy or of JAX.

    Raises:
        UsageError: it is not such a state, or of another version of jaxboard.
    """
    try:
        data = np.asarray(saved["contents"]).tobytes()
        (length,) = _LENGTH.unpack_from(data)
        start = _LENGTH.size + length
        description = json.loads(data[_LENGTH.size : start])
        version = description["format"]
    except Exception as fault:
        raise UsageError(
            f"Run(state=...): expected the result of run.state(), got {_outline(saved)}."
        ) from fault
    if version != _FORMAT:
        raise _incompatible(description, f"its format is {version!r}, not {_FORMAT!r}")
    try:
        read = _Reader(data, start).read
        points = [read(each) for each in description["points"]]
        windows = [read(each) for each in description["windows"]]
    except Exception as fault:
        raise _incompatible(description, describe(fault)) from fault
    return RunState(
        description["step"],
        description["current"],
        description["has_steps"],
        tuple(SavedPoint(*each) for each in points),
        tuple(SavedWindow(name, run, SavedPoint(*point)) for name, run, point in windows),
        description["last_steps"],
        tuple(description["found"]),
        description["totals"],
        is_saved=True,
    )


def _incompatible(description: dict[str, Any], reason: str) -> UsageError:
    return UsageError(
        f"Run(state=...): the state is of another version of jaxboard, or was changed: {reason}. Pass "
        f"step={description.get('step')} instead: incomplete windows then start again."
    )


def _outline(value: object) -> str:
    if isinstance(value, Mapping):
        keys = cast("Mapping[object, object]", value).keys()
        return f"a dict with the keys {sorted(map(safe_repr, keys))}"
    return type(value).__name__


def _storable(
    items: Iterable[Any], spec_of: Callable[[Any], ReportSpec], writer: _Writer
) -> list[Any]:
    """Return what can be stored, and warn of the rest."""
    stored: list[Any] = []
    for item in items:
        try:
            stored.append(writer.write(tuple(item)))
        except TypeError as fault:
            tag = spec_of(item).tag
            log_once(
                ("not in a state", tag),
                f"the incomplete point of {tag!r} is not in run.state(): {fault}. A resumed run starts it again.",
            )
    return stored


class _Writer:
    """Makes JSON of values, and collects the bytes of their arrays."""

    def __init__(self) -> None:
        self.arrays: list[bytes] = []
        self._size = 0

    def write(self, value: Any) -> Any:
        """Return a value as JSON. Its arrays are bytes from an offset on.

        Raises:
            TypeError: it cannot be stored.
        """
        if isinstance(value, np.ndarray | np.generic):  # Some are also Python numbers.
            array: np.ndarray[Any, Any] = np.asarray(cast("Any", value))
            offset = self._size
            self.arrays.append(array.tobytes())
            self._size += array.nbytes
            kind = "array" if isinstance(value, np.ndarray) else "number"
            return {kind: [str(array.dtype), list(array.shape), offset]}
        if isinstance(value, enum.Enum):
            return {"enum": [*_class_name(type(value)), value.name]}
        if value is None or isinstance(value, bool | str | float | int):
            return value
        if isinstance(value, list):
            return {"list": [self.write(part) for part in cast("list[Any]", value)]}
        if isinstance(value, tuple):
            parts = cast("tuple[Any, ...]", value)
            items = [self.write(part) for part in parts]
            if type(parts) is tuple or isinstance(parts, SavedPoint):
                return {"tuple": items}
            return {"class": [*_class_name(type(parts)), items]}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value) if field.init]
            fields = [self.write(getattr(value, name)) for name in names]
            return {"class": [*_class_name(type(value)), fields]}
        raise TypeError(f"a {type(value).__name__} cannot be stored")


class _Reader:
    """Makes values of JSON.

    Args:
        data: the bytes of the state.
        start: where those of the arrays begin.
    """

    def __init__(self, data: bytes, start: int) -> None:
        self._data = data
        self._start = start

    def read(self, value: Any) -> Any:
        """Return the value that :meth:`_Writer.write` stored."""
        if not isinstance(value, dict):
            return value
        ((kind, content),) = cast("dict[str, Any]", value).items()
        if kind == "tuple":
            return tuple(map(self.read, content))
        if kind == "list":
            return list(map(self.read, content))
        if kind == "enum":
            return _own_class(content[0], content[1])[content[2]]
        if kind == "class":
            return _own_class(content[0], content[1])(*map(self.read, content[2]))
        name, shape, offset = content
        dtype = jax.numpy.dtype(name)
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(self._data, dtype, count, self._start + offset).reshape(shape)
        return array.copy() if kind == "array" else array[()]


def _class_name(cls: type) -> tuple[str, str]:
    if not f"{cls.__module__}.".startswith(_OWN_MODULES):
        raise TypeError(f"a {cls.__name__} cannot be stored")
    return cls.__module__, cls.__qualname__


def _own_class(module: str, name: str) -> Any:
    if not f"{module}.".startswith(_OWN_MODULES):
        raise ValueError(f"a state cannot contain {module}.{name}")
    return getattr(importlib.import_module(module), name)
