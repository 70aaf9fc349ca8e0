"""jaxboard's messages are those of TensorFlow and TensorBoard's own plugins for the same values."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sinks import golden
from tensorboard import data_compat
from tensorboard.util import tensor_util
from tensorboardX import summary

import jaxboard as jb
from jaxboard.records import Audio, Graph, GraphNode, Kind, Mesh, Record, Video
from jaxboard.sinks import _encoding, _proto
from jaxboard.sinks._proto import Event
from jaxboard.testing import capture

THEIRS = golden.values()


def ours(kind: Kind, tag: str, content: Any) -> dict[str, Any]:
    """Return the values of a record: tag -> ``Summary.Value``."""
    data, sizes, _ = _encoding.encode([Record(kind, tag, 3, 12.5, content)], lambda *_: None)
    assert sizes.tolist() == [len(data)]
    return {value.tag: value for value in Event.FromString(data).summary.value}


def reported(report: Any, *, time: float = 12.5) -> dict[str, Any]:
    """Return the values of what a function reports: tag -> ``Summary.Value``."""
    with capture() as records:
        report()
    values = {}
    for record in records:
        data, *_ = _encoding.encode([dataclasses.replace(record, wall_time=time)], lambda *_: None)
        values |= {value.tag: value for value in Event.FromString(data).summary.value}
    return values


def assert_tensors_equal(mine: Any, theirs: Any):
    """Compare two values: the numbers, whatever field holds them, and the metadata as messages."""
    ours, other = (tensor_util.make_ndarray(each.tensor) for each in (mine, theirs))
    assert (ours.dtype, ours.shape) == (other.dtype, other.shape)
    np.testing.assert_array_equal(ours, other)
    assert mine.metadata.plugin_data == theirs.metadata.plugin_data


def test_audio():
    """The message is equal, WAV files included."""
    assert ours(Kind.AUDIO, "audio", Audio(golden.SOUNDS, 8000)) == {"audio": THEIRS["audio"]}


def assert_meshes_equal(mine: dict[str, Any], name: str, parts: str):
    """Compare the values of all parts of a mesh."""
    assert list(mine) == [f"{name}_{part}" for part in parts.split()]
    for tag, value in mine.items():
        assert_tensors_equal(value, THEIRS[tag])


def test_meshes():
    """The tensors and the metadata of every part are equal, for meshes with colors and for point clouds."""
    config = json.dumps(golden.CAMERA, sort_keys=True)
    whole = Mesh(golden.VERTICES, golden.FACES, golden.COLORS, config)
    assert_meshes_equal(ours(Kind.MESH, "mesh", whole), "mesh", "VERTEX FACE COLOR")
    points = Mesh(golden.VERTICES, None, None)
    assert_meshes_equal(ours(Kind.MESH, "points", points), "points", "VERTEX")


def test_images():
    """The message is equal, except for the compression of the PNG files, whose pixels are equal."""
    mine, theirs = ours(Kind.IMAGE, "image", golden.PIXELS)["image"], THEIRS["image"]
    for files in (mine.tensor.string_val, theirs.tensor.string_val):
        pixels = [np.asarray(Image.open(io.BytesIO(file))) for file in files[2:]]
        np.testing.assert_array_equal(np.stack(pixels), golden.PIXELS)
        del files[2:]
    assert mine.tensor == theirs.tensor
    assert mine.metadata.plugin_data.plugin_name == theirs.metadata.plugin_data.plugin_name


def test_videos():
    """The message of a video is that of images, whose files are animations."""
    mine = ours(Kind.VIDEO, "image", Video(golden.PIXELS[:, None], 4))["image"]
    assert [file[:4] for file in mine.tensor.string_val[2:]] == [b"GIF8", b"GIF8"]
    theirs = THEIRS["image"]
    assert mine.tensor.string_val[:2] == theirs.tensor.string_val[:2]
    assert mine.tensor.tensor_shape == theirs.tensor.tensor_shape
    assert mine.metadata.plugin_data.plugin_name == theirs.metadata.plugin_data.plugin_name


def test_scalars():
    """The message is tensorboardX's, and as TensorBoard reads it, TensorFlow's."""
    (mine,) = reported(lambda: jb.scalar("scalar", 0.1)).values()
    (theirs,) = summary.scalar("scalar", 0.1).value
    assert mine.SerializeToString() == theirs.SerializeToString()
    read = data_compat.migrate_value(mine)
    assert_tensors_equal(read, THEIRS["scalar"])
    assert read.metadata.data_class == THEIRS["scalar"].metadata.data_class


def test_text():
    """The message is equal."""
    mine = reported(lambda: jb.text("text", "**bold** ü"))["text"]
    assert_tensors_equal(mine, THEIRS["text"])
    assert mine.metadata.data_class == THEIRS["text"].metadata.data_class


def test_histograms():
    """The table of a histogram is that of TensorFlow for as many buckets, whose edges it rounds otherwise."""
    mine = reported(lambda: jb.histogram("histogram", golden.NUMBERS, bins=7))["histogram"]
    ours, theirs = (tensor_util.make_ndarray(v.tensor) for v in (mine, THEIRS["histogram"]))
    assert ours.dtype == theirs.dtype
    np.testing.assert_array_equal(ours[:, 2], theirs[:, 2])
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
    assert mine.metadata.plugin_data == THEIRS["histogram"].metadata.plugin_data


@pytest.mark.parametrize(("tag", "weights"), [("curve", None), ("weighted", golden.WEIGHTS)])
def test_pr_curves(tag, weights):
    """Counts, precision and recall at each threshold are those of TensorBoard's plugin."""

    def report():
        jb.pr_curve(tag, golden.LABELS, golden.PREDICTIONS, num_thresholds=9, weights=weights)

    mine, theirs = reported(report)[tag], THEIRS[f"{tag}/pr_curves"]
    ours, other = (tensor_util.make_ndarray(v.tensor) for v in (mine, theirs))
    np.testing.assert_array_equal(ours[:4], other[:4])
    np.testing.assert_allclose(ours[4:], other[4:], rtol=1e-6)
    assert mine.metadata.plugin_data == theirs.metadata.plugin_data
    assert mine.metadata.display_name == theirs.metadata.display_name


def hparams_data(value: Any) -> Any:
    return _proto.hparams_data.HParamsPluginData.FromString(value.metadata.plugin_data.content)


def test_hparams():
    """The messages of hyperparameters and of the end of a session are equal; the name of a group is left out."""
    mine = reported(lambda: jb.hparams(golden.HPARAMS), time=golden.START)
    (tag,) = mine
    ours, theirs = (hparams_data(values[tag]) for values in (mine, THEIRS))
    theirs.session_start_info.ClearField("group_name")
    assert ours == theirs
    assert mine[tag].tensor == THEIRS[tag].tensor

    data, *_ = _encoding.session_end(failed=False)
    (end,) = Event.FromString(data).summary.value
    ours, theirs = hparams_data(end), hparams_data(THEIRS[end.tag])
    assert ours.session_end_info.end_time_secs > 0
    ours.session_end_info.end_time_secs = golden.START
    assert ours == theirs


def test_columns_of_hparams():
    """The message that names the columns is equal, but for the type of a hyperparameter, which TensorFlow leaves out."""
    mine = reported(lambda: jb.hparams(golden.HPARAMS, metrics={"loss": "min"}), time=golden.START)
    tag = "_hparams_/experiment"
    ours, theirs = hparams_data(mine[tag]), hparams_data(THEIRS[tag])
    for info in ours.experiment.hparam_infos:
        info.ClearField("type")
    assert ours == theirs


def test_layouts():
    """The message is equal."""
    mine = reported(lambda: jb.layout(golden.LAYOUT))["custom_scalars__config__"]
    assert_tensors_equal(mine, THEIRS["custom_scalars__config__"])


def test_tensors():
    """The message is equal."""
    numbers = golden.NUMBERS.reshape(10, 10)
    mine = reported(lambda: jb.tensor("tensor", numbers, "mine", content=b"settings"))["tensor"]
    assert_tensors_equal(mine, THEIRS["tensor"])


GRAPH = Graph(
    (
        GraphNode("inputs/x", "input", (), (("float32", (3,)),)),
        GraphNode("sin", "sin", ("inputs/x",), (("float32", (3,)),)),
    )
)


def test_graphs():
    """A graph with a tag and the graph of the run are the messages that TensorFlow makes of the same nodes."""
    mine, theirs = ours(Kind.GRAPH, "graph", GRAPH)["graph"], THEIRS["graph"]
    assert mine.metadata.plugin_data == theirs.metadata.plugin_data
    runs = [_proto.RunMetadata.FromString(v.tensor.string_val[0]) for v in (mine, theirs)]
    assert runs[0] == runs[1]
    data, *_ = _encoding.encode([Record(Kind.GRAPH, "", 3, 12.5, GRAPH)], lambda *_: None)
    event = Event.FromString(data)
    assert _proto.GraphDef.FromString(event.graph_def) == (
        runs[1].function_graphs[0].pre_optimization_graph
    )
