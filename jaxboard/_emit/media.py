"""The verbs for what people look at and listen to: ``audio`` and ``image``."""

from __future__ import annotations

import functools

from jaxboard._emit import arguments, media_arrays
from jaxboard._emit.reporting import report_array
from jaxboard._reduce import AudioOptions, ImageOptions
from jaxboard._types import Reportable, Runs, Step
from jaxboard.records import Kind


def audio(
    tag: str,
    samples: Reportable,
    sample_rate: int,
    *,
    step: Step | None = None,
    every: int | None = None,
    max_sounds: int = 3,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report a sound, or the first few sounds of a batch. TensorBoard plays them.

    Args:
        tag: the name.
        samples: [T], [T, C] or [N, T, C], with T samples in 1 to 8 channels, as floats from -1 to 1 or as int16.
            Floats outside of that range are clipped, with one warning for each tag. NaN is silence.
        sample_rate: how many samples are one second, in Hz.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this. The program for other steps does not contain
            the sound.
        max_sounds: how many sounds of a batch are kept.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets its own sounds; there is no summary of all lanes.

    Raises:
        ReportError: the rank, the channels or the dtype are not those of a sound, or an argument is invalid.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> seconds = np.arange(8000) / 8000
        >>> with capture() as records:
        ...     jb.audio("a4", 0.5 * np.sin(2 * np.pi * 440 * seconds), 8000, step=0)
        >>> records[0].value.samples.shape, records[0].value.seconds
        ((1, 8000, 1), 1.0)
    """
    arguments.check_tag(tag)
    rate = arguments.check_sample_rate(tag, sample_rate)
    count = arguments.check_positive(tag, "max_sounds", max_sounds)
    report_array(
        Kind.AUDIO,
        tag,
        samples,
        media_arrays.as_sounds,
        step=step,
        every=every,
        where=where,
        runs=runs,
        options=AudioOptions(rate, count),
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
    count = arguments.check_positive(tag, "max_images", max_images)
    limits = arguments.check_range(tag, range)
    report_array(
        Kind.IMAGE,
        tag,
        value,
        functools.partial(media_arrays.as_images, any_dtype=limits is not None),
        step=step,
        every=every,
        where=where,
        runs=runs,
        options=ImageOptions(count, limits),
    )
