"""Counts of right and wrong predictions: curves over thresholds, and confusion matrices.

The device counts in one pass over the predictions, and a few kilobytes leave it. Counts are sums, so they merge exactly
over lanes, iterations, steps and devices.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.histogram import scatter_add
from jaxboard._reduce.named_values import NamedValues
from jaxboard._reduce.reducers import State, Sum, at_least_32_bits, replicated
from jaxboard._reduce.wide import floats, namespace
from jaxboard._types import Array
from jaxboard.records import ConfusionMatrix, Kind, ThresholdCounts

_ROUNDING = 1e-3
"""Predictions that are this far outside of 0 to 1 are rounding errors."""


def count_thresholds(
    labels: Array,
    predictions: Array,
    weights: Array | None,
    num_thresholds: int,
    num_classes: int | None,
) -> Array:
    """Return how many negative and positive samples have their prediction between two thresholds.

    Args:
        labels: [...], 0 or 1, or the class.
        predictions: floats [...], or [..., C] if the label is one of C classes.
        weights: [...], floats or bools, or None for a weight of 1.
        num_thresholds: T, the number of thresholds.
        num_classes: C, or None if labels are 0 or 1, which is one problem.

    Returns:
        [C, 2 T + 2], or [1, 2 T + 2]: uint32, or floats if ``weights`` are. The negative samples by
        the number of their last threshold, then the positive ones, then the samples that are ignored, then the
        predictions that are clipped.
    """

    def count(labels: Array, predictions: Array, *weights: Array) -> Array:
        xp = namespace(labels, predictions, *weights)
        labels, scores = _numbers(labels), floats(predictions)
        if num_classes is None:
            labels, scores = labels[..., None], scores[..., None]
            is_known, is_positive = (labels == 0) | (labels == 1), labels == 1
        else:
            classes = xp.arange(num_classes, dtype=labels.dtype)
            labels = labels[..., None]
            is_known = (labels >= 0) & (labels < num_classes)
            is_positive = labels == classes.reshape((1,) * (labels.ndim - 1) + (-1,))
        is_number = ~xp.isnan(scores)
        bucket = xp.where(is_number, scores, 0).clip(0, 1) * (num_thresholds - 1)
        place = bucket.astype(np.int32) + xp.where(is_positive, np.int32(num_thresholds), 0)
        place = xp.where(is_known & is_number, place, np.int32(2 * num_thresholds))
        outside = xp.where((scores < -_ROUNDING) | (scores > 1 + _ROUNDING), np.int32(1), 0)
        # One problem after the other, each with a row of the table.
        width = 2 * num_thresholds + 1
        rows = place.shape[-1]
        first = (xp.arange(rows, dtype=np.int32) * width).reshape((1,) * (place.ndim - 1) + (-1,))
        amounts = _amounts(place.shape, xp, *weights)
        table = _tally(place + first, amounts, rows * width).reshape(rows, width)
        clipped = (amounts * outside.astype(amounts.dtype)).reshape(-1, rows).sum(0)
        return xp.concatenate([table, clipped.astype(table.dtype)[:, None]], axis=1)

    return _counted(count, labels, predictions, weights)


def count_matrix(
    labels: Array, predictions: Array, weights: Array | None, num_classes: int
) -> Array:
    """Return how many samples have each pair of a label and a prediction.

    Args:
        labels: integers [...], the class.
        predictions: integers [...], the predicted class.
        weights: [...], floats or bools, or None for a weight of 1.
        num_classes: C, the number of classes.

    Returns:
        [C * C + 1]: uint32, or floats if ``weights`` are. The matrix row by row, then the samples that are ignored.
    """

    def count(labels: Array, predictions: Array, *weights: Array) -> Array:
        xp = namespace(labels, predictions, *weights)
        labels, predictions = _numbers(labels), _numbers(predictions)
        is_known = (labels >= 0) & (labels < num_classes)
        is_known &= (predictions >= 0) & (predictions < num_classes)
        true, predicted = (xp.where(is_known, x, 0).astype(np.int32) for x in (labels, predictions))
        place = xp.where(is_known, true * num_classes + predicted, num_classes**2)
        return _tally(place, _amounts(place.shape, xp, *weights), num_classes**2 + 1)

    return _counted(count, labels, predictions, weights)


def _counted(
    count: Callable[..., Array], labels: Array, predictions: Array, weights: Array | None
) -> Array:
    """Return ``count(labels, predictions)`` or ``count(labels, predictions, weights)``, which no derivative reaches."""
    arrays = [labels, predictions] if weights is None else [labels, predictions, weights]
    if namespace(*arrays) is np:
        return count(*arrays)
    # Without stop_gradient, jax.grad would differentiate the count and then drop the derivative.
    return replicated(count, *map(lax.stop_gradient, map(jnp.asarray, arrays)))


def _numbers(values: Array) -> Array:
    """Return values as numbers of at least 32 bits, bools as integers."""
    values = at_least_32_bits(values)
    return values.astype(np.int32) if values.dtype == np.bool_ else values


def _amounts(shape: tuple[int, ...], xp: ModuleType, weights: Array | None = None) -> Array:
    """Return what each element adds to its count: uint32, or floats. Weights that are not above zero add nothing."""
    if weights is None:
        return xp.ones(shape, np.uint32)
    if weights.dtype == np.bool_:
        amounts = weights.astype(np.uint32)
    else:
        amounts = floats(weights)
        amounts = xp.where(amounts > 0, amounts, amounts.dtype.type(0))
    missing = len(shape) - amounts.ndim
    return xp.broadcast_to(amounts.reshape(amounts.shape + (1,) * missing), shape)


def _tally(places: Array, amounts: Array, size: int) -> Array:
    """Return the sum of the amounts at each of ``size`` places."""
    xp = namespace(places, amounts)
    if xp is np and amounts.dtype == np.uint32:
        return scatter_add(np.zeros(size, np.int64), places, amounts)
    zeros = xp.zeros(size, amounts.dtype if xp is not np else np.float64)
    return scatter_add(zeros, places.reshape(-1), amounts.reshape(-1))


class ThresholdsReducer(Sum):
    """Add the counts of :func:`count_thresholds`.

    Args:
        kind: the kind of the points.
        num_thresholds: see there.
        classes: the names of the classes, each with a point of its own; none if labels are 0 or 1.
    """

    name = "thresholds"

    def __init__(self, kind: Kind, num_thresholds: int, classes: tuple[str, ...]):
        self.kind = kind
        self.num_thresholds = num_thresholds
        self.classes = classes

    def finish(self, state: State) -> ThresholdCounts | NamedValues:
        rows = super().finish(state)
        if not self.classes:
            return self._counts(rows[0])
        named = zip(self.classes, map(self._counts, rows), strict=True)
        return NamedValues(self.kind, tuple(named))

    def _counts(self, row: np.ndarray) -> ThresholdCounts:
        buckets = row[:-2].reshape(2, self.num_thresholds)
        if buckets.dtype == np.float32:
            buckets = buckets.astype(np.float64)
        above = buckets[:, ::-1].cumsum(1)[:, ::-1]
        false, true = above
        ignored, clipped = row[-2:].tolist()
        return ThresholdCounts(
            true, false, true[0].item(), false[0].item(), ignored=ignored, clipped=clipped
        )


class ConfusionMatrixReducer(Sum):
    """Add the counts of :func:`count_matrix`.

    Args:
        classes: the names of the classes.
    """

    name = "confusion_matrix"

    def __init__(self, classes: tuple[str, ...]):
        self.classes = classes

    def finish(self, state: State) -> ConfusionMatrix:
        counts = super().finish(state)
        size = len(self.classes)
        matrix = counts[:-1].reshape(size, size)
        if matrix.dtype == np.float32:
            matrix = matrix.astype(np.float64)
        return ConfusionMatrix(matrix, self.classes, ignored=counts[-1].item())
