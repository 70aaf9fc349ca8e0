"""A run as a real TensorBoard shows it, with both of its readers."""

import io
import os
import wave

import numpy as np
import pytest
from google.protobuf import text_format
from PIL import Image, ImageSequence

from jaxboard.records import (
    Audio,
    ConfusionMatrix,
    EncodedImage,
    Graph,
    GraphNode,
    Histogram,
    Kind,
    Margin,
    Mesh,
    MetricGoals,
    PluginTensor,
    Record,
    Scalars,
    ThresholdCounts,
    Video,
)
from jaxboard.sinks import TensorBoardSink, _proto

STEPS = np.array([0, 1, 2**31, 2**40])
WALLS = 1.7e9 + np.array([0.0, 0.25, 0.5, 0.75])
LOSS = np.array([2.5, 0.1, 3e-42, -7.0], np.float32)
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 24, 32, 3), np.uint8)
COUNTS = ThresholdCounts(np.array([30, 20, 1, 0]), np.array([40, 10, 1, 0]), 30, 40)
MATRIX = ConfusionMatrix(np.array([[3, 1], [0, 2]]), ("cat", "dog"))
LAYOUT = {"losses": {"all": ("loss", "nan"), "band": (Margin("loss", "nan", "negative"),)}}
GRAPH = Graph(
    (
        GraphNode("inputs/x", "input", (), (("float32", (3,)),)),
        GraphNode("mlp/sin", "sin", ("inputs/x",), (("float32", (3,)),), {"flops": "3"}),
        GraphNode("outputs/y", "output", ("mlp/sin",), (("float32", (3,)),)),
    )
)
SAMPLES = np.random.default_rng(1).integers(-(2**15), 2**15, (2, 800, 2), np.int16)
VERTICES = np.random.default_rng(2).normal(size=(2, 4, 3)).astype(np.float32)
FACES = np.tile(np.array([[0, 2, 1], [0, 1, 3]], np.int32), (2, 1, 1))
COLORS = np.random.default_rng(3).integers(0, 256, (2, 4, 3), np.uint8)
CAMERA = '{"camera": {"cls": "PerspectiveCamera", "fov": 75}}'
LONG = "deep/" * 300 + "日本 //x"


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """Write one run with every kind except hyperparameters, and one with hyperparameters."""
    logdir = tmp_path_factory.mktemp("logs")
    sink = TensorBoardSink(logdir / "run")
    columns = np.stack([LOSS, LOSS * 2], axis=1)
    sink.write([Scalars(("loss", LONG), STEPS, WALLS, columns)])
    sink.flush()

    def record(kind, tag, step, value):
        return Record(kind, tag, step, 1.7e9 + step, value)

    counts = np.arange(1, 65)
    edges = np.linspace(-3.0, 3.0, 65)
    gray = io.BytesIO()
    Image.fromarray(PIXELS[0, ..., 0]).save(gray, "jpeg")
    sink.write(
        [
            record(Kind.HISTOGRAM, "weights", 1, Histogram(edges, counts)),
            record(Kind.HISTOGRAM, "weights", 2, Histogram(edges + 1, counts[::-1].copy())),
            record(Kind.HISTOGRAM, "constant", 1, Histogram(np.array([2.0, 2.0]), np.array([9]))),
            record(Kind.HISTOGRAM, "empty", 1, Histogram(np.zeros(0), np.zeros(0, np.int64), 4)),
            record(Kind.IMAGE, "noise", 1, PIXELS),
            record(Kind.IMAGE, "figure", 1, EncodedImage(gray.getvalue(), 32, 24)),
            record(Kind.IMAGE, "figures", 1, 2 * (EncodedImage(gray.getvalue(), 32, 24),)),
            record(Kind.PR_CURVE, "pr", 1, COUNTS),
            record(Kind.PR_CURVE, "pr", 2, COUNTS),
            record(Kind.PR_CURVE, "fine", 1, ThresholdCounts(np.ones(500), np.ones(500), 1, 1)),
            record(Kind.ROC_CURVE, "roc", 1, COUNTS),
            record(Kind.CONFUSION_MATRIX, "confusion", 1, MATRIX),
            record(
                Kind.TENSOR,
                "raw/scalar",
                1,
                PluginTensor(np.array(2.5, np.float32), "scalars", b"", "scalar"),
            ),
            record(Kind.TENSOR, "raw/text", 1, PluginTensor(np.array(b"**raw**", object), "text")),
            record(Kind.LAYOUT, "layout", 1, {"old": {"chart": ("loss",)}}),
            record(Kind.LAYOUT, "layout", 2, LAYOUT),
            record(Kind.GRAPH, "", 0, GRAPH),
            record(Kind.GRAPH, "forward", 0, Graph(GRAPH.nodes[:2])),
            record(Kind.AUDIO, "sounds", 1, Audio(SAMPLES, 8000)),
            record(Kind.VIDEO, "video", 1, Video(np.stack([PIXELS, 255 - PIXELS], axis=1), 4)),
            record(Kind.MESH, "mesh", 1, Mesh(VERTICES, FACES, COLORS, CAMERA)),
            record(Kind.MESH, "mesh", 2, Mesh(VERTICES + 1, FACES, COLORS, CAMERA)),
            record(Kind.MESH, "points", 1, Mesh(VERTICES, None, None, CAMERA)),
            record(Kind.TEXT, "note", 1, "**bold** ü"),
            record(Kind.TEXT, "table", 1, [["name", "value"], ["lr", "0.1"]]),
        ]
    )
    scalars = [("nan", 5, "nan"), ("nan", 6, 1.0), ("negative", -3, 2.0), ("negative", 4, 3.0)]
    sink.write([record(Kind.SCALAR, tag, step, np.float64(value)) for tag, step, value in scalars])
    sink.flush()
    sink.close()
    # A separate run: the HParams dashboard fails if any of its runs has a step beyond 32 bits.
    tuned = TensorBoardSink(logdir / "tuned")
    hparams = {"lr": 0.001, "flag": True, "sizes": [1, 2], "none": None}
    tuned.write(
        [record(Kind.HPARAMS, "", 0, hparams), record(Kind.SCALAR, "loss", 7, np.float32(0.5))]
    )
    tuned.flush()
    tuned.close()
    failed = TensorBoardSink(logdir / "failed")
    goals = MetricGoals({"loss": "min"}, hparams)
    failed.write([record(Kind.HPARAMS, "", 0, hparams), record(Kind.METRICS, "", 0, goals)])
    failed.fail()
    failed.flush()
    failed.close()
    return logdir


@pytest.fixture(scope="module")
def run(server, logdir):
    """Show both runs in TensorBoard; return the name of the first."""
    return f"{server.show(logdir)}run"


@pytest.mark.parametrize(("tag", "factor"), [("loss", 1), (LONG, 2)])
def test_scalars_are_exact(server, run, tag, factor):
    """TensorBoard shows exact wall times, steps beyond 32 bits, and bit-identical float32 values."""
    expected = [
        (wall, step, float(np.float32(value * factor)))
        for wall, step, value in zip(WALLS.tolist(), STEPS.tolist(), LOSS, strict=True)
    ]
    assert server.scalars(run, tag, count=4) == expected


def test_a_nan_does_not_hide_what_follows(server, run):
    """A NaN value is a point, and the points after it are shown."""
    (_, first, value), (_, second, other) = server.scalars(run, "nan", count=2)
    assert (first, second, other) == (5, 6, 1.0)
    assert np.isnan(float(value))


def test_negative_steps_are_shown(server, run):
    """Negative steps are shown in order."""
    points = [(step, value) for _, step, value in server.scalars(run, "negative", count=2)]
    assert points == [(-3, 2.0), (4, 3.0)]


def test_histograms_are_exact(server, run):
    """TensorBoard shows every bucket exactly; a constant has one bucket and an empty histogram is a point."""
    rows = server.histograms(run, "weights", count=2)
    edges = np.linspace(-3.0, 3.0, 65)
    for (_, step, table), shift, counts in zip(
        rows, (0, 1), (np.arange(1, 65), np.arange(64, 0, -1)), strict=True
    ):
        expected = np.stack([(edges + shift)[:-1], (edges + shift)[1:], counts], axis=1)
        assert step == shift + 1
        np.testing.assert_array_equal(np.array(table), expected)
    assert server.histograms(run, "constant")[0][2] == [[2.0, 2.0, 9.0]]
    assert server.histograms(run, "empty")[0][1:] == [1, []]


@pytest.mark.parametrize("sample", [0, 1])
def test_images_are_lossless(server, run, sample):
    """TensorBoard returns each sample of a batch with its exact pixels."""
    (entry,) = server.images(run, "noise", sample=sample)
    assert (entry["step"], entry["wall_time"]) == (1, 1.7e9 + 1)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(entry["file"]))), PIXELS[sample])


def test_an_encoded_image_is_not_reencoded(server, run):
    """TensorBoard shows an encoded image as its original file: a JPEG stays a JPEG."""
    for tag, sample in (("figure", 0), ("figures", 0), ("figures", 1)):
        (entry,) = server.images(run, tag, sample=sample)
        assert Image.open(io.BytesIO(entry["file"])).format == "JPEG"


def test_pr_curves_are_exact(server, run):
    """TensorBoard shows the counts, the precision and the recall at each threshold that has a positive prediction."""
    first, second = server.pr_curves(run, "pr", count=2)
    assert (first["step"], second["step"]) == (1, 2)
    assert first["true_positives"] == [30, 20, 1]
    assert first["false_positives"] == [40, 10, 1]
    assert first["true_negatives"] == [0, 30, 39]
    assert first["false_negatives"] == [0, 10, 29]
    assert first["precision"] == pytest.approx([3 / 7, 2 / 3, 1 / 2])
    assert first["recall"] == pytest.approx([1, 2 / 3, 1 / 30])
    assert server.tags("pr_curves", run)["pr"] == {"displayName": "pr", "description": ""}


def test_a_pr_curve_may_have_more_than_127_thresholds(server, run):
    """Numbers of thresholds that take two bytes are read."""
    (entry,) = server.pr_curves(run, "fine")
    assert len(entry["thresholds"]) == 500


@pytest.mark.parametrize("tag", ["roc", "confusion"])
def test_drawn_reports_are_images(server, run, tag):
    """ROC curves and confusion matrices are in the dashboard of images."""
    (entry,) = server.images(run, tag)
    image = Image.open(io.BytesIO(entry["file"]))
    assert (image.format, entry["step"]) == ("PNG", 1)


def test_tensors_of_any_plugin(server, run):
    """Tensors with the data of a dashboard are shown there."""
    assert server.scalars(run, "raw/scalar") == [(1.7e9 + 1, 1, 2.5)]
    assert "<strong>raw</strong>" in server.text(run, "raw/text")[0]["text"]


def test_the_last_layout_is_shown(server, run):
    """TensorBoard shows the categories and charts of the last layout, and draws the tags that match."""
    charts = {chart.pop("title"): chart for chart in server.charts("losses")}
    assert charts["all"] == {"multiline": {"tag": ["loss", "nan"]}}
    series = [{"value": "loss", "lower": "nan", "upper": "negative"}]
    assert charts["band"] == {"margin": {"series": series}}
    drawn = server.custom_scalars(run, "loss", count=4)
    assert [row[1:] for row in drawn["loss"]] == [
        [step, float(value)] for step, value in zip(STEPS.tolist(), LOSS, strict=True)
    ]


def test_videos_are_animations(server, run):
    """TensorBoard serves a video as a GIF file with its frames, which browsers play."""
    (entry,) = server.images(run, "video", sample=1)
    frames = list(ImageSequence.Iterator(Image.open(io.BytesIO(entry["file"]))))
    assert [("GIF", frame.size) for frame in frames] == 2 * [("GIF", (32, 24))]


@pytest.mark.parametrize("sample", [0, 1])
def test_sounds_are_lossless(server, run, sample):
    """TensorBoard returns each sound of a batch with its exact samples and its rate."""
    (entry,) = server.sounds(run, "sounds", sample=sample)
    assert (entry["step"], entry["wall_time"], entry["contentType"]) == (1, 1.7e9 + 1, "audio/wav")
    with wave.open(io.BytesIO(entry["file"])) as sound:
        assert (sound.getframerate(), sound.getnchannels(), sound.getsampwidth()) == (8000, 2, 2)
        frames = np.frombuffer(sound.readframes(800), "<i2").reshape(800, 2)
    np.testing.assert_array_equal(frames, SAMPLES[sample])
    assert server.tags("audio", run)["sounds"]["samples"] == 2


@pytest.mark.parametrize("sample", [0, 1])
def test_meshes_are_exact(server, run, sample):
    """TensorBoard returns the vertices, faces and colors of each mesh at each step, with the camera."""
    parts = server.mesh(run, "mesh", sample=sample, count=6)
    expected = {}
    for step in (1, 2):
        expected["VERTEX", step] = VERTICES[sample] + np.float32(step - 1)
        expected["FACE", step], expected["COLOR", step] = FACES[sample], COLORS[sample]
    assert parts.keys() == expected.keys()
    for part, array in expected.items():
        assert parts[part]["data"] == array.tobytes()
        assert parts[part]["config"] == CAMERA
    points = server.mesh(run, "points", sample=sample)
    assert {part: entry["data"] for part, entry in points.items()} == {
        ("VERTEX", 1): VERTICES[sample].tobytes()
    }
    assert server.tags("mesh", run) == {"mesh": {"samples": 2}, "points": {"samples": 2}}


def test_text_is_markdown_or_a_table(server, run):
    """TensorBoard renders Markdown and tables as HTML, the first row of a table as its header."""
    assert "<strong>bold</strong> ü" in server.text(run, "note")[0]["text"]
    table = server.text(run, "table")[0]["text"]
    assert "".join(table.split()) == (
        "<table><thead><tr><th>name</th><th>value</th></tr></thead>"
        "<tbody><tr><td>lr</td><td>0.1</td></tr></tbody></table>"
    )


def test_hparams_are_one_session(server, run):
    """The HParams dashboard shows one successful session with numbers, booleans and text."""
    tuned = f"{run.removesuffix('run')}tuned"
    group = server.session_group(tuned)
    assert group["hparams"] == {"lr": 0.001, "flag": True, "sizes": "[1, 2]", "none": "None"}
    (session,) = group["sessions"]
    assert session["status"] == "STATUS_SUCCESS"
    assert (session["startTimeSecs"], os.path.basename(session["name"])) == (1.7e9, "tuned")
    (metric,) = session["metricValues"]
    assert (metric["name"]["tag"], metric["trainingStep"], metric["value"]) == ("loss", 7, 0.5)


def test_a_failed_session_and_its_metrics(server, run):
    """The session of a run that failed is a failure, and the columns are those of the run that names its metrics."""
    failed = f"{run.removesuffix('run')}failed"
    group = server.session_group(failed, metrics=0)
    assert group["sessions"][0]["status"] == "STATUS_FAILURE"
    experiment = server.get("data/plugin/hparams/experiment", post={"includeMetrics": True})
    # The server also has the runs of other tests.
    assert [info["name"]["tag"] for info in experiment["metricInfos"]] == ["loss"]
    assert {info["name"] for info in experiment["hparamInfos"]} >= {"lr", "flag", "sizes", "none"}


@pytest.mark.parametrize(("query", "count"), [({}, 3), ({"tag": "forward"}, 2)], ids=["run", "tag"])
def test_graphs_are_shown(server, run, query, count):
    """The graph of a run and a graph with a tag are shown, with inputs, shapes and attributes."""
    info = server.until(lambda: server.get("data/plugin/graphs/info"), lambda runs: run in runs)[
        run
    ]
    assert (info["run_graph"], list(info["tags"])) == (True, ["forward"])
    graph = server.read("data/plugin/graphs/graph", run=run, **query)
    nodes = text_format.Parse(graph.decode(), _proto.GraphDef()).node
    assert [(node.name, node.op) for node in nodes] == [
        (node.name, node.op) for node in GRAPH.nodes[:count]
    ]
    assert list(nodes[1].input) == ["inputs/x"]
    assert nodes[1].attr["flops"].s == b"3"
    assert nodes[1].attr["_output_shapes"].list.shape[0].dim[0].size == 3
