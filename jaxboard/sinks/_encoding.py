"""The encoding of records as TensorBoard's events: one function per kind, in one table at the bottom.

This module imports ``tensorboard`` (for its messages) and never ``tensorflow``.
"""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxboard._log import describe
from jaxboard._markdown import table
from jaxboard.records import Batch, Histogram, Kind, Record, Scalars
from jaxboard.sinks import (
    _chart_messages,
    _columns,
    _hparams_messages,
    _media,
    _messages,
    _proto,
)
from jaxboard.sinks._graph_def import encode_graph, encode_tagged_graph
from jaxboard.sinks._lost import Lose


class Events(NamedTuple):
    """Serialized events, concatenated, so that a writer can split them without the interpreter lock.

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


def restart(step: int, tags: Iterable[str] = ()) -> Events:
    """Return the mark of a restart: readers drop what they have read so far from ``step`` on.

    TensorBoard's slow loader and EventAccumulator drop it at the mark. The mark is written twice: some readers take
    the first one that they see for the beginning of the run and drop nothing. The fast loader ignores the mark; it
    drops the points of a tag at an event with that tag and an earlier step, even if it cannot show the value.

    Args:
        step: the first step that is dropped.
        tags: the tags with points at that step or later.
    """
    log = _proto.SessionLog(status=_proto.SessionLog.START)
    mark = _proto.Event(wall_time=time.time(), step=step, session_log=log)
    return _joined([*_unshown(step, tags), mark, mark])


def hide(first_steps: Mapping[str, int]) -> Events:
    """Return marks that hide the points of single tags.

    Readers that know no other mark than a restart, which is one of all tags, drop the points of an event's tags from its
    step on if the step goes back and the file is of version 1.

    Args:
        first_steps: by tag, the first step that readers drop.
    """
    if not first_steps:
        return _joined([])
    tags: dict[int, list[str]] = {}
    for tag, step in first_steps.items():
        tags.setdefault(step, []).append(tag)
    later = _proto.Event(wall_time=time.time(), step=max(tags) + 1, summary=_proto.Summary())
    back = [event for step in sorted(tags, reverse=True) for event in _unshown(step, tags[step])]
    return _joined([_version(1), later, *back, _version(2)])


def _version(number: int) -> Any:
    return _proto.Event(wall_time=time.time(), file_version=f"brain.Event:{number}")


def _unshown(step: int, tags: Iterable[str]) -> Iterator[Any]:
    """Yield an event with values of an obsolete type, which no reader shows."""
    values = [_proto.Summary.Value(tag=tag, **{_proto.HIDING: b""}) for tag in tags]
    if values:
        summary = _proto.Summary(value=values)
        yield _proto.Event(wall_time=time.time(), step=step, summary=summary)


def _joined(events: Iterable[Any]) -> Events:
    """Return events, without counting their steps as those of points."""
    parts: list[bytes] = [event.SerializeToString() for event in events]
    return Events(b"".join(parts), np.array([len(part) for part in parts], np.int64))


def session_end(*, failed: bool) -> Events:
    """Return the mark of a run that has ended, for the HParams dashboard."""
    now = time.time()
    value = _hparams_messages.session_end(now, failed=failed)
    return _single(_proto.Event(wall_time=now, summary=_proto.Summary(value=[value])))


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
            if record.kind is Kind.GRAPH and not record.tag:  # An event of its own, not a value.
                graph = encode_graph(record.value)
                yield _single(_proto.Event(wall_time=wall_time, step=step, graph_def=graph))
                continue
            if record.kind is Kind.EVENT:
                event = _proto.Event.FromString(record.value)
                event.wall_time, event.step = wall_time, step
                yield _single(event)
                continue
            values = _ENCODERS[record.kind](record)
        except Exception as error:
            lose(record.tag, 1, _failure(error))
        else:
            values = values if isinstance(values, list) else [values]
            encoded += [_Encoded(step, wall_time, record.tag, value) for value in values]
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
    tensor = _messages.tensor(_proto.types.DT_DOUBLE, table.shape)
    tensor.tensor_content = table.tobytes()
    return _messages.value(record.tag, tensor, "histograms")


def _text(record: Record) -> _proto.Message:
    """Return a string of Markdown. TensorBoard shows a tensor of strings as a table without a header."""
    text: str = record.value if isinstance(record.value, str) else table(record.value)
    tensor = _messages.tensor(_proto.types.DT_STRING, (), [text.encode()])
    return _messages.value(record.tag, tensor, "text")


def _graph(record: Record) -> _proto.Message:
    """Return a graph with a tag: tensorflow/python/ops/summary_ops_v2.py, ``run_metadata_graphs``."""
    tensor = _messages.tensor(_proto.types.DT_STRING, (), [encode_tagged_graph(record.value)])
    return _messages.value(record.tag, tensor, "graph_run_metadata_graph", content=b"1")


# Scalars are encoded in columns, above.
_ENCODERS: dict[Kind, Callable[[Record], _proto.Message | list[_proto.Message]]] = {
    Kind.AUDIO: _media.audio,
    Kind.HISTOGRAM: _histogram,
    Kind.IMAGE: _media.image,
    Kind.TEXT: _text,
    Kind.HPARAMS: _hparams_messages.session_start,
    Kind.METRICS: _hparams_messages.metrics,
    Kind.TENSOR: _chart_messages.plugin_tensor,
    Kind.LAYOUT: _chart_messages.layout,
    Kind.PR_CURVE: _chart_messages.pr_curve,
    Kind.ROC_CURVE: _chart_messages.roc_curve,
    Kind.CONFUSION_MATRIX: _chart_messages.confusion_matrix,
    Kind.GRAPH: _graph,
    Kind.MESH: _media.mesh,
    Kind.VIDEO: _media.video,
}
