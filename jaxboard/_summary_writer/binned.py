"""Histograms that are counted on the host: with the bins of NumPy, or by the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import numpy as np

from jaxboard._check import as_positive_int
from jaxboard._emit import conversion
from jaxboard._emit.arguments import report_error
from jaxboard._log import describe
from jaxboard._safe_repr import describe_array, safe_repr
from jaxboard._types import Array, Reportable

Bins: TypeAlias = str | int | Sequence[float] | Array
"""The values of ``bins=``: those of :func:`numpy.histogram`, or ``"tensorflow"``."""

_BINS = 128
"""The number of bins for ``"tensorflow"``."""


def binned(
    tag: str, values: Array, bins: Bins, max_bins: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of bins, and their edges, from the first to the last bin that is not empty.

    Example:
        >>> counts, edges = binned("tag", np.array([1.0, 2.0, 2.0, np.nan]), [0, 1, 2, 3, 4], None)
        >>> counts.tolist(), edges.tolist()
        ([1, 2], [1, 2, 3])
    """
    most = None if max_bins is None else as_positive_int(max_bins)
    if max_bins is not None and most is None:
        raise report_error(
            tag, f"expected max_bins= to be a positive integer, got {safe_repr(max_bins)}."
        )
    numbers = np.asarray(values).astype(np.float64).ravel()
    numbers = numbers[np.isfinite(numbers)]
    if not numbers.size:
        raise report_error(tag, f"expected a finite number, got {describe_array(values)} without.")
    if isinstance(bins, str) and bins == "tensorflow":
        bins = min(_BINS, most or _BINS)
    try:
        counts, edges = np.histogram(numbers, bins=cast("Any", bins))
    except Exception as error:
        raise report_error(
            tag,
            f"expected bins= to be 'tensorflow' or what numpy.histogram takes, got {safe_repr(bins)}: {describe(error)}",
        ) from error
    if most is not None and len(counts) > most:
        width = -(-len(counts) // most)
        edges = np.append(edges[:-1:width], edges[-1])
        counts = np.add.reduceat(counts, np.arange(0, len(counts), width))
    return _without_ends(tag, counts, edges)


def _without_ends(tag: str, counts: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    filled = np.flatnonzero(counts)
    if not filled.size:
        raise report_error(tag, f"no number is in the bins, from {edges[0]} to {edges[-1]}.")
    return counts[filled[0] : filled[-1] + 1], edges[filled[0] : filled[-1] + 2]


def binned_raw(
    tag: str, smallest: float, largest: float, limits: object, counts: object
) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of buckets, and their edges, from their upper limits and the range of all values.

    Example:
        >>> counts, edges = binned_raw("tag", 0.5, 2.5, [1, 2, 3, 4], [1, 0, 2, 0])
        >>> counts.tolist(), edges.tolist()
        ([1, 0, 2], [0.5, 1.0, 2.0, 2.5])
    """
    uppers, numbers = (
        np.asarray(conversion.as_array(tag, cast("Reportable", each))) for each in (limits, counts)
    )
    if uppers.ndim != 1 or uppers.shape != numbers.shape or not uppers.size:
        raise report_error(
            tag,
            "expected bucket_limits= and bucket_counts= of one length, got "
            f"{describe_array(uppers)} and {describe_array(numbers)}. Leave out the first edge of numpy.histogram: "
            "bucket_limits=edges[1:].",
        )
    ends = [conversion.as_scalar(tag, cast("Reportable", each)) for each in (smallest, largest)]
    first, last = (float(np.asarray(end)) for end in ends)
    filled = np.flatnonzero(numbers)
    start, stop = (filled[0], filled[-1]) if filled.size else (0, 0)
    inner = uppers[start:stop].astype(np.float64)
    return numbers[start : stop + 1], np.concatenate([[first], inner, [last]])
