"""The values of the records of single dashboards: classifiers, hyperparameters, layouts, meshes, the projector.

:mod:`jaxboard.records` has them too: use that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

import numpy as np


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ThresholdCounts:
    """The right and wrong predictions of a binary classifier, for each of T thresholds.

    The thresholds are evenly spaced from 0 to 1. A prediction at or above the threshold is positive.

    Attributes:
        true_positives: [T], int64, or float64 if the samples have weights: the positive predictions of samples
            that are positive.
        false_positives: [T], the positive predictions of samples that are negative.
        positives: the number of samples that are positive, or the sum of their weights.
        negatives: the number of samples that are negative, or the sum of their weights.
        ignored: the number of samples that are left out: their label is not one of the classes, or their prediction is NaN.
        clipped: the number of predictions below 0 or above 1, which count as 0 or 1.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import ThresholdCounts
        >>> counts = ThresholdCounts(np.array([2, 2, 1]), np.array([3, 1, 0]), 2, 3)
        >>> counts.recall.tolist(), counts.false_negatives.tolist()
        ([1.0, 1.0, 0.5], [0, 0, 1])
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    positives: float
    negatives: float
    ignored: float = 0
    clipped: float = 0

    @property
    def thresholds(self) -> np.ndarray:
        """The thresholds: float64[T], ascending."""
        return np.linspace(0, 1, len(self.true_positives))

    @property
    def false_negatives(self) -> np.ndarray:
        """The negative predictions of samples that are positive: [T]."""
        return self.positives - self.true_positives

    @property
    def true_negatives(self) -> np.ndarray:
        """The negative predictions of samples that are negative: [T]."""
        return self.negatives - self.false_positives

    @property
    def precision(self) -> np.ndarray:
        """The fraction of the positive predictions that are right: float64[T]; 0 where there is none."""
        return _ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> np.ndarray:
        """The fraction of the positive samples that are predicted, the true positive rate: float64[T]."""
        return _ratio(self.true_positives, self.positives)

    @property
    def false_positive_rate(self) -> np.ndarray:
        """The fraction of the negative samples that are predicted to be positive: float64[T]."""
        return _ratio(self.false_positives, self.negatives)

    @property
    def auc(self) -> float:
        """The area under the curve of the true over the false positive rate, by trapezoids; NaN if a class is empty."""
        if not (self.positives and self.negatives):
            return float("nan")
        x, y = (np.append(rate, 0.0) for rate in (self.false_positive_rate, self.recall))
        return float(((x[:-1] - x[1:]) * (y[:-1] + y[1:])).sum() / 2)

    @property
    def nbytes(self) -> int:
        """The size of the counts in bytes."""
        return self.true_positives.nbytes + self.false_positives.nbytes


def _ratio(part: np.ndarray, whole: np.ndarray | float) -> np.ndarray:
    """Return a quotient, 0 where the whole is 0."""
    return part / np.where(np.equal(whole, 0), 1, whole)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ConfusionMatrix:
    """The number of samples for each pair of a true class and a predicted one.

    Attributes:
        counts: [C, C], int64, or float64 if the samples have weights. Rows are the true classes, columns the predictions.
        classes: the names of the C classes.
        ignored: the number of samples that are left out: their label or their prediction is not one of the classes.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import ConfusionMatrix
        >>> matrix = ConfusionMatrix(np.array([[3, 1], [0, 0]]), ("cat", "dog"))
        >>> matrix.row_fractions.tolist()
        [[0.75, 0.25], [0.0, 0.0]]
    """

    counts: np.ndarray
    classes: tuple[str, ...]
    ignored: float = 0

    @property
    def row_fractions(self) -> np.ndarray:
        """The counts divided by the number of samples of the true class: float64[C, C]; 0 where there is none."""
        return _ratio(self.counts, self.counts.sum(1, keepdims=True))

    @property
    def nbytes(self) -> int:
        """The size of the counts in bytes."""
        return self.counts.nbytes


@dataclasses.dataclass(frozen=True, slots=True)
class MetricGoals:
    """The scalars to compare runs by.

    Attributes:
        goals: ``"min"`` or ``"max"``, by the tag of the scalar.
        hparams: the hyperparameters of the run.

    Example:
        >>> from jaxboard.records import MetricGoals
        >>> MetricGoals({"test/loss": "min"}, {"lr": 0.1}).goals["test/loss"]
        'min'
    """

    goals: Mapping[str, Literal["min", "max"]]
    hparams: Mapping[str, object]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """Points with many coordinates.

    Attributes:
        vectors: float32[N, D], finite.
        labels: a row of labels for each point, or none.
        header: the names of the columns of ``labels``.
        images: uint8[N, H, W, C] with 1, 3 or 4 channels, a thumbnail for each point, or None.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Embedding
        >>> Embedding(np.eye(2, dtype=np.float32), (("cat",), ("dog",)), ("animal",)).nbytes
        16
    """

    vectors: np.ndarray
    labels: tuple[tuple[str, ...], ...] = ()
    header: tuple[str, ...] = ()
    images: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """The size of the vectors and images in bytes."""
        return self.vectors.nbytes + (0 if self.images is None else self.images.nbytes)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class PluginTensor:
    """A tensor for any plugin of TensorBoard.

    Attributes:
        array: numbers, or bytes as an array of dtype object.
        plugin: the name of the plugin.
        content: what the plugin needs to know of the tag.
        data_class: how TensorBoard stores the data.
        display_name: the title, if not the tag.
        description: Markdown.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import PluginTensor
        >>> PluginTensor(np.zeros(3, np.float32), "my_plugin").nbytes
        12
    """

    array: np.ndarray
    plugin: str
    content: bytes = b""
    data_class: Literal["tensor", "scalar", "blob_sequence"] = "tensor"
    display_name: str = ""
    description: str = ""

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes."""
        is_text = self.array.dtype == object
        return sum(map(len, self.array.flat)) if is_text else self.array.nbytes


@dataclasses.dataclass(frozen=True, slots=True)
class Margin:
    """A curve with a band around it, in a chart of a layout.

    Attributes:
        value: the tag of the curve.
        lower: the tag of the lower edge of the band.
        upper: the tag of the upper edge of the band.

    Example:
        >>> from jaxboard.records import Margin
        >>> Margin("loss/mean", "loss/min", "loss/max").upper
        'loss/max'
    """

    value: str
    lower: str
    upper: str


@dataclasses.dataclass(frozen=True, slots=True)
class Mesh:
    """Meshes, or point clouds, with the same numbers of vertices and faces.

    Attributes:
        vertices: float32[N, V, 3]: the coordinates of N meshes' V vertices.
        faces: int32[N, F, 3]: the indices of the vertices of each triangle; None for a point cloud.
        colors: uint8[N, V, 3]: red, green and blue of each vertex; None for one color.
        config: classes of three.js and their parameters, as JSON.

    Example:
        >>> import numpy as np
        >>> from jaxboard.records import Mesh
        >>> Mesh(np.zeros((1, 8, 3), np.float32), None, None).nbytes
        96
    """

    vertices: np.ndarray
    faces: np.ndarray | None
    colors: np.ndarray | None
    config: str = "{}"

    @property
    def nbytes(self) -> int:
        """The size of the arrays in bytes."""
        parts = (self.vertices, self.faces, self.colors)
        return sum(part.nbytes for part in parts if part is not None)
