"""The methods of a summary writer for sounds, texts, embeddings and meshes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._emit import arguments, conversion
from jaxboard._emit.media import ImageLayout
from jaxboard._safe_repr import describe_object
from jaxboard._summary_writer.dataformats import pixel_range
from jaxboard._summary_writer.writer_base import GlobalStep, WriterBase
from jaxboard._types import Array, Reportable


class ObjectMethods(WriterBase):
    """Sounds, texts, embeddings and meshes."""

    def add_audio(
        self,
        tag: str,
        snd_tensor: Reportable,
        global_step: GlobalStep = None,
        sample_rate: int = 44100,
        walltime: float | None = None,
    ) -> None:
        """Report a sound. An array on a device is not waited for.

        Args:
            tag: the name.
            snd_tensor: [L], [1, L] or [L, C]: L samples in C channels, floats from -1 to 1 or int16.
            global_step: see :class:`jaxboard.SummaryWriter`.
            sample_rate: samples per second, in Hz.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: the array is not a sound, or an argument is invalid.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_audio("a4", np.sin(np.arange(8000) * 2 * np.pi * 440 / 8000), 0, 8000)
        """
        sound = conversion.as_array(tag, snd_tensor)
        if sound.ndim > 1 and sound.size and sound.shape[0] == 1:
            sound = sound.reshape([size for size in sound.shape if size != 1] or [1])
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.audio(tag, sound, sample_rate, step=step)

    def add_text(
        self,
        tag: str,
        text_string: str,
        global_step: GlobalStep = None,
        walltime: float | None = None,
    ) -> None:
        """Report text. As in both libraries, the tag is ``tag/text_summary``.

        Args:
            tag: the name.
            text_string: Markdown. Or the rows of a table, as :func:`jaxboard.text` takes them.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: ``text_string`` is something else, or an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_text("notes", "**first** try", 0)
        """
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.text(f"{tag}/text_summary", text_string, step=cast("int", step))

    def add_embedding(
        self,
        mat: Reportable,
        metadata: Iterable[object] | None = None,
        label_img: Reportable | None = None,
        global_step: GlobalStep = None,
        tag: str = "default",
        metadata_header: Sequence[str] | None = None,
    ) -> None:
        """Report vectors, for the projector. This waits for arrays that are on a device.

        Args:
            mat: [N, D], a vector for each point.
            metadata: a label for each point, or a row of labels with ``metadata_header``.
            label_img: [N, C, H, W], a thumbnail for each point; [N, H, W, C] if only the last axis can be the channels.
            global_step: see :class:`jaxboard.SummaryWriter`.
            tag: the name.
            metadata_header: the names of the columns, if ``metadata`` are rows.

        Raises:
            ReportError: the numbers of vectors, labels and images differ, or an argument is invalid.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_embedding(np.eye(3), metadata=["a", "b", "c"], tag="letters")
        """
        images, layout = (None, None) if label_img is None else _thumbnails(tag, label_img)
        run, step = self._begin(tag, global_step)
        with self._at(tag, None):
            run.embedding(
                tag,
                mat,
                labels=None if metadata is None else _as_labels(tag, metadata),
                metadata_header=metadata_header,
                images=images,
                layout=layout,
                step=cast("int", step),
            )

    def add_mesh(
        self,
        tag: str,
        vertices: Reportable,
        colors: Reportable | None = None,
        faces: Reportable | None = None,
        config_dict: Mapping[str, object] | None = None,
        global_step: GlobalStep = None,
        walltime: float | None = None,
    ) -> None:
        """Report meshes or point clouds. Arrays on a device are not waited for.

        Args:
            tag: the name.
            vertices: [B, N, 3] or [N, 3], the coordinates.
            colors: the color of each vertex, of the shape of ``vertices``: integers from 0 to 255, or floats from 0 to 1. Floats
                of NumPy with a value above 1 are from 0 to 255.
            faces: [B, F, 3] or [F, 3], integers: the indices of the vertices of each triangle.
            config_dict: classes of three.js and their parameters.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: an array has another shape or dtype, or an argument is invalid.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_mesh("cloud", np.random.rand(1, 10, 3), np.full((1, 10, 3), 255))
        """
        corners = conversion.as_array(tag, vertices)
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.mesh(
                tag,
                corners,
                faces,
                None if colors is None else _as_colors(conversion.as_array(tag, colors)),
                config=config_dict,
                max_meshes=max(corners.shape[0], 1) if corners.ndim == 3 else 1,
                step=step,
            )


def _as_labels(tag: str, metadata: object) -> list[object]:
    """Return labels as a list: the elements of an array as numbers, without their type."""
    if isinstance(metadata, list | tuple):
        return list(cast("Sequence[object]", metadata))
    with contextlib.suppress(Exception), jax.transfer_guard_device_to_host("allow"):
        if hasattr(metadata, "__array__"):
            return list(np.asarray(metadata).tolist())
        return list(cast("Iterable[object]", metadata))
    raise arguments.report_error(
        tag, f"expected metadata= to be a list, got {describe_object(metadata)}."
    )


def _thumbnails(tag: str, images: Reportable) -> tuple[Array, ImageLayout]:
    """Return images and their layout: [N, C, H, W], or [N, H, W, C] if only the last axis can be the channels."""
    array = conversion.as_array(tag, images)
    is_last = array.ndim == 4 and array.shape[1] not in (1, 3, 4) and array.shape[3] in (1, 3, 4)
    if pixel_range(array) is not None:
        array = array.astype(np.float32)
    return array, "NHWC" if is_last else "NCHW"


def _as_colors(colors: Array) -> Array:
    """Return integers from 0 to 255, or floats of NumPy in that range, as uint8."""
    on_host = isinstance(colors, np.ndarray)
    is_integer = jnp.issubdtype(colors.dtype, np.integer)
    if is_integer or (on_host and colors.dtype.kind == "f" and colors.size and colors.max() > 1):
        return colors.clip(0, 255).astype(np.uint8)
    return colors
