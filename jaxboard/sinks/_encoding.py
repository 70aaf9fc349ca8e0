"""Records to TensorBoard's events: one function per kind, in one table at the bottom.

Importing this module imports ``tensorboard`` (its messages), never ``tensorflow``.
"""

from __future__ import annotations

import io
import itertools
import math
import numbers
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jaxboard._errors import JaxboardWarning
from jaxboard.records import Batch, EncodedImage, Histogram, Kind, Record, Scalars, flatten
from jaxboard.sinks import _columns, _proto


class Events(NamedTuple):
    """Serialised events in one piece.

    One piece, so that a writer can take it apart without the interpreter lock.

    Attributes:
        data: the events, one after the other.
        sizes: int64[N], the length of each in bytes.
    """

    data: bytes
    sizes: np.ndarray


def encode(batch: Batch) -> Events:
    """The events of a batch, the points of a tag in the order in which they came.

    A value that cannot be encoded is left out with a :class:`JaxboardWarning` that names it:
    raising would only bring the same batch again.

    Example:
        >>> import numpy as np
        >>> encode([Record(Kind.SCALAR, "loss", 3, 1.0, np.float32(2))]).sizes
        array([30])
    """
    data: list[bytes] = []
    sizes: list[np.ndarray] = []
    for columns, run in itertools.groupby(batch, _is_scalar):
        for piece, lengths in _scalar_events(run) if columns else _value_events(run):
            data.append(piece)
            sizes.append(np.asarray(lengths, np.int64))
    return Events(b"".join(data), np.concatenate(sizes) if sizes else np.zeros(0, np.int64))


def start(step: int) -> Events:
    """The mark of a (re)start: readers drop what an earlier file holds from ``step`` on."""
    log = _proto.SessionLog(status=_proto.SessionLog.START)
    return _single(_proto.Event(wall_time=time.time(), step=step, session_log=log))


def session_end() -> Events:
    """The mark of a run that ended, for the HParams dashboard."""
    info = _proto.hparams_data.SessionEndInfo(
        status=_proto.hparams_api.STATUS_SUCCESS, end_time_secs=time.time()
    )
    data = _proto.hparams_data.HParamsPluginData(session_end_info=info)
    value = _hparams_value(_proto.hparams.SESSION_END_INFO_TAG, data)
    return _single(_proto.Event(wall_time=time.time(), summary=_proto.Summary(value=[value])))


def _single(event: Any) -> Events:
    data = event.SerializeToString()
    return Events(data, np.array([len(data)], np.int64))


def _is_scalar(item: Record | Scalars) -> bool:
    return isinstance(item, Scalars) or item.kind is Kind.SCALAR


# --- Scalars: through columns, also where they come singly. ---------------------------------------


def _scalar_events(items: Iterator[Any]) -> Iterator[tuple[bytes, Any]]:
    for block, run in itertools.groupby(items, lambda item: isinstance(item, Scalars)):
        for scalars in run if block else _by_tag(run):
            if len(scalars.steps) and scalars.tags:
                try:
                    data, size = _columns.encode(scalars)
                except Exception as error:  # Reported, see encode.
                    _refuse(scalars.tags, scalars.steps[0], error)
                else:
                    yield data, np.full(len(scalars.steps), size)


def _by_tag(records: Iterator[Record]) -> Iterator[Scalars]:
    tags: dict[str, list[Record]] = {}
    for record in records:
        tags.setdefault(record.tag, []).append(record)
    for tag, points in tags.items():
        yield Scalars(
            (tag,),
            np.array([point.step for point in points], np.int64),
            np.array([point.wall_time for point in points], np.float64),
            np.array([[point.value] for point in points]),
        )


# --- Everything else: messages, with the values of one moment in one event. -----------------------


def _value_events(records: Iterator[Any]) -> Iterator[tuple[bytes, Any]]:
    for (step, wall), run in itertools.groupby(records, lambda r: (r.step, r.wall_time)):
        values = []
        for record in run:
            try:
                values.append(_VALUES[record.kind](record))
            except Exception as error:  # Reported, see encode.
                _refuse((record.tag,), step, error)
        if values:
            event = _proto.Event(
                wall_time=float(_columns.finite_times(np.asarray(wall))),
                step=step,
                summary=_proto.Summary(value=values),
            )
            data = event.SerializeToString()
            yield data, [len(data)]


def _refuse(tags: tuple[str, ...], step: int, error: Exception) -> None:
    warnings.warn(
        f"report {', '.join(map(repr, tags))} of step {step} is left out, for it cannot be "
        f"encoded: {type(error).__name__}: {error}",
        JaxboardWarning,
        stacklevel=2,
    )


def _histogram(record: Record) -> Any:
    """float64[k, 3]: left edge, right edge, count (tensorboard/plugins/histogram/summary_v2.py)."""
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


def _image(record: Record) -> Any:
    """string[2 + N]: width, height, then N files (tensorboard/plugins/image/summary_v2.py)."""
    picture = record.value
    if isinstance(picture, EncodedImage):
        width, height, files = picture.width, picture.height, [picture.data]
    else:
        _, height, width, _ = picture.shape
        files = [_png(frame) for frame in picture]
    strings = [str(width).encode(), str(height).encode(), *files]
    tensor = _tensor(_proto.types.DT_STRING, (len(strings),), strings)
    return _value(record.tag, tensor, "images")


def _png(frame: np.ndarray) -> bytes:
    from PIL import Image

    if frame.dtype != np.uint8:
        raise TypeError(f"expected a uint8 image, got {frame.dtype}{list(frame.shape)}")
    file = io.BytesIO()
    grey = frame.shape[-1] == 1
    # Level 1: a third of the time of the default for files a few per cent larger.
    Image.fromarray(frame[..., 0] if grey else frame).save(file, "png", compress_level=1)
    return file.getvalue()


def _text(record: Record) -> Any:
    """A string (Markdown) or string[rows, columns] (tensorboard/plugins/text/summary_v2.py)."""
    if isinstance(record.value, str):
        tensor = _tensor(_proto.types.DT_STRING, (), [record.value.encode()])
    else:
        rows = [list(map(str, row)) for row in record.value]
        width = max(map(len, rows), default=0)
        cells = [cell.encode() for row in rows for cell in row + [""] * (width - len(row))]
        tensor = _tensor(_proto.types.DT_STRING, (len(rows), width), cells)
    return _value(record.tag, tensor, "text")


def _hparams(record: Record) -> Any:
    info = _proto.hparams_data.SessionStartInfo(start_time_secs=record.wall_time)
    for name, value in flatten(record.value).items():
        _set_hparam(info.hparams[name], value)
    data = _proto.hparams_data.HParamsPluginData(session_start_info=info)
    return _hparams_value(_proto.hparams.SESSION_START_INFO_TAG, data)


def _set_hparam(field: Any, value: Any) -> None:
    """Booleans and finite numbers as they are, all else as text: the dashboard knows no other."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):  # Before the numbers: a bool is an int.
        field.bool_value = value
    elif isinstance(value, numbers.Real) and math.isfinite(value):
        field.number_value = float(value)
    else:
        field.string_value = str(value)


def _hparams_value(tag: str, data: Any) -> Any:
    metadata = _proto.hparams.create_summary_metadata(data)
    return _proto.Summary.Value(tag=tag, metadata=metadata, tensor=_proto.hparams.NULL_TENSOR)


def _value(tag: str, tensor: Any, plugin: str) -> Any:
    # Readers look at the metadata of a tag's first value only, but which that is depends on the
    # files that are left to be read. It is 14 bytes: every value has it.
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


# Scalars are not here: they have no messages of their own but go by columns, above.
_VALUES: dict[Kind, Callable[[Record], Any]] = {
    Kind.HISTOGRAM: _histogram,
    Kind.IMAGE: _image,
    Kind.TEXT: _text,
    Kind.HPARAMS: _hparams,
}
