"""CLU's interface for writing metrics, on top of jaxboard. Requires ``pip install 'jaxboard-tb[clu]'``."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, cast

import jax
import numpy as np
from clu.metric_writers import interface
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata

import jaxboard as jb

Array: TypeAlias = np.ndarray | jax.Array

_DataClass: TypeAlias = Literal["tensor", "scalar", "blob_sequence"]

_DATA_CLASSES: dict[int, _DataClass] = {1: "scalar", 2: "tensor", 3: "blob_sequence"}
"""The numbers of ``DataClass`` in TensorBoard's ``summary.proto``."""

_PLUGIN_DATA_CLASSES: dict[str, _DataClass] = {
    "scalars": "scalar",
    "images": "blob_sequence",
    "audio": "blob_sequence",
}
"""The data class of each plugin, for metadata that names none. All other plugins have tensors, as in TensorBoard."""


class MetricWriter(interface.MetricWriter):
    """A ``clu.metric_writers.MetricWriter`` that writes to a run of jaxboard.

    Libraries and training loops that take a writer of CLU report to the run, next to the reports of the program. The
    methods are those of CLU's interface, with the same arguments. They do not wait for the device, except
    :meth:`write_summaries`. Invalid values raise :class:`jaxboard.ReportError`; a fault of the disk raises in
    :meth:`flush` and :meth:`close`.

    Nested hyperparameters are named ``model/layers``, where CLU's own writer names them ``model.layers``.

    Args:
        run: the run, or a child of one. By default the run that is active when a method is called.

    Example:
        >>> from jaxboard.integrations.clu import MetricWriter
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     writer = MetricWriter()
        ...     writer.write_scalars(10, {"loss": 0.5, "accuracy": 0.75})
        >>> [(record.tag, record.step, float(record.value)) for record in records]
        [('loss', 10, 0.5), ('accuracy', 10, 0.75)]
    """

    def __init__(self, run: jb.Run | jb.ChildRun | None = None):
        super().__init__()
        self._run = run
        # The module and a run have the same verbs.
        self._verbs = cast("jb.Run", jb if run is None else run)

    def write_summaries(
        self,
        step: int,
        values: Mapping[str, Array],
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Write tensors for plugins of TensorBoard. This waits for arrays that are on a device.

        Args:
            step: the step.
            values: an array for each tag.
            metadata: a ``SummaryMetadata`` for each tag, which may be serialized. A tensor without metadata belongs to the
                plugin ``tensor``: it is stored, and no dashboard shows it.
        """
        for tag, value in values.items():
            about = _parsed(None if metadata is None else metadata.get(tag))
            plugin = about.plugin_data.plugin_name or "tensor"
            self._verbs.tensor(
                tag,
                value,
                plugin,
                content=about.plugin_data.content,
                data_class=_DATA_CLASSES.get(about.data_class)
                or _PLUGIN_DATA_CLASSES.get(plugin, "tensor"),
                display_name=about.display_name,
                description=about.summary_description,
                step=step,
            )

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Write numbers; see :func:`jaxboard.scalar`."""
        for tag, value in scalars.items():
            self._verbs.scalar(tag, value, step=step)

    def write_images(self, step: int, images: Mapping[str, Array]) -> None:
        """Write images, [H, W, C] or all of [N, H, W, C]; see :func:`jaxboard.image`."""
        for tag, value in images.items():
            batched = np.ndim(value) == 4
            self._verbs.image(
                tag,
                value,
                step=step,
                layout="NHWC" if batched else "HWC",
                max_images=len(value) if batched else 1,
            )

    def write_videos(self, step: int, videos: Mapping[str, Array]) -> None:
        """Write videos, [T, H, W, C] or all of [N, T, H, W, C]; see :func:`jaxboard.video`."""
        for tag, value in videos.items():
            batched = np.ndim(value) == 5
            self._verbs.video(
                tag,
                value,
                step=step,
                layout="NTHWC" if batched else "THWC",
                max_videos=len(value) if batched else 1,
            )

    def write_audios(self, step: int, audios: Mapping[str, Array], *, sample_rate: int) -> None:
        """Write sounds, all of [N, T, C]; see :func:`jaxboard.audio`."""
        for tag, value in audios.items():
            self._verbs.audio(tag, value, sample_rate, step=step, max_sounds=len(value))

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Write texts, which TensorBoard shows as Markdown; see :func:`jaxboard.text`."""
        for tag, value in texts.items():
            self._verbs.text(tag, value, step=step)

    def write_histograms(
        self,
        step: int,
        arrays: Mapping[str, Array],
        num_buckets: Mapping[str, int] | None = None,
    ) -> None:
        """Write histograms; see :func:`jaxboard.histogram`.

        Args:
            step: the step.
            arrays: an array for each tag.
            num_buckets: the number of buckets of equal width for each tag; by default, jaxboard chooses the buckets.
        """
        for tag, value in arrays.items():
            bins = None if num_buckets is None else num_buckets.get(tag)
            self._verbs.histogram(tag, value, step=step, bins=bins)

    def write_pointcloud(
        self,
        step: int,
        point_clouds: Mapping[str, Array],
        *,
        point_colors: Mapping[str, Array] | None = None,
        configs: Mapping[str, Any] | None = None,
    ) -> None:
        """Write point clouds, [V, 3] or all of [N, V, 3]; see :func:`jaxboard.mesh`.

        Args:
            step: the step.
            point_clouds: the coordinates for each tag.
            point_colors: the colors for each tag.
            configs: the configuration of the scene for each tag.
        """
        for tag, value in point_clouds.items():
            self._verbs.mesh(
                tag,
                value,
                colors=None if point_colors is None else point_colors.get(tag),
                config=None if configs is None else configs.get(tag),
                step=step,
                max_meshes=len(value) if np.ndim(value) == 3 else 1,
            )

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Write the hyperparameters of the run; see :func:`jaxboard.hparams`."""
        self._verbs.hparams(hparams)

    def flush(self) -> None:
        """Block until everything reported so far is on disk; see :meth:`jaxboard.Run.flush`."""
        run = jb.current_run() if self._run is None else self._run
        if run is not None:
            run.flush()

    def close(self) -> None:
        """Flush. The run stays open: the code that opened it closes it."""
        self.flush()


def _parsed(metadata: Any) -> Any:
    """Return metadata as a message, either TensorBoard's or TensorFlow's, which has the same fields."""
    if metadata is None or isinstance(metadata, bytes):
        return SummaryMetadata.FromString(metadata or b"")
    return metadata
