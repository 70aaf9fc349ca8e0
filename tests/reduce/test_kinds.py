"""The table of kinds: each entry has a reducer, and options of another class raise."""

from __future__ import annotations

from typing import Any

import jax
import pytest

from jaxboard._frame import Composite, ReportSpec
from jaxboard._reduce import (
    KINDS,
    AudioOptions,
    ConfusionMatrixOptions,
    HistogramOptions,
    ImageOptions,
    LayerHealthOptions,
    LeafHistogramsOptions,
    MeshOptions,
    MetricOptions,
    NoiseScaleOptions,
    NormsOptions,
    Part,
    Reducer,
    StackOptions,
    ThresholdsOptions,
    VideoOptions,
    reducer,
)
from jaxboard.records import Kind

OPTIONS: dict[Kind | Composite, Any] = {
    Kind.HISTOGRAM: HistogramOptions(),
    Kind.AUDIO: AudioOptions(16000, 3),
    Kind.IMAGE: ImageOptions(3),
    Kind.PR_CURVE: ThresholdsOptions(127),
    Kind.ROC_CURVE: ThresholdsOptions(127, ("a", "b")),
    Kind.CONFUSION_MATRIX: ConfusionMatrixOptions(("a", "b")),
    Kind.MESH: MeshOptions(3, 4, 0, 0, "uint8", "{}"),
    Kind.VIDEO: VideoOptions(4, 3),
    Composite.KEPT: None,
    Composite.NOISE_SCALE: NoiseScaleOptions(2, 8),
    Composite.METRIC: MetricOptions(jax.tree.structure(0), ()),
    Composite.LAYER_HEALTH: LayerHealthOptions((Part("w", "w", (1, 1, 1, 0)),), False),
    Composite.NORMS: NormsOptions((("w", 4),), ("norm",)),
    Composite.LEAF_HISTOGRAMS: LeafHistogramsOptions(("w",)),
    Composite.STACK: StackOptions(("lane",)),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_every_kind_has_a_reducer(kind: Kind | Composite) -> None:
    """A report with the options of its kind has a reducer; equal reports share it."""
    spec = ReportSpec(kind, "x", "last", options=OPTIONS[kind])
    assert isinstance(reducer(spec), Reducer)
    assert reducer(ReportSpec(kind, "x", "last", options=OPTIONS[kind])) is reducer(spec)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_options_of_another_kind(kind: Kind | Composite) -> None:
    """Options of another class raise, and the message names the class that is expected."""
    expected = KINDS[kind].options.__name__
    with pytest.raises(TypeError, match=f"{kind}: expected {expected}, got 'options'"):
        reducer(ReportSpec(kind, "x", "last", options="options"))
