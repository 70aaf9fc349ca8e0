"""The kinds of report that are reduced, and how: one entry of ``KINDS`` each.

A new kind of report needs:

1. a member of :class:`jaxboard.records.Kind`, and the class of its value in ``records.py``, unless NumPy has one;
2. a verb in ``_emit/``;
3. an entry in ``KINDS`` with its options and its reducer. Verbs for plain Python only, such as ``text``, need
   none: they put a :class:`~jaxboard.records.Record`, which is not reduced;
4. an encoder in ``sinks/_encoding.py``.

Transformation rules, packing, delivery and seed runs need no change. They work on the accumulator that the reducer
defines. CONTRIBUTING.md shows the steps with an example.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from jaxboard._frame import Composite, ReportSpec
from jaxboard._reduce.layer_parts import Part
from jaxboard._reduce.media_options import (
    AudioOptions,
    ImageOptions,
    MeshOptions,
    VideoOptions,
)
from jaxboard._reduce.metric_options import MetricOptions
from jaxboard._reduce.reducers import REDUCTIONS, Reducer
from jaxboard.records import Kind


@dataclasses.dataclass(frozen=True, slots=True)
class HistogramOptions:
    """The options of a report of a histogram.

    Attributes:
        bins: the number of buckets of equal width, or the edges of the buckets; None for those that suit the elements.
    """

    bins: int | tuple[float, ...] | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class NormsOptions:
    """The options of a report of norms.

    Attributes:
        leaves: the name and the number of elements of each leaf.
        statistics: the names of the statistics, in the order of display (see ``watch``).
    """

    leaves: tuple[tuple[str, int], ...]
    statistics: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class LeafHistogramsOptions:
    """The options of a report of the histograms of a pytree's leaves.

    Attributes:
        names: the names of the leaves.
    """

    names: tuple[str, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class LayerHealthOptions:
    """The options of a report of the health of layers.

    Attributes:
        parts: the parts of the layers.
        curves: whether layers have curves of their own.
    """

    parts: tuple[Part, ...]
    curves: bool


@dataclasses.dataclass(frozen=True, slots=True)
class NoiseScaleOptions:
    """The options of a report of the gradient noise scale.

    Attributes:
        small_batch: the number of examples of the first gradient.
        large_batch: that of the second.
    """

    small_batch: int
    large_batch: int


@dataclasses.dataclass(frozen=True, slots=True)
class ThresholdsOptions:
    """The options of a report of a curve over thresholds.

    Attributes:
        num_thresholds: the number of thresholds.
        classes: the names of the classes, each with a curve of its own; none if labels are 0 or 1.
    """

    num_thresholds: int
    classes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class ConfusionMatrixOptions:
    """The options of a report of a confusion matrix.

    Attributes:
        classes: the names of the classes.
    """

    classes: tuple[str, ...]


StackAxis: TypeAlias = Literal["device", "iteration", "lane"]
"""An axis along which values stay separate: the devices of a mesh, the iterations of a scan, the lanes of a vmap."""


@dataclasses.dataclass(frozen=True, slots=True)
class StackOptions:
    """The options of a report with ``reduce="stack"``.

    Attributes:
        axes: the leading axes of the values, the outermost first. They are known where the report leaves a scan, a
            ``vmap`` or a ``shard_map``.
        histogram: the options of each histogram; None for a stack of scalars.
    """

    axes: tuple[StackAxis, ...] = ()
    histogram: HistogramOptions | None = None


class KindEntry(NamedTuple):
    """The options and the reducer of one kind of report.

    Attributes:
        options: the class of :attr:`ReportSpec.options`: a frozen dataclass, as it is part of JAX's cache keys.
        make_reducer: makes the reducer from the options. It imports the reducer's module, which a program that
            never reports this kind does not need.
    """

    options: type
    make_reducer: Callable[[Any], Reducer]


def _audio(options: AudioOptions) -> Reducer:
    from jaxboard._reduce.audio import AudioReducer

    return AudioReducer(options.sample_rate, options.max_sounds)


def _histogram(options: HistogramOptions) -> Reducer:
    if options.bins is not None:
        from jaxboard._reduce.bins import bins_reducer

        return bins_reducer(options.bins)
    from jaxboard._reduce.histogram import HistogramReducer

    return HistogramReducer()


def _image(options: ImageOptions) -> Reducer:
    from jaxboard._reduce.image import ImageReducer

    return ImageReducer(options)


def _mesh(options: MeshOptions) -> Reducer:
    from jaxboard._reduce.mesh import MeshReducer

    return MeshReducer(options)


def _video(options: VideoOptions) -> Reducer:
    from jaxboard._reduce.video import VideoReducer

    return VideoReducer(options)


def _norms(options: NormsOptions) -> Reducer:
    from jaxboard._reduce.norms import NormsReducer

    return NormsReducer(options.leaves, options.statistics)


def _leaf_histograms(options: LeafHistogramsOptions) -> Reducer:
    from jaxboard._reduce.leaf_histograms import LeafHistogramsReducer

    return LeafHistogramsReducer(options.names)


def _kept(_: None) -> Reducer:
    from jaxboard._reduce.kept import KeptReducer

    return KeptReducer()


def _layer_health(options: LayerHealthOptions) -> Reducer:
    from jaxboard._reduce.layer_health import LayerHealthReducer

    return LayerHealthReducer(options.parts, options.curves)


def _noise_scale(options: NoiseScaleOptions) -> Reducer:
    from jaxboard._reduce.gradient_noise import NoiseScaleReducer

    return NoiseScaleReducer(options.small_batch, options.large_batch)


def _stack(options: StackOptions) -> Reducer:
    if options.histogram is not None:
        from jaxboard._reduce.stacked_histograms import HistogramStackReducer

        return HistogramStackReducer(options.axes, _histogram(options.histogram))
    from jaxboard._reduce.stack import StackReducer

    return StackReducer(options.axes)


def _metric(options: MetricOptions) -> Reducer:
    from jaxboard._reduce.metric import MetricReducer

    return MetricReducer(options)


def _pr_curve(options: ThresholdsOptions) -> Reducer:
    return _thresholds(Kind.PR_CURVE, options)


def _roc_curve(options: ThresholdsOptions) -> Reducer:
    return _thresholds(Kind.ROC_CURVE, options)


def _thresholds(kind: Kind, options: ThresholdsOptions) -> Reducer:
    from jaxboard._reduce.confusion import ThresholdsReducer

    return ThresholdsReducer(kind, options.num_thresholds, options.classes)


def _confusion_matrix(options: ConfusionMatrixOptions) -> Reducer:
    from jaxboard._reduce.confusion import ConfusionMatrixReducer

    return ConfusionMatrixReducer(options.classes)


KINDS: dict[Kind | Composite, KindEntry] = {
    Kind.AUDIO: KindEntry(AudioOptions, _audio),
    Kind.HISTOGRAM: KindEntry(HistogramOptions, _histogram),
    Kind.IMAGE: KindEntry(ImageOptions, _image),
    Kind.PR_CURVE: KindEntry(ThresholdsOptions, _pr_curve),
    Kind.ROC_CURVE: KindEntry(ThresholdsOptions, _roc_curve),
    Kind.CONFUSION_MATRIX: KindEntry(ConfusionMatrixOptions, _confusion_matrix),
    Kind.MESH: KindEntry(MeshOptions, _mesh),
    Kind.VIDEO: KindEntry(VideoOptions, _video),
    Composite.KEPT: KindEntry(type(None), _kept),
    Composite.NORMS: KindEntry(NormsOptions, _norms),
    Composite.LEAF_HISTOGRAMS: KindEntry(LeafHistogramsOptions, _leaf_histograms),
    Composite.LAYER_HEALTH: KindEntry(LayerHealthOptions, _layer_health),
    Composite.NOISE_SCALE: KindEntry(NoiseScaleOptions, _noise_scale),
    Composite.STACK: KindEntry(StackOptions, _stack),
    Composite.METRIC: KindEntry(MetricOptions, _metric),
}
"""Every kind that is reduced, except SCALAR, whose reducer is the one that ``reduce=`` names."""


@functools.cache
def reducer(spec: ReportSpec) -> Reducer:
    """Return the reducer of a report's values."""
    if spec.lanes:
        from jaxboard._reduce.lanes import LanesReducer

        return LanesReducer(reducer(dataclasses.replace(spec, lanes=None)))
    if spec.kind is Kind.SCALAR:
        return REDUCTIONS[spec.reduce]
    entry = KINDS[spec.kind]
    if not isinstance(spec.options, entry.options):
        raise TypeError(f"{spec.kind}: expected {entry.options.__name__}, got {spec.options!r}")
    return entry.make_reducer(spec.options)
