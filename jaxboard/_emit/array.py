"""The verbs for arrays: ``histogram`` and ``image``."""

from __future__ import annotations

import functools

from jaxboard._check import as_positive_int
from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array
from jaxboard._emit.trees import tagged_arrays
from jaxboard._reduce import ImageOptions
from jaxboard._safe_repr import safe_repr
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


def image(
    tag: str,
    value: Reportable,
    *,
    step: Step | None = None,
    every: int | None = None,
    max_images: int = 3,
    range: tuple[float, float] | None = None,  # noqa: A002 (as in numpy.histogram)
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report an image, or the first few images of a batch.

    Args:
        tag: the name.
        value: [H, W, C] or [N, H, W, C], with 1 (gray), 3 (RGB) or 4 (RGBA) channels, as uint8, bool, or
            floats from 0 to 1. Floats outside of that range are clipped, with one warning for each tag.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this. The program for other steps does not contain
            the image.
        max_images: how many images of a batch are kept.
        range: the values that are shown as black and white, for example ``(-1, 1)`` or ``(0, 65535)``. Values
            outside are clipped. It permits integers of any dtype.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets its own images; there is no summary of all lanes.

    Raises:
        ReportError: the rank, the channels or the dtype are not those of an image, or an argument is invalid.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.image("noise", np.ones((8, 4, 1)), step=0)
        >>> records[0].value.shape, int(records[0].value.max())
        ((1, 8, 4, 1), 255)
    """
    arguments.check_tag(tag)
    count = as_positive_int(max_images)
    if count is None:
        raise arguments.report_error(
            tag, f"expected max_images= to be a positive integer, got {safe_repr(max_images)}."
        )
    limits = arguments.check_range(tag, range)
    report_array(
        Kind.IMAGE,
        tag,
        value,
        functools.partial(conversion.as_images, any_dtype=limits is not None),
        step=step,
        every=every,
        where=where,
        runs=runs,
        options=ImageOptions(count, limits),
    )
