"""The verb for arrays of any shape: ``histogram``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import jax
import numpy as np

from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array, report_record
from jaxboard._emit.trees import tagged_arrays
from jaxboard._safe_repr import safe_repr
from jaxboard._types import PyTree, Reportable, Runs, Step
from jaxboard.records import Histogram, Kind


def histogram(
    tag: str,
    values: PyTree = None,
    *,
    counts: Reportable | Sequence[float] | None = None,
    edges: Reportable | Sequence[float] | None = None,
    step: Step | None = None,
    every: int | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the distribution of the elements of an array, or of each leaf of a pytree.

    Counting happens on the device, in at most 128 buckets of equal width: half a kilobyte leaves the device.
    NaN and infinite elements are counted separately. Several histograms of one step (lanes, iterations,
    devices) merge into exactly the histogram of all elements.

    Args:
        tag: the name; for a pytree, the first part of the names.
        values: an array of any shape and any real dtype, or a pytree of arrays. A list or a tuple of numbers,
            nested or not, is one array.
        counts: the numbers of elements in k buckets, instead of ``values``. Only for plain Python, with ``edges``, and
            without ``where`` and ``runs``.
        edges: k + 1 ascending numbers, the edges of the buckets.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this. The program for other steps does not contain
            the histogram.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets its own histogram; there is no summary of all lanes.

    Raises:
        ReportError: a leaf is not an array of real numbers, or an argument is invalid.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.histogram("weights", np.arange(10.0), step=0)
        >>> int(records[0].value.counts.sum())
        10
    """
    arguments.check_every(tag, every)
    if counts is not None or edges is not None:
        if values is not None or where is not None or runs is not None:
            raise arguments.report_error(
                tag,
                "counts= and edges= need no values, where= or runs=. Pass either values or counts.",
            )
        counted = _counted(tag, counts, edges)
        report_record(
            "histogram of counts=",
            Kind.HISTOGRAM,
            tag,
            lambda: counted,
            step=None if step is None else arguments.as_host_step(tag, step),
            every=every,
        )
        return
    for leaf_tag, leaf in tagged_arrays(tag, values):
        report_array(
            Kind.HISTOGRAM,
            leaf_tag,
            leaf,
            conversion.as_array,
            step=step,
            every=every,
            where=where,
            runs=runs,
        )


def _counted(tag: str, counts: object, edges: object) -> Histogram:
    """Return a histogram that the user has counted."""
    if counts is None or edges is None:
        raise arguments.report_error(tag, "counts= and edges= belong together: pass both.")
    numbers, bounds = _known(tag, counts), _known(tag, edges).astype(np.float64)
    if numbers.ndim != 1 or bounds.shape != (len(numbers) + 1,):
        raise arguments.report_error(
            tag,
            "expected counts= [k] and edges= [k + 1], got "
            f"{arguments.describe_array(numbers)} and {arguments.describe_array(bounds)}.",
        )
    if not np.isfinite(bounds).all() or (np.diff(bounds) < 0).any():
        raise arguments.report_error(
            tag, f"expected edges= to be finite and ascending, got {safe_repr(edges)}."
        )
    if not np.isfinite(numbers).all() or (numbers < 0).any():
        raise arguments.report_error(
            tag, f"expected counts= to be 0 or more, got {safe_repr(counts)}."
        )
    return Histogram(bounds, numbers)


def _known(tag: str, values: object) -> np.ndarray:
    """Return counts or edges as an array of NumPy."""
    try:
        return np.asarray(conversion.as_array(tag, cast("Reportable", values)))
    except jax.errors.TracerArrayConversionError as error:
        raise arguments.report_error(
            tag,
            "counts= and edges= are for plain Python, and got a traced value. Report them outside of the traced function.",
        ) from error
