"""The verb for arrays of any shape: ``histogram``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import jax
import numpy as np

from jaxboard._check import as_positive_int, is_one_of
from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array, report_record
from jaxboard._emit.trees import tagged_arrays
from jaxboard._frame import Composite
from jaxboard._reduce import HistogramOptions, StackOptions
from jaxboard._safe_repr import describe_array, safe_repr
from jaxboard._types import PyTree, Reportable, Runs, Step
from jaxboard.records import Histogram, Kind

_MAX_BINS = 4096
"""Most buckets of a histogram. TensorBoard draws 30."""


def histogram(
    tag: str,
    values: PyTree = None,
    *,
    bins: int | Sequence[float] | Reportable | None = None,
    range: tuple[float, float] | None = None,  # noqa: A002 (as in numpy.histogram)
    counts: Reportable | Sequence[float] | None = None,
    edges: Reportable | Sequence[float] | None = None,
    step: Step | None = None,
    every: int | None = None,
    reduce: Literal["merge", "stack"] = "merge",
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the distribution of the elements of an array, or of each leaf of a pytree.

    Counting happens on the device, by default in at most 128 buckets of equal width: half a kilobyte leaves the device.
    NaN and infinite elements are counted separately. Several histograms of one step (lanes, iterations,
    devices) merge into exactly the histogram of all elements.

    ``bins`` and ``range`` are those of :func:`numpy.histogram`, and give the same counts. Elements outside of the edges are
    in no bucket. An element on an edge belongs to the bucket on its right; the last bucket includes both of its edges. With
    a number of ``bins`` and no ``range``, the edges depend on all elements: counts are then exact for one array, its lanes
    and its shards. If arrays with different ranges make one point (the iterations of a loop), each edge is off by up to a
    64th of the range.

    Args:
        tag: the name; for a pytree, the first part of the names.
        values: an array of any shape and any real dtype, or a pytree of arrays. A list or a tuple of numbers,
            nested or not, is one array.
        bins: the number of buckets of equal width, or k + 1 ascending numbers, the edges of k buckets. At most 4096
            buckets.
        range: the first and the last edge, for a number of ``bins``. By default the smallest and the largest element.
        counts: the numbers of elements in k buckets, instead of ``values``: k numbers of at least 0. Only for plain Python,
            with ``edges``, and without ``reduce``, ``where`` and ``runs``.
        edges: k + 1 ascending numbers, the edges of the buckets.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this. The program for other steps does not contain
            the histogram.
        reduce: ``"merge"`` makes one histogram of all elements of a step. ``"stack"`` keeps devices, iterations of a scan
            and lanes separate, as ``tag/device_00``, ``tag/iteration_03`` or ``tag/device_00/lane_01``, or with the index in
            place of ``{}`` in the tag, as ``blocks/03/act`` of ``blocks/{}/act``; iterations of a while loop or outside of
            an instrumented function, and repeated reports, are merged.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets its own histogram; there is no summary of all lanes.

    Raises:
        ReportError: a leaf is not an array of real numbers, or an argument is invalid.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.histogram("weights", np.arange(10.0), step=0)
        ...     jb.histogram("binned", np.arange(10.0), bins=[0, 2, 8], step=0)
        >>> int(records[0].value.counts.sum()), records[1].value.counts.tolist(), records[1].value.outside
        (10, [2, 7], 1)
        >>> with capture() as records:  # parameters of two layers, stacked
        ...     jax.vmap(lambda w: jb.histogram("blocks/{}/w", w, reduce="stack"))(jnp.zeros((2, 5)))
        >>> [(record.tag, record.value.zeros) for record in records]
        [('blocks/00/w', 5), ('blocks/01/w', 5)]
    """
    arguments.check_every(tag, every)
    if not is_one_of(reduce, ("merge", "stack")):
        raise arguments.report_error(
            tag, f"expected reduce= to be 'merge' or 'stack', got {safe_repr(reduce)}."
        )
    options = HistogramOptions(_checked_bins(tag, bins, range))
    if counts is not None or edges is not None:
        if reduce != "merge" or any(x is not None for x in (values, bins, range, where, runs)):
            raise arguments.report_error(
                tag,
                "counts= and edges= need no values, bins=, range=, reduce=, where= or runs=. Pass either values or "
                "counts.",
            )
        arguments.check_tag(tag)
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
    if values is None:
        raise arguments.report_error(
            tag, "expected numbers, got None (NoneType). Pass values, or counts= and edges=."
        )
    is_stack = reduce == "stack"
    for leaf_tag, leaf in tagged_arrays(tag, values):
        report_array(
            Composite.STACK if is_stack else Kind.HISTOGRAM,
            leaf_tag,
            leaf,
            conversion.as_array,
            step=step,
            every=every,
            where=where,
            runs=runs,
            options=StackOptions(histogram=options) if is_stack else options,
        )


def _checked_bins(tag: str, bins: object, limits: object) -> int | tuple[float, ...] | None:
    """Return the number of buckets or their edges; None for the buckets that suit the elements."""
    if limits is not None:
        return _edges_between(tag, bins, limits)
    number = as_positive_int(bins)
    if bins is None or (number is not None and number <= _MAX_BINS):
        return number
    edges = None
    if number is None and isinstance(bins, Sequence | np.ndarray | jax.Array):
        edges = bins if isinstance(bins, str) else _known(tag, "bins=", bins)
    if isinstance(edges, np.ndarray) and edges.ndim == 1 and 1 < len(edges) <= _MAX_BINS + 1:
        return tuple(_ascending(tag, "bins=", bins, edges).tolist())
    raise arguments.report_error(
        tag,
        f"expected bins= to be a number of buckets, or a list of their edges, for 1 to {_MAX_BINS} buckets, got "
        f"{safe_repr(bins)}.",
    )


def _edges_between(tag: str, bins: object, limits: object) -> tuple[float, ...]:
    """Return the edges of a number of buckets in a range."""
    low_high = arguments.check_range(tag, limits)
    number = as_positive_int(bins)
    if number is None or number > _MAX_BINS or not isinstance(low_high, tuple):
        raise arguments.report_error(
            tag,
            f"range= needs bins=, a number of buckets from 1 to {_MAX_BINS}, got bins={safe_repr(bins)} and "
            f"range={safe_repr(limits)}.",
        )
    return tuple(np.linspace(*low_high, number + 1).tolist())


def _counted(tag: str, counts: object, edges: object) -> Histogram:
    """Return a histogram that the user has counted."""
    if counts is None or edges is None:
        raise arguments.report_error(tag, "counts= and edges= belong together: pass both.")
    numbers = _known(tag, "counts= and edges=", counts)
    bounds = _known(tag, "counts= and edges=", edges)
    if numbers.ndim != 1 or bounds.shape != (len(numbers) + 1,):
        raise arguments.report_error(
            tag,
            "expected counts= [k] and edges= [k + 1], got "
            f"{describe_array(numbers)} and {describe_array(bounds)}.",
        )
    bounds = _ascending(tag, "edges=", edges, bounds)
    if not np.isfinite(numbers).all() or (numbers < 0).any():
        raise arguments.report_error(
            tag, f"expected counts= to be 0 or more, got {safe_repr(counts)}."
        )
    return Histogram(bounds, numbers)


def _ascending(tag: str, name: str, passed: object, edges: np.ndarray) -> np.ndarray:
    """Return edges as float64. Raise unless they are finite and ascending."""
    bounds = edges.astype(np.float64)
    if not np.isfinite(bounds).all() or (np.diff(bounds) < 0).any():
        raise arguments.report_error(
            tag, f"expected {name} to be finite and ascending, got {safe_repr(passed)}."
        )
    return bounds


def _known(tag: str, name: str, values: object) -> np.ndarray:
    """Return counts or edges as an array of NumPy."""
    try:
        return np.asarray(conversion.as_array(tag, cast("Reportable", values)))
    except jax.errors.TracerArrayConversionError as error:
        raise arguments.report_error(
            tag,
            f"expected {name} to be known while JAX traces, got a traced value. Pass numbers of NumPy or Python.",
        ) from error
