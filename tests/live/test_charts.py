"""A panel shows the curves that matter, and those of training and evaluation in one chart."""

from __future__ import annotations

import numpy as np
import pytest

from jaxboard._host.complete_points import Assembled
from jaxboard._live.charts import Charts, chart_name
from jaxboard.records import Kind, Record, Scalars


def charts_of(*names, patterns=None):
    """Return the charts of a run that reports these tags, each as ``run:tag`` or ``tag``, in this order."""
    charts = Charts(patterns)
    for name in names:
        run, _, tag = name.rpartition(":")
        columns = Scalars((tag,), np.array([2]), np.zeros(1), np.ones((1, 1)), run)
        charts.add(Assembled([columns], []))
    return charts


def names(charts):
    """Return the curves of each chart."""
    return {chart.name: list(chart.curves) for chart in charts}


def test_training_and_evaluation_share_a_chart():
    """Curves that differ only in the name of the data, in the tag or in the run, are in one chart."""
    charts = charts_of("train/loss", "eval/loss", "val:loss", "loss", "eval/ood:train/loss")
    assert names(charts) == {"loss": ["train", "eval", "val", "", "eval/ood/train"]}
    assert chart_name("", "eval") == ("eval", "", False)


def test_choice():
    """Losses come first, then tags of training and evaluation, then those with few parts, then the first reported."""
    found = charts_of(
        "a/b/c", "lr", "eval/accuracy", "net/aux_loss", "step_size", "train/loss", "x", "y"
    )
    assert list(names(found)) == ["loss", "net/aux_loss", "accuracy", "lr", "step_size", "x"]
    assert found.has_more


def test_columns_with_many_tags():
    """The tags that matter are found among thousands in one batch; the others cost no memory."""
    tags = (*(f"layers/{i}/x" for i in range(5000)), "train/loss")
    charts = Charts()
    values = np.arange(5001.0)[None].repeat(3, 0)
    for first in (0, 3):
        columns = Scalars(tags, np.arange(first, first + 3), np.zeros(3), values)
        charts.add(Assembled([columns], []))
    curves = {chart.name: curve for chart in charts for curve in chart.curves.values()}
    assert list(curves) == ["loss", *(f"layers/{i}/x" for i in range(5))]
    assert curves["loss"].last == 5000
    assert curves["layers/4/x"].points().means.tolist() == [4] * 6


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("lr", "*loss"), {"lr": [""], "loss": ["train", "eval"]}),
        (("loss",), {"loss": ["train", "eval"]}),
        (("eval/*",), {"loss": ["eval"]}),
        (("nothing",), {}),
    ],
)
def test_patterns(patterns, expected):
    """Patterns select tags, tags of a run and charts, and set their order."""
    found = names(charts_of("train/loss", "lr", "x", "eval:loss", patterns=patterns))
    assert list(found.items()) == list(expected.items())


def test_what_is_left_out():
    """Tags of jaxboard, seed runs and records of other kinds are not shown; the mean of the seeds is."""
    charts = charts_of("jaxboard/time", "seed_3:loss", "mean:loss", "min:loss")
    charts.add(Assembled([Record(Kind.TEXT, "notes", 0, 0.0, "x")], []))
    assert names(charts) == {"loss": ["mean", "min"]}
    assert charts.last_step == 2


def test_many_curves():
    """A chart has at most eight curves."""
    charts = charts_of(*(f"trial_{i}:loss" for i in range(20)))
    assert len(names(charts)["loss"]) == 8
    assert charts.has_more


def test_records():
    """Scalars that come one by one are points of their curve."""
    charts = Charts()
    records = [Record(Kind.SCALAR, "loss", i, 0.0, np.float32(i)) for i in range(4)]
    charts.add(Assembled([*records], []))
    (chart,) = charts
    assert chart.curves[""].points().means.tolist() == [0, 1, 2, 3]
