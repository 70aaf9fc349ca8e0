"""Values that TensorFlow and TensorBoard's own plugins write, for comparison with jaxboard's encoder.

``python tests/sinks/golden.py`` writes ``golden.tfevents`` anew. It needs TensorFlow, which the tests do not.
"""

from __future__ import annotations

import glob
import importlib
import pathlib
import shutil
import tempfile
from typing import Any

import numpy as np

FILE = pathlib.Path(__file__).with_name("golden.tfevents")

SOUNDS = np.stack([np.linspace(-1, 1, 32), np.sin(np.arange(32))], axis=-1).reshape(2, 16, 2)
SOUNDS = (SOUNDS * 2**14).astype(np.int16)
"""Sounds of 16 bits, int16[2, 16, 2]."""

PIXELS = np.random.default_rng(1).integers(0, 256, (2, 4, 6, 3), np.uint8)
"""Images, uint8[2, 4, 6, 3]."""

VERTICES = np.random.default_rng(2).normal(size=(2, 4, 3)).astype(np.float32)
FACES = np.tile(np.array([[0, 2, 1], [0, 1, 3]], np.int32), (2, 1, 1))
COLORS = np.random.default_rng(3).integers(0, 256, (2, 4, 3), np.uint8)
CAMERA = {"camera": {"cls": "PerspectiveCamera", "fov": 75}}
"""Two meshes with four vertices."""

NUMBERS = np.random.default_rng(4).normal(size=100)
"""Elements of a histogram, float64[100]."""

LABELS = np.random.default_rng(5).random(200) < 0.5
PREDICTIONS = np.random.default_rng(6).integers(0, 65, 200) / np.float32(64)
WEIGHTS = np.random.default_rng(7).integers(0, 3, 200).astype(np.float32)
"""Samples of a classifier. Sums of the weights are exact."""

HPARAMS = {"rate": 0.5, "layers": 3, "gated": True, "optimizer": "adam"}
START = 1.7e9
"""The hyperparameters of a run, and when it began."""

LAYOUT = {
    "losses": {
        "all": ["loss/.*", "error"],
        "band": ("margin", "loss/mean", "loss/min", "loss/max"),
    }
}
"""Charts of custom scalars."""


def values() -> dict[str, Any]:
    """Return the stored values: tag -> ``Summary.Value``."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    events = LegacyEventFileLoader(str(FILE)).Load()
    return {value.tag: value for event in events for value in event.summary.value}


def write() -> None:
    """Write the file with TensorFlow."""
    import tensorflow as tf
    from tensorboard.plugins.mesh import summary_v2 as mesh_summary
    from tensorflow.python.ops.summary_ops_v2 import run_metadata_graphs

    with tempfile.TemporaryDirectory() as directory:
        writer = tf.summary.create_file_writer(directory)
        with writer.as_default(step=3):
            tf.summary.audio("audio", SOUNDS / np.float32(2**15), 8000)
            tf.summary.image("image", PIXELS)
            mesh_summary.mesh("mesh", VERTICES, FACES, COLORS, CAMERA)
            mesh_summary.mesh("points", VERTICES)
            tf.summary.scalar("scalar", 0.1)
            tf.summary.text("text", "**bold** \u00fc")
            tf.summary.histogram("histogram", NUMBERS, buckets=7)
            metadata = tf.compat.v1.SummaryMetadata()
            metadata.plugin_data.plugin_name, metadata.plugin_data.content = "mine", b"settings"
            tf.summary.write("tensor", NUMBERS.reshape(10, 10), metadata=metadata)
            run_metadata_graphs("graph", _graph(tf))
            for summary in _summaries():
                tf.summary.experimental.write_raw_pb(summary.SerializeToString())
        writer.close()
        (path,) = glob.glob(f"{directory}/*")
        shutil.copy(path, FILE)


def _summaries() -> list[Any]:
    """Return the summaries that TensorBoard's plugins make of values in plain Python."""
    from tensorboard.plugins.custom_scalar import summary as layout_summary
    from tensorboard.plugins.hparams import summary as session_summary
    from tensorboard.plugins.hparams import summary_v2 as hparams_summary
    from tensorboard.plugins.pr_curve import summary as curve_summary

    # The classes of messages are made when these modules are imported.
    layout_pb2: Any = importlib.import_module("tensorboard.plugins.custom_scalar.layout_pb2")
    api_pb2: Any = importlib.import_module("tensorboard.plugins.hparams.api_pb2")
    charts = LAYOUT["losses"]
    _, value, lower, upper = charts["band"]
    series = layout_pb2.MarginChartContent.Series(value=value, lower=lower, upper=upper)
    category = layout_pb2.Category(
        title="losses",
        chart=[
            layout_pb2.Chart(
                title="all", multiline=layout_pb2.MultilineChartContent(tag=charts["all"])
            ),
            layout_pb2.Chart(title="band", margin=layout_pb2.MarginChartContent(series=[series])),
        ],
    )
    columns = [hparams_summary.HParam(name) for name in HPARAMS]
    metric = hparams_summary.Metric("loss", description="Smaller is better.")
    return [
        hparams_summary.hparams_pb(HPARAMS, "trial", START),
        hparams_summary.hparams_config_pb(columns, [metric], START),
        session_summary.session_end_pb(api_pb2.STATUS_SUCCESS, START),
        layout_summary.pb(layout_pb2.Layout(category=[category])),
        curve_summary.pb("curve", LABELS, PREDICTIONS, 9),
        curve_summary.pb("weighted", LABELS, PREDICTIONS, 9, weights=WEIGHTS),
    ]


def _graph(tf: Any) -> Any:
    """Return the graph of an operation on a vector of three numbers, as TensorFlow's metadata of a run."""
    protos = tf.compat.v1
    shape = tf.TensorShape([3]).as_proto()
    shapes = protos.AttrValue(list=protos.AttrValue.ListValue(shape=[shape]))
    nodes = [
        protos.NodeDef(
            name=name,
            op=operation,
            input=inputs,
            attr={"_output_shapes": shapes, "dtype": protos.AttrValue(s=b"float32")},
        )
        for name, operation, inputs in (("inputs/x", "input", []), ("sin", "sin", ["inputs/x"]))
    ]
    graph = protos.GraphDef(node=nodes)
    graph.versions.producer = 22
    metadata = protos.RunMetadata()
    metadata.function_graphs.add().pre_optimization_graph.CopyFrom(graph)
    return metadata


if __name__ == "__main__":
    write()
