"""The verb for arrays of any shape: ``histogram``."""

from __future__ import annotations

from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array
from jaxboard._emit.trees import tagged_arrays
from jaxboard._types import PyTree, Reportable, Runs, Step
from jaxboard.records import Kind


def histogram(
    tag: str,
    values: PyTree,
    *,
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
