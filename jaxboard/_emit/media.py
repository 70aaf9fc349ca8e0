"""The verbs for media: ``audio``, ``image`` and ``video``."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from typing import Literal, TypeAlias

from jaxboard._emit import arguments, conversion, media_arrays
from jaxboard._emit.boxes import with_boxes
from jaxboard._emit.reporting import report_array
from jaxboard._reduce import AudioOptions, ImageOptions, VideoOptions
from jaxboard._types import Reportable, Runs, Step
from jaxboard.records import Kind

ColorMap: TypeAlias = Literal["coolwarm", "magma", "viridis"]
"""The names of the color maps."""

ImageLayout: TypeAlias = Literal["HW", "HWC", "CHW", "NHW", "NHWC", "NCHW"]
"""The meaning of the axes of an image: N images, H rows, W columns, C channels."""

VideoLayout: TypeAlias = Literal["THW", "THWC", "TCHW", "NTHW", "NTHWC", "NTCHW"]
"""The meaning of the axes of a video: N videos, T frames, H rows, W columns, C channels."""


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
    max_images: int | None = None,
    layout: ImageLayout | None = None,
    range: tuple[float, float] | Literal["auto"] | None = None,  # noqa: A002 (as in numpy.histogram)
    cmap: ColorMap | None = None,
    grid: bool | int | tuple[int, int] = False,
    boxes: Reportable | None = None,
    labels: Sequence[str] | Reportable | None = None,
    class_names: Sequence[str] | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report an image, or the first few images of a batch.

    Colors, boxes and grids are drawn by the thread that writes the image, not by the training loop.

    Args:
        tag: the name.
        value: [H, W], [H, W, C] or [N, H, W, C], with 1 (gray), 3 (RGB) or 4 (RGBA) channels, as uint8, bool, or
            floats from 0 to 1. Floats outside of that range are clipped, with one warning for each tag.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this. The program for other steps does not contain
            the image.
        max_images: how many images of a batch are kept: by default 3, in a grid all that fit.
        layout: the meaning of the axes: "HW", "HWC", "CHW", "NHW", "NHWC" or "NCHW". An array whose channels may
            be first or last needs it.
        range: the values that are shown as black and white, for example ``(-1, 1)`` or ``(0, 65535)``. Values
            outside are clipped. "auto" takes the smallest and the largest value of each image. Both permit
            integers of any dtype.
        cmap: the colors of a matrix, [H, W] or [N, H, W]: "viridis", "magma", or "coolwarm" for signed values.
        grid: whether to show the images of a batch as one. True makes a square; an int is the number of columns, and
            a pair has the numbers of rows and columns.
        boxes: [K, 4], or [N, K, 4] for a batch: left, top, right and bottom of boxes in pixels. A box without an
            area or with NaN is not drawn.
        labels: the labels of the boxes: K strings, or the classes as integers, [K] or [N, K], possibly traced.
        class_names: the name of each class in ``labels``.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets its own images; there is no summary of all lanes.

    Raises:
        ReportError: the rank, the channels or the dtype are not those of an image, or an argument is invalid.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.image("noise", np.ones((8, 4, 1)), step=0)
        ...     jb.image("attention", np.eye(4), cmap="viridis", step=0)
        ...     jb.image("digits", np.ones((9, 28, 28)), layout="NHW", grid=True, step=0)
        >>> [record.value.shape for record in records]
        [(1, 8, 4, 1), (1, 4, 4, 3), (1, 88, 88, 1)]
    """
    arguments.check_tag(tag)
    limits = arguments.check_range(tag, range)
    color_map = arguments.check_color_map(tag, cmap)
    cells = arguments.check_grid(tag, grid)
    as_images = functools.partial(
        media_arrays.as_images,
        layout=layout,
        any_dtype=limits is not None,
        one_channel=color_map is not None,
    )
    box_options = None
    if boxes is not None:
        images = as_images(tag, value)
        value, box_options = with_boxes(tag, images, boxes, labels, class_names)
    elif labels is not None or class_names is not None:
        raise arguments.report_error(tag, "labels= and class_names= need boxes=.")
    report_array(
        Kind.IMAGE,
        tag,
        value,
        as_images if boxes is None else conversion.as_array,
        step=step,
        every=every,
        where=where,
        runs=runs,
        options=ImageOptions(
            _most_images(tag, max_images, cells), limits, color_map, cells, box_options
        ),
    )


def _most_images(
    tag: str, max_images: int | None, cells: tuple[int | None, int | None] | None
) -> int:
    """Return how many images are kept."""
    if cells is None:
        return arguments.check_positive(tag, "max_images", 3 if max_images is None else max_images)
    rows, columns = cells
    room = sys.maxsize if rows is None or columns is None else rows * columns
    if max_images is None:
        return room
    return min(room, arguments.check_positive(tag, "max_images", max_images))


def video(
    tag: str,
    frames: Reportable,
    fps: float = 4,
    *,
    step: Step | None = None,
    every: int | None = None,
    max_videos: int = 3,
    layout: VideoLayout | None = None,
    range: tuple[float, float] | Literal["auto"] | None = None,  # noqa: A002 (as in numpy.histogram)
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report a video, or the first few videos of a batch, as animated GIFs in the Images dashboard.

    A GIF has 256 colors in each frame. It is compressed by the thread that writes it.

    Args:
        tag: the name.
        frames: [T, H, W], [T, H, W, C] or [N, T, H, W, C], with 1 (gray) or 3 (RGB) channels, as uint8, bool, or
            floats from 0 to 1. Floats outside of that range are clipped, with one warning for each tag.
        fps: frames per second, at most 50.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this. The program for other steps does not contain
            the video.
        max_videos: how many videos of a batch are kept.
        layout: the meaning of the axes: "THW", "THWC", "TCHW", "NTHW", "NTHWC" or "NTCHW". An array whose
            channels may be first or last needs it.
        range: see :func:`image`; "auto" takes the smallest and the largest value of each video.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets its own videos; there is no summary of all lanes.

    Raises:
        ReportError: the rank, the channels or the dtype are not those of a video, or an argument is invalid.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.video("noise", np.zeros((8, 32, 32, 3)), fps=2, step=0)
        >>> records[0].value.frames.shape, records[0].value.seconds
        ((1, 8, 32, 32, 3), 4.0)
    """
    arguments.check_tag(tag)
    limits = arguments.check_range(tag, range)
    options = VideoOptions(
        arguments.check_fps(tag, fps),
        arguments.check_positive(tag, "max_videos", max_videos),
        limits,
    )
    report_array(
        Kind.VIDEO,
        tag,
        frames,
        functools.partial(media_arrays.as_videos, layout=layout, any_dtype=limits is not None),
        step=step,
        every=every,
        where=where,
        runs=runs,
        options=options,
    )
