"""The methods of a summary writer for pictures: images, figures and videos."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from jaxboard._emit import conversion
from jaxboard._emit.host_only import FigureLike
from jaxboard._log import warn
from jaxboard._summary_writer.dataformats import (
    arranged,
    checked_factor,
    pixel_range,
    rescaled,
    tiled,
)
from jaxboard._summary_writer.writer_base import GlobalStep, WriterBase
from jaxboard._types import Reportable

_COLUMNS = 8
"""Most images in a row of a batch."""


class PictureMethods(WriterBase):
    """Images, figures and videos."""

    def add_image(
        self,
        tag: str,
        img_tensor: Reportable,
        global_step: GlobalStep = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
    ) -> None:
        """Report an image, or a batch of images as one. An array on a device is not waited for.

        Args:
            tag: the name.
            img_tensor: an array with 1, 3 or 4 channels, or without channels: uint8 from 0 to 255, or floats, other
                integers or bools from 0 to 1. Other numbers are clipped.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.
            dataformats: the letter of each axis, in any order: ``"CHW"``, ``"HWC"``, ``"HW"``, ``"NCHW"``, ….

        Raises:
            ReportError: the array is not an image, ``dataformats`` has other axes, or an argument is invalid.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_image("gray", np.linspace(0, 1, 64).reshape(8, 8), dataformats="HW")
        """
        image, layout = arranged(tag, img_tensor, dataformats, "NHWC")
        columns = min(image.shape[0], _COLUMNS) if "N" in layout else False
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.image(
                tag,
                image,
                layout=cast("Any", layout),
                range=pixel_range(image),
                grid=columns,
                step=step,
            )

    def add_images(
        self,
        tag: str,
        img_tensor: Reportable | Sequence[Reportable],
        global_step: GlobalStep = None,
        walltime: float | None = None,
        dataformats: str = "NCHW",
    ) -> None:
        """Report a batch of images as one image, with up to eight in a row; see :meth:`add_image`.

        Args:
            tag: the name.
            img_tensor: an array, or a list of arrays of one shape.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.
            dataformats: the letter of each axis. That of a list may leave out ``N``.

        Raises:
            ReportError: see :meth:`add_image`.

        Example:
            >>> import tempfile, jax, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_images("noise", jax.random.uniform(jax.random.key(0), (4, 3, 8, 8)), 0)
        """
        if isinstance(img_tensor, list | tuple) and isinstance(dataformats, str):
            dataformats = dataformats.upper().removeprefix("N")
        self.add_image(tag, cast("Reportable", img_tensor), global_step, walltime, dataformats)

    def add_image_with_boxes(
        self,
        tag: str,
        img_tensor: Reportable,
        box_tensor: Reportable,
        global_step: GlobalStep = None,
        walltime: float | None = None,
        dataformats: str = "CHW",
        labels: Sequence[str] | str | None = None,
        rescale: float = 1,
    ) -> None:
        """Report an image with bounding boxes.

        Args:
            tag: the name.
            img_tensor: see :meth:`add_image`.
            box_tensor: [K, 4]: left, top, right and bottom of K boxes in pixels.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.
            dataformats: see :meth:`add_image`.
            labels: the label of each box. With another number of labels there is a warning, and no label is drawn.
            rescale: the factor by which the image is enlarged. PyTorch has it before ``dataformats``: pass it by name.

        Raises:
            ReportError: see :meth:`add_image`.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_image_with_boxes("cat", np.zeros((3, 64, 64)), np.array([[8, 8, 40, 40]]))
        """
        image, layout = arranged(tag, img_tensor, dataformats, "HWC")
        boxes = conversion.as_array(tag, box_tensor)
        names = [labels] if isinstance(labels, str) else labels
        if isinstance(names, list | tuple) and boxes.ndim and len(names) != boxes.shape[0]:
            warn(
                f"add_image_with_boxes({tag!r}): {boxes.shape[0]} boxes have {len(names)} labels; none is drawn."
            )
            names = None
        factor = checked_factor(tag, rescale, image)
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.image(
                tag,
                rescaled(image, factor),
                layout=cast("Any", layout),
                range=pixel_range(image),
                boxes=boxes if factor == 1 else boxes * factor,
                labels=names,
                step=step,
            )

    def add_figure(
        self,
        tag: str,
        figure: FigureLike | Sequence[FigureLike],
        global_step: GlobalStep = None,
        close: bool = True,
        walltime: float | None = None,
    ) -> None:
        """Report a matplotlib figure as an image, or a list of figures as the images of one card.

        Args:
            tag: the name.
            figure: the figure, or figures.
            global_step: see :class:`jaxboard.SummaryWriter`.
            close: close the figures afterwards.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: ``figure`` is not a figure, or an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> from matplotlib.figure import Figure
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_figure("empty", Figure(figsize=(2, 1)), 0)
        """
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.figure(tag, cast("FigureLike", figure), step=cast("int", step), close=close)

    def add_video(
        self,
        tag: str,
        vid_tensor: Reportable,
        global_step: GlobalStep = None,
        fps: float = 4,
        walltime: float | None = None,
        dataformats: str = "NTCHW",
    ) -> None:
        """Report a batch of videos as one animated GIF, side by side. An array on a device is not waited for.

        Args:
            tag: the name.
            vid_tensor: an array with 1 or 3 channels: uint8 from 0 to 255, or floats from 0 to 1.
            global_step: see :class:`jaxboard.SummaryWriter`.
            fps: frames per second, at most 50.
            walltime: see :class:`jaxboard.SummaryWriter`.
            dataformats: the letter of each axis, in any order. Without ``N`` it is one video.

        Raises:
            ReportError: the array is not a video, ``dataformats`` has other axes, or an argument is invalid.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_video("noise", np.random.rand(2, 4, 3, 8, 8), 0, fps=2)
        """
        videos, layout = arranged(tag, vid_tensor, dataformats, "NTHWC")
        limits = pixel_range(videos)
        if layout == "NTHWC":
            videos, layout = tiled(videos), "THWC"
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.video(tag, videos, fps, layout=cast("Any", layout), range=limits, step=step)
