"""The verbs for classifiers: ``pr_curve``, ``roc_curve`` and ``confusion_matrix``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard import _compat
from jaxboard._check import as_positive_int
from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array
from jaxboard._reduce import ConfusionMatrixOptions, ThresholdsOptions
from jaxboard._safe_repr import describe_array, safe_repr
from jaxboard._types import Array, Reportable, Runs, Step
from jaxboard.records import Kind

_MAX_CLASSES = 1024
"""Most classes of a confusion matrix: its picture has at least one pixel for each pair."""


class _Samples(NamedTuple):
    """The arguments of a report of a classifier, as arrays."""

    labels: Array
    predictions: Array
    weights: Array | None


def pr_curve(
    tag: str,
    labels: Reportable,
    predictions: Reportable,
    *,
    num_thresholds: int = 127,
    weights: Reportable | None = None,
    classes: Sequence[str] | None = None,
    step: Step | None = None,
    every: int | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the precision and the recall of a classifier at many thresholds.

    Counting happens on the device, in one pass, and about a kilobyte leaves it. All samples of one tag in one step make one
    curve: the batches of an evaluation, lanes, iterations, devices, and with ``every`` the steps of a window. Counts
    are exact integers, unless ``weights`` are floats.

    Args:
        tag: the name of the curve. Each of several classes has a curve of its own, ``tag/class_0``, ``tag/class_1``, …
        labels: [...], bools, or numbers that are 0 or 1; or the class, integers [...] from 0 to C - 1.
        predictions: the probability that the label is 1, from 0 to 1, of the shape of ``labels``; or those of C
            classes, [..., C]. Predictions outside of 0 to 1 are clipped, with one warning. A sample whose
            prediction is NaN, or whose label is not one of the classes, is left out, with one warning.
        num_thresholds: how many thresholds to count at, evenly spaced from 0 to 1.
        weights: of the shape of ``labels``: floats, or bools that select samples.
        classes: the names of the C classes, instead of ``class_0``, ``class_1``, …
        step: see :func:`scalar`.
        every: make one curve of the samples of this many steps, at the steps that are multiples of it.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets a curve of its own; there is no summary of all lanes.

    Raises:
        ReportError: shapes do not match, a label in plain Python is not one of the classes, or an argument is invalid.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.pr_curve("test", jnp.array([0, 1, 1]), jnp.array([0.1, 0.6, 0.9]), num_thresholds=5)
        >>> curve = records[0].value
        >>> curve.thresholds.tolist(), curve.true_positives.tolist(), curve.recall.tolist()
        ([0.0, 0.25, 0.5, 0.75, 1.0], [2, 2, 2, 1, 0], [1.0, 1.0, 1.0, 0.5, 0.0])
    """
    _report_thresholds(
        Kind.PR_CURVE,
        tag,
        _samples(tag, labels, predictions, weights),
        num_thresholds,
        classes,
        step=step,
        every=every,
        where=where,
        runs=runs,
    )


def roc_curve(
    tag: str,
    labels: Reportable,
    predictions: Reportable,
    *,
    num_thresholds: int = 127,
    weights: Reportable | None = None,
    classes: Sequence[str] | None = None,
    step: Step | None = None,
    every: int | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the true and the false positive rate of a classifier at many thresholds, as an image.

    TensorBoard has no dashboard for these curves. The image names the area under the curve, and sinks receive the counts.
    Samples are counted and merged as in :func:`pr_curve`.

    Args:
        tag: the name of the image. Each of several classes has one of its own, ``tag/class_0``, ``tag/class_1``, …
        labels: see :func:`pr_curve`.
        predictions: see :func:`pr_curve`.
        num_thresholds: see :func:`pr_curve`.
        weights: see :func:`pr_curve`.
        classes: see :func:`pr_curve`.
        step: see :func:`scalar`.
        every: see :func:`pr_curve`.
        where: see :func:`scalar`.
        runs: see :func:`pr_curve`.

    Raises:
        ReportError: shapes do not match, a label in plain Python is not one of the classes, or an argument is invalid.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.roc_curve("test", jnp.array([0, 1, 0, 1]), jnp.array([0.1, 0.6, 0.7, 0.9]))
        >>> records[0].value.auc
        0.75
    """
    _report_thresholds(
        Kind.ROC_CURVE,
        tag,
        _samples(tag, labels, predictions, weights),
        num_thresholds,
        classes,
        step=step,
        every=every,
        where=where,
        runs=runs,
    )


def confusion_matrix(
    tag: str,
    labels: Reportable,
    predictions: Reportable,
    *,
    classes: int | Sequence[str] | None = None,
    weights: Reportable | None = None,
    step: Step | None = None,
    every: int | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report how often samples of each class are predicted to be of each class, as an image.

    A row of the image is a true class, a column a predicted one. A cell shows its count, and its color is the fraction of the
    row. Sinks receive the counts. Samples are counted on the device and merged as in :func:`pr_curve`.

    Args:
        tag: the name of the image.
        labels: integers [...], from 0 to C - 1. Samples with another label are left out, with one warning.
        predictions: integers of the shape of ``labels``, the predicted classes; or scores, [..., C], of which the largest is
            the prediction.
        classes: the number of classes, C, or their names. Scores have C in their shape and need no ``classes``.
        weights: of the shape of ``labels``: floats, or bools that select samples.
        step: see :func:`scalar`.
        every: make one matrix of the samples of this many steps, at the steps that are multiples of it.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane gets a matrix of its own; there is no summary of all lanes.

    Raises:
        ReportError: shapes do not match, a label in plain Python is not one of the classes, there are more than
            1024 classes, or an argument is invalid.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.confusion_matrix("test", jnp.array([0, 1, 1]), jnp.array([0, 1, 0]), classes=["cat", "dog"])
        >>> records[0].value.counts.tolist()
        [[1, 0], [1, 1]]
    """
    samples = _samples(tag, labels, predictions, weights)
    _check_integers(tag, "labels", samples.labels)
    if samples.predictions.ndim == samples.labels.ndim + 1:
        scores = samples.predictions
        width = scores.shape[-1]
        names = _names(tag, width if classes is None else classes)
        if len(names) != width:
            raise arguments.report_error(
                tag,
                f"expected scores of {len(names)} classes, got predictions {describe_array(scores)}.",
            )
        samples = samples._replace(predictions=scores.argmax(-1) if width else scores)
    else:
        _check_integers(tag, "predictions", samples.predictions)
        if classes is None:
            raise arguments.report_error(
                tag, "pass classes=, the number of classes or their names, or predictions [..., C]."
            )
        names = _names(tag, classes)
    if not 0 < len(names) <= _MAX_CLASSES:
        raise arguments.report_error(
            tag,
            f"expected 1 to {_MAX_CLASSES} classes, got {classes if isinstance(classes, int) else len(names)}.",
        )
    _check_labels(tag, samples, len(names))
    report_array(
        Kind.CONFUSION_MATRIX,
        tag,
        samples,
        functools.partial(_counts, count=_count_matrix, sizes=(len(names),)),
        step=step,
        every=every,
        where=where,
        runs=runs,
        reduce="sum",
        options=ConfusionMatrixOptions(names),
    )


def _report_thresholds(
    kind: Kind,
    tag: str,
    samples: _Samples,
    num_thresholds: int,
    classes: Sequence[str] | None,
    *,
    step: Step | None,
    every: int | None,
    where: Reportable | None,
    runs: Runs,
) -> None:
    count = as_positive_int(num_thresholds)
    if count is None or count < 2:
        raise arguments.report_error(
            tag,
            f"expected num_thresholds= to be an integer of at least 2, got {safe_repr(num_thresholds)}.",
        )
    names: tuple[str, ...] = ()
    if samples.predictions.ndim > samples.labels.ndim:
        _check_integers(tag, "labels", samples.labels)
        width = samples.predictions.shape[-1]
        names = _names(tag, [f"class_{i}" for i in range(width)] if classes is None else classes)
        if len(names) != width or not width:
            raise arguments.report_error(
                tag,
                f"expected predictions of {len(names)} classes, "
                f"got {describe_array(samples.predictions)}.",
            )
    elif classes is not None:
        raise arguments.report_error(
            tag,
            f"classes= needs a prediction for each class, [..., C], got labels and predictions of one shape, "
            f"{describe_array(samples.predictions)}.",
        )
    _check_labels(tag, samples, len(names) or None)
    report_array(
        kind,
        tag,
        samples,
        functools.partial(_counts, count=_count_thresholds, sizes=(count, len(names) or None)),
        step=step,
        every=every,
        where=where,
        runs=runs,
        reduce="sum",
        options=ThresholdsOptions(count, names),
    )


def _samples(
    tag: str, labels: Reportable, predictions: Reportable, weights: Reportable | None
) -> _Samples:
    """Return the arguments as arrays, and raise unless their shapes match."""
    arguments.check_tag(tag)
    arrays = [conversion.widened(conversion.as_array(tag, each)) for each in (labels, predictions)]
    true, predicted = arrays
    if predicted.shape not in (true.shape, (*true.shape, *predicted.shape[-1:])):
        raise arguments.report_error(
            tag,
            "expected predictions of the shape of the labels, with or without an axis of classes behind, got labels "
            f"{describe_array(true)} and predictions {describe_array(predicted)}.",
        )
    weight = None if weights is None else conversion.widened(conversion.as_array(tag, weights))
    if weight is not None and weight.shape != true.shape:
        raise arguments.report_error(
            tag,
            f"expected weights= of the shape of the labels, {describe_array(true)}, got "
            f"{describe_array(weight)}.",
        )
    return _Samples(true, predicted, weight)


def _check_integers(tag: str, name: str, array: Array) -> None:
    if not (array.dtype == np.bool_ or jnp.issubdtype(array.dtype, jnp.integer)):
        advice = "" if name == "labels" else " Scores have one axis more than the labels."
        raise arguments.report_error(
            tag,
            f"expected {name} to be classes, as integers, got {describe_array(array)}.{advice}",
        )


def _names(tag: str, classes: int | Sequence[str]) -> tuple[str, ...]:
    """Return the names of the classes."""
    number = as_positive_int(classes)
    if number is not None:
        return tuple(map(str, range(min(number, _MAX_CLASSES + 1))))
    is_sequence = isinstance(classes, Sequence) and not isinstance(classes, str)
    try:
        names = tuple(map(str, cast("Sequence[str]", classes))) if is_sequence else ()
    except Exception:  # An object in it has no text.
        is_sequence, names = False, ()
    if not is_sequence:
        raise arguments.report_error(
            tag,
            f"expected classes= to be the names of the classes, got {safe_repr(classes)}.",
        )
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise arguments.report_error(tag, f"two classes have the name {repeated!r}.")
    for name in names:
        arguments.check_tag(f"{tag}/{name}")
    return names


def _check_labels(tag: str, samples: _Samples, num_classes: int | None) -> None:
    """Raise if a label that is known now, and that counts, is not one of the classes."""
    labels, _, weights = samples
    if not isinstance(labels, np.ndarray) or not isinstance(weights, np.ndarray | None):
        return
    if num_classes is None:
        wrong = (labels != 0) & (labels != 1)
        expected = "of 0 and 1"
    else:
        wrong = (labels < 0) | (labels >= num_classes)
        expected = f"from 0 to {num_classes - 1}"
    if weights is not None:
        wrong &= weights > 0
    if wrong.any():
        raise arguments.report_error(
            tag,
            f"expected labels {expected}, got {labels[wrong][0]}. Samples with weights= of 0 do not count.",
        )


def _counts(
    _: str, samples: _Samples, *, count: Callable[..., Array], sizes: tuple[int | None, ...]
) -> Array:
    """Return the counts of the samples: computed by NumPy if all of them are on the host."""
    if all(array is None or isinstance(array, np.ndarray) for array in samples):
        return count(samples, sizes)
    on_device: _Samples = jax.tree.map(
        lambda x: jax.device_put(x) if isinstance(x, np.ndarray) else x, samples
    )
    with _compat.unchecked():
        return _jitted(count)(on_device, sizes)


@functools.cache
def _jitted(count: Callable[..., Array]) -> Callable[..., jax.Array]:
    return jax.jit(count, static_argnums=1)


def _count_thresholds(samples: _Samples, sizes: tuple[int, int | None]) -> Array:
    from jaxboard._reduce.confusion import count_thresholds

    return count_thresholds(*samples, *sizes)


def _count_matrix(samples: _Samples, sizes: tuple[int]) -> Array:
    from jaxboard._reduce.confusion import count_matrix

    return count_matrix(*samples, *sizes)
