"""The methods of a summary writer for counts: histograms, and precision over recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import jax.numpy as jnp
import numpy as np

from jaxboard._emit import conversion
from jaxboard._emit.arguments import report_error
from jaxboard._safe_repr import describe_array
from jaxboard._summary_writer.binned import Bins, binned, binned_raw
from jaxboard._summary_writer.writer_base import GlobalStep, WriterBase
from jaxboard._types import Reportable


class CountedMethods(WriterBase):
    """Histograms, and precision over recall."""

    def add_histogram(
        self,
        tag: str,
        values: Reportable,
        global_step: GlobalStep = None,
        bins: Bins = "tensorflow",
        walltime: float | None = None,
        max_bins: int | None = None,
    ) -> None:
        """Report the distribution of the elements of an array.

        With the default ``bins`` an array on a device is counted there and not waited for.

        Args:
            tag: the name.
            values: an array of any shape, with at least one element.
            global_step: see :class:`jaxboard.SummaryWriter`.
            bins: ``"tensorflow"`` for up to 128 bins of equal width, or what :func:`numpy.histogram` takes: a number, edges,
                or the name of a rule, such as ``"auto"`` or ``"fd"``. NumPy counts these, and waits for the device.
            walltime: see :class:`jaxboard.SummaryWriter`.
            max_bins: the largest number of bins, which NumPy counts.

        Raises:
            ReportError: ``values`` has no element, no finite one or none in ``bins``, or an argument is invalid.

        Example:
            >>> import tempfile, jax.numpy as jnp, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_histogram("weights", jnp.arange(100.0), 0)
            ...     writer.add_histogram("weights/ten", jnp.arange(100.0), 0, bins=10)
        """
        array = conversion.as_array(tag, values)
        if not array.size:
            raise report_error(tag, f"expected at least one element, got {describe_array(array)}.")
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            if isinstance(bins, str) and bins == "tensorflow" and max_bins is None:
                run.histogram(tag, array, step=step)
                return
            counts, edges = binned(tag, array, bins, max_bins)
            run.histogram(tag, counts=counts, edges=edges, step=step)

    def add_histogram_raw(
        self,
        tag: str,
        min: float,  # noqa: A002 (the name in both libraries)
        max: float,  # noqa: A002
        num: float,
        sum: float,  # noqa: A002
        sum_squares: float,
        bucket_limits: Reportable | Sequence[float],
        bucket_counts: Reportable | Sequence[float],
        global_step: GlobalStep = None,
        walltime: float | None = None,
    ) -> None:
        """Report a histogram that was counted elsewhere.

        Args:
            tag: the name.
            min: the smallest value.
            max: the largest value.
            num: without effect, as TensorBoard does not show it.
            sum: without effect.
            sum_squares: without effect.
            bucket_limits: [K], the upper edge of each bucket, ascending.
            bucket_counts: [K], the number of values in each bucket.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: the lengths differ, the limits are not ascending, or an argument is invalid.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> values = np.arange(10.0)
            >>> counts, edges = np.histogram(values)
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_histogram_raw("values", 0, 9, 10, 45, 285, edges[1:], counts, 0)
        """
        del num, sum, sum_squares
        counts, edges = binned_raw(tag, min, max, bucket_limits, bucket_counts)
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.histogram(tag, counts=counts, edges=edges, step=step)

    def add_pr_curve(
        self,
        tag: str,
        labels: Reportable,
        predictions: Reportable,
        global_step: GlobalStep = None,
        num_thresholds: int = 127,
        weights: Reportable | None = None,
        walltime: float | None = None,
    ) -> None:
        """Report the precision and the recall of a classifier. Arrays on a device are counted there.

        Args:
            tag: the name.
            labels: bools, or numbers that are 0 or 1.
            predictions: the probability that each label is 1, of the shape of ``labels``.
            global_step: see :class:`jaxboard.SummaryWriter`.
            num_thresholds: the number of thresholds, at least 2.
            weights: the weight of each sample, or of all of them.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: the shapes differ, a label is neither 0 nor 1, or an argument is invalid.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_pr_curve("test", np.array([0, 1, 1]), np.array([0.1, 0.6, 0.9]), 0)
        """
        if weights is not None:
            array = conversion.as_array(tag, weights)
            shape = conversion.as_array(tag, labels).shape
            xp = np if isinstance(array, np.ndarray) else jnp
            weights = xp.broadcast_to(array, shape) if array.size == 1 else array
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.pr_curve(
                tag,
                labels,
                predictions,
                num_thresholds=num_thresholds,
                weights=weights,
                step=step,
            )

    def add_pr_curve_raw(
        self,
        tag: str,
        true_positive_counts: Reportable | Sequence[float],
        false_positive_counts: Reportable | Sequence[float],
        true_negative_counts: Reportable | Sequence[float],
        false_negative_counts: Reportable | Sequence[float],
        precision: Reportable | Sequence[float],
        recall: Reportable | Sequence[float],
        global_step: GlobalStep = None,
        num_thresholds: int = 127,
        weights: object = None,
        walltime: float | None = None,
    ) -> None:
        """Report a curve that was counted elsewhere. This waits for arrays that are on a device.

        Args:
            tag: the name.
            true_positive_counts: [T], for T ascending thresholds.
            false_positive_counts: [T].
            true_negative_counts: [T].
            false_negative_counts: [T].
            precision: [T].
            recall: [T].
            global_step: see :class:`jaxboard.SummaryWriter`.
            num_thresholds: without effect: it is T.
            weights: without effect, as in both libraries.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: the arrays have other shapes, or an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_pr_curve_raw("test", [2, 1], [3, 0], [0, 3], [0, 1], [0.4, 1], [1, 0.5], 0)
        """
        del num_thresholds, weights
        arrays = [
            np.asarray(conversion.as_array(tag, cast("Reportable", each)))
            for each in (
                true_positive_counts,
                false_positive_counts,
                true_negative_counts,
                false_negative_counts,
                precision,
                recall,
            )
        ]
        shapes = [describe_array(array) for array in arrays]
        if arrays[0].ndim != 1 or len({array.shape for array in arrays}) > 1 or not arrays[0].size:
            raise report_error(tag, f"expected six arrays of one length, got {', '.join(shapes)}.")
        from jaxboard.sinks import _proto

        content = _proto.pr_curve.PrCurvePluginData(num_thresholds=arrays[0].size)
        with np.errstate(over="ignore"):  # Larger numbers are infinity.
            table = np.stack(arrays).astype(np.float32)
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.tensor(
                tag,
                table,
                "pr_curves",
                content=content.SerializeToString(),
                display_name=tag,
                step=cast("int", step),
            )
