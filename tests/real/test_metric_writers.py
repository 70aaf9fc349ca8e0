"""``integrations.clu.MetricWriter`` against the writer of CLU: TensorBoard reads the same from both."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import inspect
import io

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.summary_pb2 import SummaryMetadata
from tensorboard.util.tensor_util import make_ndarray

import jaxboard as jb
from jaxboard.testing import capture

pytest.importorskip("clu")

import clu.values
from clu import metric_writers

from jaxboard.integrations.clu import MetricWriter

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

RANDOM = np.random.default_rng(0)
IMAGES = (RANDOM.random((4, 5, 6, 3)) * 255).astype(np.uint8)
SOUNDS = RANDOM.uniform(-1, 1, (4, 100, 2)).astype(np.float32)
VALUES = RANDOM.normal(size=50).astype(np.float32)


def report(writer):
    for step in (0, 5):
        writer.write_scalars(
            step, {"loss": jnp.float32(0.1 * step), "number": 3, "np": np.ones(())}
        )
    writer.write_images(2, {"batch": IMAGES, "one": IMAGES[0], "gray": IMAGES[:, :, :, :1]})
    writer.write_audios(3, {"sound": SOUNDS}, sample_rate=8000)
    writer.write_texts(4, {"note": "**bold**"})
    writer.write_histograms(6, {"default": VALUES, "ten": jnp.asarray(VALUES)}, {"ten": 10})
    metadata = SummaryMetadata(
        plugin_data=SummaryMetadata.PluginData(plugin_name="mine", content=b"content"),
        display_name="name",
        summary_description="description",
    )
    writer.write_summaries(7, {"tensor": np.arange(6).reshape(2, 3)}, {"tensor": metadata})
    writer.write_hparams({"rate": 0.1, "name": "adam"})
    values = {"mean": clu.values.Scalar(2.5), "text": clu.values.Text("text")}
    metric_writers.write_values(writer, 8, values)
    writer.flush()
    writer.close()


def read(folder):
    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    return {
        tag: [(e.step, make_ndarray(e.tensor_proto)) for e in events.Tensors(tag)]
        for tag in events.Tags()["tensors"]
    }, events


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return the folder of a run of CLU's writer and one of ours."""
    folder = tmp_path_factory.mktemp("writers")
    report(metric_writers.SummaryWriter(str(folder / "theirs")))
    with jb.Run(folder / "ours") as run:
        report(metric_writers.MultiWriter([MetricWriter(run)]))
    return folder


@pytest.fixture(scope="module")
def both(folder):
    """Return what TensorBoard reads of both runs."""
    return read(folder / "theirs"), read(folder / "ours")


def test_the_interface_is_complete():
    """The class has every method of CLU's interface, with its parameters in order."""
    for name in metric_writers.MetricWriter.__abstractmethods__:
        theirs = list(inspect.signature(getattr(metric_writers.MetricWriter, name)).parameters)
        assert list(inspect.signature(getattr(MetricWriter, name)).parameters) == theirs


def test_numbers_are_equal(folder):
    """Scalars, and those of ``write_values``, have the same steps and values."""
    theirs, ours = (jb.read(folder / name)[["tag", "step", "value"]] for name in ("theirs", "ours"))
    assert sorted(set(ours["tag"])) == ["loss", "mean", "np", "number"]
    assert ours.equals(theirs)


def test_texts_are_equal(both):
    """Texts, and those of ``write_values``, have the same steps and contents."""
    (theirs, _), (ours, _) = both
    for tag in ("note", "text"):
        ((step, mine),), ((other_step, other),) = ours[tag], theirs[tag]
        assert (step, mine.item()) == (other_step, other.item())


def test_images_and_sounds_are_equal(both):
    """All images of a batch have the same pixels, and all sounds the same number of samples."""
    (theirs, _), (ours, _) = both
    for tag in ("batch", "one", "gray"):
        (step, mine), (other_step, other) = ours[tag][0], theirs[tag][0]
        assert step == other_step == 2
        assert list(mine[:2]) == list(other[:2])
        for a, b in zip(mine[2:], other[2:], strict=True):
            np.testing.assert_array_equal(
                np.asarray(Image.open(io.BytesIO(a))), np.asarray(Image.open(io.BytesIO(b)))
            )
    mine, other = ours["sound"][0][1], theirs["sound"][0][1]
    assert len(mine) == len(other) == len(SOUNDS)
    assert [len(a) for a, _ in mine] == [len(b) for b, _ in other]


def test_histograms_are_equal(both):
    """With a number of buckets, edges and counts are the same; without one, the number of values is."""
    (theirs, _), (ours, _) = both
    np.testing.assert_allclose(ours["ten"][0][1], theirs["ten"][0][1], rtol=1e-5)
    assert ours["default"][0][1][:, 2].sum() == theirs["default"][0][1][:, 2].sum() == VALUES.size


def test_tensors_of_plugins_are_equal(both):
    """A tensor has the plugin, the content and the texts of its metadata."""
    (theirs, their_events), (ours, our_events) = both
    np.testing.assert_array_equal(ours["tensor"][0][1], theirs["tensor"][0][1])
    mine, other = (e.SummaryMetadata("tensor") for e in (our_events, their_events))
    assert (mine.plugin_data, mine.display_name, mine.summary_description) == (
        other.plugin_data,
        other.display_name,
        other.summary_description,
    )
    assert our_events.PluginTagToContent("hparams").keys() >= {"_hparams_/session_start_info"}


def test_a_writer_without_a_run():
    """Without a run, reports go to the active run; metadata may be serialized, or missing."""
    cloud = np.zeros((2, 3, 3), np.float32)
    with capture() as records:
        writer = metric_writers.AsyncWriter(MetricWriter())
        serialized = SummaryMetadata(
            plugin_data=SummaryMetadata.PluginData(plugin_name="scalars")
        ).SerializeToString()
        writer.write_summaries(1, {"a": np.float32(1), "b": np.eye(2)}, {"a": serialized})
        writer.flush()
        plain = MetricWriter()
        plain.write_videos(2, {"video": np.zeros((2, 3, 4, 4, 1), np.uint8)})
        plain.write_pointcloud(3, {"cloud": cloud}, point_colors={"cloud": cloud})
        plain.close()
    values = {record.tag: (record.step, record.value) for record in records}
    assert {tag: step for tag, (step, _) in values.items()} == {
        "a": 1,
        "b": 1,
        "video": 2,
        "cloud": 3,
    }
    assert [(values[tag][1].plugin, values[tag][1].data_class) for tag in "ab"] == [
        ("scalars", "scalar"),
        ("tensor", "tensor"),
    ]
    assert len(values["cloud"][1].vertices) == 2
