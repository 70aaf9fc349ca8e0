"""The encoding of records as TensorBoard's events: one function per kind, in one table at the bottom.

This module imports ``tensorboard`` (for its messages) and never ``tensorflow``.
"""

from __future__ import annotations

import io
import itertools
import math
import numbers
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from jaxboard._errors import JaxboardWarning
from jaxboard.records import Batch, EncodedImage, Histogram, Kind, Record, Scalars, flatten
from jaxboard.sinks import _columns, _proto


class Events(NamedTuple):
    """Serialised events, concatenated, so that a writer can split them without the interpreter lock.

    Attributes:
        data: the events, one after the other.
        sizes: int64[N], the length of each event in bytes.
    """

    data: bytes
    sizes: np.ndarray


def encode(batch: Batch) -> Events:
    """Return the events of a batch, with the points of each tag in their original order.

    A value that cannot be encoded is left out, with a :class:`JaxboardWarning` that names it. Raising
    would only make the run write the same batch again.

    Example:
        >>> import numpy as np
        >>> encode([Record(Kind.SCALAR, "loss", 3, 1.0, np.float32(2))]).sizes
        array([30])
    """
    events: list[Events] = []
    for is_scalar, items in itertools.groupby(batch, _is_scalar):
        encoder = _scalar_events if is_scalar else _value_events
        events += encoder(items)
    sizes = [sizes for _, sizes in events]
    return Events(
        b"".join(data for data, _ in events),
        np.concatenate(sizes) if sizes else np.zeros(0, np.int64),
    )


def session_start(step: int) -> Events:
    """Return the mark of a (re)start: readers drop what earlier files hold from ``step`` on."""
    log = _proto.SessionLog(status=_proto.SessionLog.START)
    return _single(_proto.Event(wall_time=time.time(), step=step, session_log=log))


def session_end() -> Events:
    """Return the mark of a finished run, for the HParams dashboard."""
    info = _proto.hparams_data.SessionEndInfo(
        status=_proto.hparams_api.STATUS_SUCCESS, end_time_secs=time.time()
    )
    data = _proto.hparams_data.HParamsPluginData(session_end_info=info)
    value = _hparams_value(_proto.hparams.SESSION_END_INFO_TAG, data)
    return _single(_proto.Event(wall_time=time.time(), summary=_proto.Summary(value=[value])))


def _single(event: _proto.Message) -> Events:
    data = event.SerializeToString()
    return Events(data, np.array([len(data)], np.int64))


def _is_scalar(item: Record | Scalars) -> bool:
    return isinstance(item, Scalars) or item.kind is Kind.SCALAR


# --- Scalars: encoded in columns, including single ones. ------------------------------------------


def _scalar_events(items: Iterable[Record | Scalars]) -> Iterator[Events]:
    for scalars in _columns_of(items):
        if len(scalars.steps) and scalars.tags:
            try:
                data, size = _columns.encode(scalars)
            except Exception as error:  # Warned about, see encode.
                _warn_left_out(scalars.tags, scalars.steps[0], error)
            else:
                yield Events(data, np.full(len(scalars.steps), size, np.int64))


def _columns_of(items: Iterable[Record | Scalars]) -> Iterator[Scalars]:
    """Yield the blocks unchanged, and the single records between two of them as one block per tag."""
    tags: dict[str, list[Record]] = {}
    for item in items:
        if isinstance(item, Record):
            tags.setdefault(item.tag, []).append(item)
        else:
            yield from map(_column, tags.values())
            tags.clear()
            yield item
    yield from map(_column, tags.values())


def _column(points: list[Record]) -> Scalars:
    return Scalars(
        (points[0].tag,),
        np.array([point.step for point in points], np.int64),
        np.array([point.wall_time for point in points], np.float64),
        np.array([[point.value] for point in points]),
    )


# --- Other kinds: messages. Values with one step and one wall time share an event. ----------------


def _value_events(records: Iterable[Record | Scalars]) -> Iterator[Events]:
    singles = (record for record in records if isinstance(record, Record))  # All of them are.
    for (step, wall_time), group in itertools.groupby(singles, lambda r: (r.step, r.wall_time)):
        values: list[_proto.Message] = []
        for record in group:
            try:
                values.append(_ENCODERS[record.kind](record))
            except Exception as error:  # Warned about, see encode.
                _warn_left_out((record.tag,), step, error)
        if values:
            yield _single(
                _proto.Event(
                    wall_time=float(_columns.finite_times(np.asarray(wall_time))),
                    step=step,
                    summary=_proto.Summary(value=values),
                )
            )


def _warn_left_out(tags: tuple[str, ...], step: int, error: Exception) -> None:
    warnings.warn(
        f"report {', '.join(map(repr, tags))} of step {step} is left out because it cannot be "
        f"encoded: {type(error).__name__}: {error}",
        JaxboardWarning,
        stacklevel=2,
    )


def _histogram(record: Record) -> _proto.Message:
    """Return float64[k, 3]: left edge, right edge, count (tensorboard/plugins/histogram/summary_v2.py)."""
    value: Histogram = record.value
    table = np.empty((len(value.counts), 3), "<f8")
    if len(value.counts):
        table[:, 0] = value.edges[:-1]
        table[:, 1] = value.edges[1:]
        table[:, 2] = value.counts
    table = table[np.isfinite(table).all(axis=1)]  # One infinite edge blanks the whole card.
    tensor = _tensor(_proto.types.DT_DOUBLE, table.shape)
    tensor.tensor_content = table.tobytes()
    return _value(record.tag, tensor, "histograms")


def _image(record: Record) -> _proto.Message:
    """Return string[2 + N]: width, height, then N files (tensorboard/plugins/image/summary_v2.py)."""
    image: EncodedImage | np.ndarray = record.value
    if isinstance(image, EncodedImage):
        width, height, files = image.width, image.height, [image.data]
    else:
        _, height, width, _ = image.shape
        files = [_png(sample) for sample in image]
    strings = [str(width).encode(), str(height).encode(), *files]
    tensor = _tensor(_proto.types.DT_STRING, (len(strings),), strings)
    return _value(record.tag, tensor, "images")


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    if pixels.dtype != np.uint8:
        raise TypeError(f"expected a uint8 image, got {pixels.dtype}{list(pixels.shape)}")
    file = io.BytesIO()
    grey = pixels.shape[-1] == 1
    # Level 1 takes a third of the default's time, and the files are a few per cent larger.
    Image.fromarray(pixels[..., 0] if grey else pixels).save(file, "png", compress_level=1)
    return file.getvalue()


def _text(record: Record) -> _proto.Message:
    """Return a string (Markdown) or string[rows, columns] (tensorboard/plugins/text/summary_v2.py)."""
    if isinstance(record.value, str):
        tensor = _tensor(_proto.types.DT_STRING, (), [record.value.encode()])
    else:
        rows = [list(map(str, row)) for row in record.value]
        width = max(map(len, rows), default=0)
        cells = [cell.encode() for row in rows for cell in row + [""] * (width - len(row))]
        tensor = _tensor(_proto.types.DT_STRING, (len(rows), width), cells)
    return _value(record.tag, tensor, "text")


def _hparams(record: Record) -> _proto.Message:
    info = _proto.hparams_data.SessionStartInfo(start_time_secs=record.wall_time)
    for name, value in flatten(record.value).items():
        _set_hparam(info.hparams[name], value)
    data = _proto.hparams_data.HParamsPluginData(session_start_info=info)
    return _hparams_value(_proto.hparams.SESSION_START_INFO_TAG, data)


class _HParam(Protocol):
    """``google.protobuf.Value``, as far as it is used here."""

    bool_value: bool
    number_value: float
    string_value: str


def _set_hparam(field: _HParam, value: object) -> None:
    """Store booleans and finite numbers as such, everything else as text, the dashboard's third type."""
    number: object = (
        cast("np.generic[object]", value).item() if isinstance(value, np.generic) else value
    )
    if isinstance(number, bool):  # Before the numbers: a bool is an int.
        field.bool_value = number
    elif isinstance(number, numbers.Real) and math.isfinite(number):
        field.number_value = float(number)
    else:
        field.string_value = str(number)


def _hparams_value(tag: str, data: _proto.Message) -> _proto.Message:
    metadata = _proto.hparams.create_summary_metadata(data)
    return _proto.Summary.Value(tag=tag, metadata=metadata, tensor=_proto.hparams.NULL_TENSOR)


def _value(tag: str, tensor: _proto.Message, plugin: str) -> _proto.Message:
    # Readers use only the metadata of a tag's first value, but which value is the first depends on
    # the files that are left. Every value therefore carries the 14 bytes.
    metadata = _proto.SummaryMetadata(
        plugin_data=_proto.SummaryMetadata.PluginData(plugin_name=plugin)
    )
    return _proto.Summary.Value(tag=tag, tensor=tensor, metadata=metadata)


def _tensor(dtype: int, shape: tuple[int, ...], strings: list[bytes] | None = None) -> Any:
    tensor = _proto.TensorProto(dtype=dtype, string_val=strings or [])
    tensor.tensor_shape.SetInParent()
    for size in shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


# Scalars are encoded in columns, above.
_ENCODERS: dict[Kind, Callable[[Record], _proto.Message]] = {
    Kind.HISTOGRAM: _histogram,
    Kind.IMAGE: _image,
    Kind.TEXT: _text,
    Kind.HPARAMS: _hparams,
}
