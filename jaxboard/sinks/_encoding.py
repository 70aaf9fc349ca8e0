"""The encoding of records as TensorBoard's events: one function per kind, in one table at the bottom.

This module imports ``tensorboard`` (for its messages) and never ``tensorflow``.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import math
import numbers
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from jaxboard._log import describe
from jaxboard.records import (
    Batch,
    ConfusionMatrix,
    EncodedImage,
    Histogram,
    Kind,
    Margin,
    MetricGoals,
    Record,
    Scalars,
    ThresholdCounts,
    flatten,
)
from jaxboard.sinks import _columns, _markdown, _proto
from jaxboard.sinks._lost import Lose


class Events(NamedTuple):
    """Serialised events, concatenated, so that a writer can split them without the interpreter lock.

    Attributes:
        data: the events, one after the other.
        sizes: int64[N], the length of each event in bytes.
        end_step: one more than the largest step; 0 if there is none.
    """

    data: bytes
    sizes: np.ndarray
    end_step: int = 0


def encode(batch: Batch, lose: Lose) -> Events:
    """Return the events of a batch, with the points of each tag in their original order.

    Args:
        batch: the records.
        lose: called for each record that cannot be encoded; the others are. Raising an exception would make
            the run write the same batch again.

    Example:
        >>> import numpy as np
        >>> encode([Record(Kind.SCALAR, "loss", 3, 1.0, np.float32(2))], print).sizes
        array([30])
    """
    events: list[Events] = []
    for is_scalar, items in itertools.groupby(batch, _is_scalar):
        encoder = _scalar_events if is_scalar else _value_events
        events += encoder(items, lose)
    return Events(
        b"".join(part.data for part in events),
        np.concatenate([part.sizes for part in events]) if events else np.zeros(0, np.int64),
        max((part.end_step for part in events), default=0),
    )


def restart(step: int) -> Events:
    """Return the mark of a restart: readers drop what they have read so far from ``step`` on.

    It is written twice: some readers take the first mark that they see for the beginning of the run and drop
    nothing.
    """
    log = _proto.SessionLog(status=_proto.SessionLog.START)
    mark = _single(_proto.Event(wall_time=time.time(), step=step, session_log=log))
    return Events(2 * mark.data, np.tile(mark.sizes, 2))


def session_end(*, failed: bool) -> Events:
    """Return the mark of a run that has ended, for the HParams dashboard."""
    api = _proto.hparams_api
    info = _proto.hparams_data.SessionEndInfo(
        status=api.STATUS_FAILURE if failed else api.STATUS_SUCCESS, end_time_secs=time.time()
    )
    data = _proto.hparams_data.HParamsPluginData(session_end_info=info)
    value = _hparams_value(_proto.hparams.SESSION_END_INFO_TAG, data)
    return _single(_proto.Event(wall_time=time.time(), summary=_proto.Summary(value=[value])))


def _single(event: Any) -> Events:
    data: bytes = event.SerializeToString()
    return Events(data, np.array([len(data)], np.int64), 1 + event.step)


def _is_scalar(item: Record | Scalars) -> bool:
    return isinstance(item, Scalars) or item.kind is Kind.SCALAR


# --- Scalars: encoded in columns, including single ones. ------------------------------------------


def _scalar_events(items: Iterable[Record | Scalars], lose: Lose) -> Iterator[Events]:
    singles: dict[str, list[Record]] = {}
    for item in items:
        if isinstance(item, Record):
            singles.setdefault(item.tag, []).append(item)
            continue
        # Single records between two blocks are one block for each tag.
        for points in singles.values():
            yield from _column_events(points, lose)
        singles.clear()
        yield from _block_events(item, lose)
    for points in singles.values():
        yield from _column_events(points, lose)


def _block_events(block: Scalars, lose: Lose) -> Iterator[Events]:
    """Encode a block; if that fails, each column; if that fails, each point."""
    try:
        if len(block.steps) and block.tags:
            yield _block(block)
    except Exception as error:
        try:
            columns: dict[str, list[Record]] = {}
            for point in block:
                columns.setdefault(point.tag, []).append(point)
        except Exception:  # The block has no points: its parts do not match.
            for tag in block.tags:
                lose(tag, len(block.steps), _failure(error))
        else:
            for points in columns.values():
                yield from _column_events(points, lose)


def _column_events(points: list[Record], lose: Lose) -> Iterator[Events]:
    try:
        yield _block(
            Scalars(
                (points[0].tag,),
                np.array([operator.index(point.step) for point in points], np.int64),
                np.array([point.wall_time for point in points], np.float64),
                np.array([[point.value] for point in points]),
            )
        )
    except Exception as error:
        if len(points) == 1:
            lose(points[0].tag, 1, _failure(error))
            return
        for point in points:
            yield from _column_events([point], lose)


def _block(block: Scalars) -> Events:
    data, size = _columns.encode(block)
    sizes = np.full(len(block.steps), size, np.int64)
    return Events(data, sizes, 1 + int(np.max(block.steps)))


# --- Other kinds: messages. Values with one step and one wall time share an event. ----------------


class _Encoded(NamedTuple):
    """A record as TensorBoard's message."""

    step: int
    wall_time: float
    tag: str
    value: _proto.Message


def _value_events(records: Iterable[Record | Scalars], lose: Lose) -> Iterator[Events]:
    encoded: list[_Encoded] = []
    for record in records:
        if isinstance(record, Scalars):  # There is none: these are encoded above.
            continue
        try:
            step = int(_columns.int64_steps([record.step])[0])
            wall_time = float(_columns.finite_times(np.array(record.wall_time, np.float64)))
            value = _ENCODERS[record.kind](record)
        except Exception as error:
            lose(record.tag, 1, _failure(error))
        else:
            encoded.append(_Encoded(step, wall_time, record.tag, value))
    for _, group in itertools.groupby(encoded, operator.attrgetter("step", "wall_time")):
        yield from _event(list(group), lose)


def _event(values: list[_Encoded], lose: Lose) -> Iterator[Events]:
    step, wall_time, tag, _ = values[0]
    summary = _proto.Summary(value=[value.value for value in values])
    try:
        yield _single(_proto.Event(wall_time=wall_time, step=step, summary=summary))
    except Exception as error:  # More than 2 GiB.
        if len(values) == 1:
            lose(tag, 1, _failure(error))
            return
        for value in values:
            yield from _event([value], lose)


def _failure(error: Exception) -> str:
    return f"it cannot be encoded: {describe(error)}"


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
    images: EncodedImage | tuple[EncodedImage, ...] | np.ndarray = record.value
    if isinstance(images, np.ndarray):
        _, height, width, _ = images.shape
        files = [_png(sample) for sample in images]
    else:
        images = (images,) if isinstance(images, EncodedImage) else images
        width, height = (
            max(size) for size in zip(*((i.width, i.height) for i in images), strict=True)
        )
        files = [image.data for image in images]
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
    """Return a string of Markdown. TensorBoard shows a tensor of strings as a table without a header."""
    text: str = record.value if isinstance(record.value, str) else _markdown.table(record.value)
    tensor = _tensor(_proto.types.DT_STRING, (), [text.encode()])
    return _value(record.tag, tensor, "text")


def _hparams(record: Record) -> _proto.Message:
    info = _proto.hparams_data.SessionStartInfo(start_time_secs=record.wall_time)
    for name, value in flatten(record.value).items():
        _set_hparam(info.hparams[name], value)
    data = _proto.hparams_data.HParamsPluginData(session_start_info=info)
    return _hparams_value(_proto.hparams.SESSION_START_INFO_TAG, data)


def _metrics(record: Record) -> _proto.Message:
    """Return the columns of the HParams dashboard. It has no goals, so the descriptions state them."""
    value: MetricGoals = record.value
    api = _proto.hparams_api
    experiment = api.Experiment(time_created_secs=record.wall_time)
    for name, number in flatten(value.hparams).items():
        start = _proto.hparams_data.SessionStartInfo()
        _set_hparam(start.hparams[name], number)
        kind = start.hparams[name].WhichOneof("kind")
        data_type = {"bool_value": api.DATA_TYPE_BOOL, "number_value": api.DATA_TYPE_FLOAT64}
        experiment.hparam_infos.add(name=name, type=data_type.get(kind, api.DATA_TYPE_STRING))
    for tag, goal in value.goals.items():
        description = {"min": "Smaller is better.", "max": "Larger is better."}[goal]
        experiment.metric_infos.add(name=api.MetricName(tag=tag), description=description)
    data = _proto.hparams_data.HParamsPluginData(experiment=experiment)
    return _hparams_value(_proto.hparams.EXPERIMENT_TAG, data)


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


def _pr_curve(record: Record) -> _proto.Message:
    """Return float32[6, T] (tensorboard/plugins/pr_curve/summary.py)."""
    counts: ThresholdCounts = record.value
    rows = (
        counts.true_positives,
        counts.false_positives,
        counts.true_negatives,
        counts.false_negatives,
        counts.precision,
        counts.recall,
    )
    table = np.stack(rows).astype("<f4")
    tensor = _tensor(_proto.types.DT_FLOAT, table.shape)
    tensor.tensor_content = table.tobytes()
    data = _proto.pr_curve.PrCurvePluginData(num_thresholds=table.shape[1])
    value = _value(record.tag, tensor, "pr_curves", data)
    value.metadata.display_name = record.tag  # The title of the card, which would be empty.
    return value


def _roc_curve(record: Record) -> _proto.Message:
    from jaxboard.sinks import _drawing

    counts: ThresholdCounts = record.value
    # The curve ends at the origin: above the last threshold, no prediction is positive.
    drawn = _drawing.curve(
        np.append(counts.false_positive_rate, 0.0),
        np.append(counts.recall, 0.0),
        x_title="false positive rate",
        y_title="true positive rate",
        title=f"area under the curve: {counts.auc:.3f}",
        diagonal=True,
    )
    return _image(dataclasses.replace(record, value=drawn))


def _confusion_matrix(record: Record) -> _proto.Message:
    from jaxboard.sinks import _drawing

    matrix: ConfusionMatrix = record.value
    drawn = _drawing.heat_map(
        matrix.row_fractions,
        rows=matrix.classes,
        columns=matrix.classes,
        row_title="true class",
        column_title="predicted class",
        texts=[[f"{count:.6g}" for count in row] for row in matrix.counts.tolist()],
    )
    return _image(dataclasses.replace(record, value=drawn))


def _layout(record: Record) -> _proto.Message:
    """Return a serialised layout under the tag that TensorBoard expects (tensorboard/plugins/custom_scalar/summary.py)."""
    layout = _proto.layout.Layout()
    categories: Mapping[str, Mapping[str, tuple[str | Margin, ...]]] = record.value
    for title, charts in categories.items():
        category = layout.category.add(title=title)
        for name, parts in charts.items():
            chart = category.chart.add(title=name)
            for part in parts:
                if isinstance(part, Margin):
                    series = {"value": part.value, "lower": part.lower, "upper": part.upper}
                    chart.margin.series.add(**series)
                else:
                    chart.multiline.tag.append(part)
    tensor = _tensor(_proto.types.DT_STRING, (), [layout.SerializeToString()])
    return _value("custom_scalars__config__", tensor, "custom_scalars")


def _value(
    tag: str, tensor: _proto.Message, plugin: str, content: _proto.Message | None = None
) -> Any:
    # Readers use only the metadata of a tag's first value, but which value is the first depends on
    # the files that are left. Every value therefore carries the 14 bytes.
    metadata = _proto.SummaryMetadata(
        plugin_data=_proto.SummaryMetadata.PluginData(
            plugin_name=plugin, content=b"" if content is None else content.SerializeToString()
        )
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
    Kind.METRICS: _metrics,
    Kind.LAYOUT: _layout,
    Kind.PR_CURVE: _pr_curve,
    Kind.ROC_CURVE: _roc_curve,
    Kind.CONFUSION_MATRIX: _confusion_matrix,
}
