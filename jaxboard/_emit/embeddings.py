"""``embedding``: points with many coordinates, for the projector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import jax
import jax.core
import numpy as np

from jaxboard._emit import arguments, conversion
from jaxboard._emit.media import ImageLayout
from jaxboard._emit.media_arrays import as_images
from jaxboard._emit.reporting import report_record
from jaxboard._errors import ReportError
from jaxboard._log import describe, warn_once
from jaxboard._safe_repr import describe_array, describe_object, encodable
from jaxboard._types import Reportable
from jaxboard.records import Embedding, Kind


def embedding(
    tag: str,
    vectors: Reportable,
    *,
    labels: Iterable[object] | Mapping[str, Iterable[object]] | None = None,
    metadata_header: Sequence[str] | None = None,
    images: Reportable | None = None,
    layout: ImageLayout | None = None,
    step: int | None = None,
    every: int | None = None,
    walltime: float | None = None,
) -> None:
    """Report vectors, which the projector shows in two or three dimensions. Only for plain Python.

    Each tag and step is an entry of its own. The files are stored beside the run's event files. TensorBoard looks for them when
    it starts, and when a run appears, and reads them from a local directory only. This waits for arrays that are on a device.

    Args:
        tag: the name.
        vectors: numbers [N, D], one row for each point. NaN and infinity are shown as 0, with one warning.
        labels: a label for each point; or a row of labels for each, with ``metadata_header``; or a dict from the name of
            a column to its N labels. Labels are converted with ``str``.
        metadata_header: the names of the columns, if ``labels`` are rows.
        images: a thumbnail for each point, [N, H, W, C] with 1, 3 or 4 channels, as uint8, bool, or floats from 0 to 1.
        layout: the meaning of the axes of ``images``: "NHWC", "NCHW" or "NHW"; see :func:`image`.
        step: the step of the vectors, instead of the last step taken.
        every: report only at steps that are multiples of this.
        walltime: the time of the report, in seconds since the epoch, instead of now.

    Raises:
        ReportError: JAX is tracing, ``vectors`` have another rank, the numbers of vectors, labels and images differ, or an
            argument is invalid.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.embedding("words", np.eye(3), labels={"word": ["a", "b", "c"], "count": [3, 2, 1]})
        >>> records[0].value.header, records[0].value.labels[0]
        (('word', 'count'), ('a', '3'))
    """
    arguments.check_tag(tag)
    array = conversion.as_array(tag, vectors)
    if array.ndim != 2 or 0 in array.shape:
        raise arguments.report_error(
            tag,
            f"expected vectors [N, D], got {describe_array(array)}. Flatten others: x.reshape(len(x), -1).",
        )
    count = array.shape[0]
    try:
        rows, header = _rows(tag, labels, metadata_header, count)
    except ReportError:
        raise
    except Exception as error:  # No iteration, or no text.
        raise arguments.report_error(
            tag, f"labels= or metadata_header= cannot be read: {describe(error)}."
        ) from error
    pictures = None if images is None else as_images(tag, images, layout=layout)
    if pictures is not None and (pictures.ndim != 4 or pictures.shape[0] != count):
        raise arguments.report_error(
            tag,
            f"expected {count} images [{count}, H, W, C], one for each vector, got "
            f"{describe_array(pictures)}.",
        )

    def make_value() -> Embedding:
        numbers = np.asarray(array).astype(np.float32)
        finite = np.isfinite(numbers)
        if not finite.all():
            problem = (
                f"embedding {tag!r}: vectors with NaN or infinity are shown with 0 in their place."
            )
            warn_once(("embedding", tag), problem)
            numbers = np.where(finite, numbers, np.float32(0))
        pixels = None if pictures is None else _as_bytes(np.asarray(pictures))
        return Embedding(numbers, rows, header, pixels)

    report_record(
        "embedding", Kind.EMBEDDING, tag, make_value, step=step, every=every, walltime=walltime
    )


def _rows(
    tag: str, labels: object, header: Sequence[str] | None, count: int
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Return the labels of each point, and the names of the columns."""
    if labels is None:
        if header is not None:
            raise arguments.report_error(tag, "metadata_header= needs labels=.")
        return (), ()
    if isinstance(labels, Mapping):
        columns = cast("Mapping[str, Iterable[object]]", labels)
        if header is not None:
            raise arguments.report_error(tag, "the keys of labels= are the metadata_header=.")
        listed = {str(name): list(map(_text, _listed(column))) for name, column in columns.items()}
        for name, column in listed.items():
            _check_count(tag, f"labels in column {name!r}", len(column), count)
        return tuple(zip(*listed.values(), strict=True)), tuple(map(_text, listed))
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise arguments.report_error(
            tag, f"expected labels= to be a list, got {describe_object(labels)}."
        )
    items = _listed(cast("Iterable[object]", labels))
    _check_count(tag, "labels", len(items), count)
    if header is None:
        return tuple((_text(item),) for item in items), ("label",)
    names = _row(tag, "metadata_header=", header)
    rows = [_row(tag, "a row of labels", item) for item in items]
    wrong = next((row for row in rows if len(row) != len(names)), None)
    if wrong is not None:
        raise arguments.report_error(
            tag, f"expected rows of {len(names)} labels, as metadata_header= has, got {wrong}."
        )
    return tuple(rows), names


def _listed(values: Iterable[object]) -> list[object]:
    """Return labels as a list. An array is read in one piece: a loop over its elements compiles several programs."""
    if isinstance(values, jax.Array) and not isinstance(values, jax.core.Tracer):
        with jax.transfer_guard_device_to_host("allow"):
            return list(np.asarray(values))
    return list(values)


def _row(tag: str, name: str, values: object) -> tuple[str, ...]:
    """Return the texts of a row."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        got = describe_object(values)
        raise arguments.report_error(tag, f"expected {name} as a list, got {got}.")
    return tuple(map(_text, cast("Iterable[object]", values)))


def _check_count(tag: str, name: str, found: int, expected: int) -> None:
    if found != expected:
        raise arguments.report_error(
            tag, f"expected {expected} {name}, one for each vector, got {found}."
        )


def _text(value: object) -> str:
    """Return a label as text."""
    return encodable(str(value))


def _as_bytes(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == np.bool_:
        return pixels.astype(np.uint8) * np.uint8(255)
    return (np.nan_to_num(pixels.astype(np.float32)).clip(0, 1) * 255 + 0.5).astype(np.uint8)
