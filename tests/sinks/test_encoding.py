"""The events of each kind of record."""

import io
import math
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.util import tensor_util
from tensorboardX import summary as tensorboardx

import jaxboard as jb
from jaxboard.records import (
    Audio,
    ConfusionMatrix,
    EncodedImage,
    Graph,
    GraphNode,
    Histogram,
    Kind,
    Margin,
    MetricGoals,
    Record,
    Scalars,
    ThresholdCounts,
    Video,
)
from jaxboard.sinks import _encoding, _proto
from jaxboard.sinks._proto import Event
from jaxboard.testing import capture


def refuse(tag: object, count: int, reason: str) -> None:
    raise AssertionError(f"{count} of {tag!r} lost: {reason}")


def events(*items: Record | Scalars) -> list[Any]:
    data, sizes, _ = _encoding.encode(list(items), refuse)
    ends = np.cumsum(sizes)
    assert (ends[-1] if len(ends) else 0) == len(data)
    return [Event.FromString(data[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def value(kind: Kind, content, tag: str = "tag"):
    (event,) = events(Record(kind, tag, 3, 12.5, content))
    (only,) = event.summary.value
    assert (event.step, event.wall_time, only.tag) == (3, 12.5, tag)
    return only


def test_every_kind_has_an_encoding():
    """Every kind has an encoder, except scalars, encoded in columns, and embeddings, which have files of their own."""
    assert {Kind.SCALAR, Kind.EMBEDDING, Kind.EVENT, *_encoding._ENCODERS} == set(Kind)


def test_scalars_of_one_tag_keep_their_order():
    """Single scalars with other records between them keep their order and wall times."""
    scalar = lambda tag, step: Record(Kind.SCALAR, tag, step, step + 0.5, np.float32(step))  # noqa: E731
    block = Scalars(("a",), np.array([2, 3]), np.array([2.5, 3.5]), np.array([[2.0], [3.0]]))
    got = events(scalar("a", 0), scalar("b", 0), scalar("a", 1), block, scalar("a", 4))
    points = [
        (event.step, event.wall_time, event.summary.value[0].simple_value)
        for event in got
        if event.summary.value[0].tag == "a"
    ]
    assert points == [(step, step + 0.5, step) for step in range(5)]
    assert len(got) == 6


def test_values_of_one_moment_share_an_event():
    """Consecutive values with the same step and wall time share one event; others do not."""
    text = lambda tag, step, wall: Record(Kind.TEXT, tag, step, wall, "x")  # noqa: E731
    got = events(text("a", 1, 5.0), text("b", 1, 5.0), text("a", 2, 5.0), text("a", 2, 6.0))
    assert [[v.tag for v in event.summary.value] for event in got] == [["a", "b"], ["a"], ["a"]]


def test_an_empty_batch_has_no_events():
    """An empty batch, and a block without rows or tags, have no events."""
    assert events() == []
    assert events(Scalars(("a",), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 1)))) == []
    assert events(Scalars((), np.zeros(2, np.int64), np.zeros(2), np.zeros((2, 0)))) == []


@pytest.mark.parametrize(
    ("edges", "counts", "table"),
    [
        ([0.0, 0.1, 2.0], [3, 4], [[0.0, 0.1, 3.0], [0.1, 2.0, 4.0]]),
        ([0.7, 0.7], [5], [[0.7, 0.7, 5.0]]),
        ([], [], []),
        ([0.0, 1.0, math.inf], [3, 4], [[0.0, 1.0, 3.0]]),
    ],
)
def test_histograms_are_rows_of_left_right_count(edges, counts, table):
    """A histogram has exact edges and counts, no infinite edge, and shape [0, 3] if empty."""
    got = value(Kind.HISTOGRAM, Histogram(np.array(edges), np.array(counts, np.int64)))
    array = tensor_util.make_ndarray(got.tensor)
    assert array.shape == (len(table), 3)
    assert array.tolist() == table
    assert got.metadata.plugin_data.plugin_name == "histograms"


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_lossless(channels):
    """The tensor holds width, height and files that decode to the exact pixels."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, channels), np.uint8)
    got = value(Kind.IMAGE, pixels)
    width, height, *files = got.tensor.string_val
    assert (width, height) == (b"7", b"5")
    for file, frame in zip(files, pixels, strict=True):
        np.testing.assert_array_equal(
            np.asarray(Image.open(io.BytesIO(file))).reshape(frame.shape), frame
        )
    assert got.metadata.plugin_data.plugin_name == "images"


def test_an_encoded_image_is_not_reencoded():
    """An encoded image is stored unchanged."""
    got = value(Kind.IMAGE, EncodedImage(b"a file", width=30, height=20))
    assert list(got.tensor.string_val) == [b"30", b"20", b"a file"]
    pair = EncodedImage(b"one", width=30, height=20), EncodedImage(b"two", width=10, height=50)
    assert list(value(Kind.IMAGE, pair).tensor.string_val) == [b"30", b"50", b"one", b"two"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("fps", [4, 30, 50])
def test_videos_are_animated(channels, fps):
    """A video is a GIF for each sample, with exact pixels of up to 256 colors, that repeats at its rate."""
    frames = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 12, channels), np.uint8)
    got = value(Kind.VIDEO, Video(frames, fps))
    width, height, *files = got.tensor.string_val
    assert (width, height, got.metadata.plugin_data.plugin_name) == (b"12", b"8", "images")
    for file, expected in zip(files, frames, strict=True):
        animation = Image.open(io.BytesIO(file))
        assert (animation.format, animation.info["loop"]) == ("GIF", 0)
        seen, milliseconds = [], 0
        for frame in ImageSequence.Iterator(animation):
            seen.append(np.asarray(frame.convert("RGB"))[..., :channels])
            milliseconds += frame.info["duration"]
        np.testing.assert_array_equal(np.stack(seen), expected)
        assert milliseconds == round(6 / fps * 100) * 10


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("# Ü", "# Ü"),
        ([["k", "v"], ["lr", "0.1"]], "| k | v |\n| --- | --- |\n| lr | 0.1 |"),
        ([["k", "v"], ["alone"]], "| k | v |\n| --- | --- |\n| alone |  |"),
        ([["k"], ["a", "b"]], "| k |  |\n| --- | --- |\n| a | b |"),
        ([["only a header"]], "| only a header |\n| --- |"),
        ([], ""),
    ],
)
def test_text_is_markdown(content, text):
    """Text is one string, and a table is a Markdown table with short rows padded."""
    got = value(Kind.TEXT, content)
    assert got.tensor.HasField("tensor_shape")
    assert not got.tensor.tensor_shape.dim
    assert [string.decode() for string in got.tensor.string_val] == [text]
    assert got.metadata.plugin_data.plugin_name == "text"


@pytest.mark.filterwarnings("ignore:html5lib's sanitizer is deprecated")
@pytest.mark.parametrize(
    ("cell", "html"),
    [
        ("a|b", "a&#124;b"),
        ("`a|b`", "<code>a|b</code>"),
        ("`` a`|b ``", "<code>a`|b</code>"),
        ("a\\|b", "a\\&#124;b"),
        ("C:\\", "C:\\"),
        ("`open|", "&#96;open&#124;"),
        ("x\n\ny\r\nz", "x<br><br>y<br>z"),
        ("`x\ny`", "<code>x y</code>"),
        ("**bold**", "<strong>bold</strong>"),
        ("", ""),
    ],
)
def test_a_cell_of_any_text_is_one_cell(cell, html):
    """Pipes, line ends, backslashes and single backticks in a cell do not change the table around it."""
    from tensorboard import plugin_util  # It issues the warning.

    got = value(Kind.TEXT, [["head", "er"], [cell, "next"], ["last", "row"]])
    table = plugin_util.markdown_to_safe_html(got.tensor.string_val[0]).replace("\n", "")
    assert table == (
        "<table><thead><tr><th>head</th><th>er</th></tr></thead><tbody>"
        f"<tr><td>{html}</td><td>next</td></tr><tr><td>last</td><td>row</td></tr></tbody></table>"
    )


def test_hparams_are_booleans_numbers_or_text():
    """Hyperparameters keep booleans and finite numbers, store the rest as text, and join nested names."""
    content = {
        "flag": True,
        "np_flag": np.bool_(False),
        "lr": 1e-3,
        "layers": np.int64(4),
        "none": None,
        "nan": math.nan,
        "inf": math.inf,
        "sizes": [1, 2],
        "opt": {"name": "adam", "b": {"1": 0.9}},
    }
    got = value(Kind.HPARAMS, content, tag="_hparams_/session_start_info")
    info = hparams_metadata.parse_session_start_info_plugin_data(got.metadata.plugin_data.content)
    field = {name: entry.WhichOneof("kind") for name, entry in info.hparams.items()}
    assert {name: getattr(info.hparams[name], kind) for name, kind in field.items()} == {
        "flag": True,
        "np_flag": False,
        "lr": 1e-3,
        "layers": 4.0,
        "none": "None",
        "nan": "nan",
        "inf": "inf",
        "sizes": "[1, 2]",
        "opt/name": "adam",
        "opt/b/1": 0.9,
    }
    assert field["flag"] == field["np_flag"] == "bool_value"
    assert info.start_time_secs == 12.5


def test_metrics_are_the_columns_of_an_experiment():
    """Hyperparameters have their types, as tensorboardX writes them, and metrics a description."""
    hparams = {"lr": 0.1, "flag": True, "name": "adam", "sizes": [1, 2]}
    got = value(Kind.METRICS, MetricGoals({"test/loss": "min"}, hparams), "_hparams_/experiment")
    experiment = hparams_metadata.parse_experiment_plugin_data(got.metadata.plugin_data.content)
    reference = tensorboardx.hparams({**hparams, "sizes": "[1, 2]"}, {"test/loss": 1.0})[0].value[0]
    expected = hparams_metadata.parse_experiment_plugin_data(reference.metadata.plugin_data.content)
    types = [
        {info.name: info.type for info in each.hparam_infos} for each in (experiment, expected)
    ]
    assert types[0] == types[1]
    metrics = [[info.name.tag for info in each.metric_infos] for each in (experiment, expected)]
    assert metrics[0] == metrics[1] == ["test/loss"]
    assert experiment.metric_infos[0].description == "Smaller is better."
    assert got.tag == reference.tag


def test_a_layout_is_that_of_tensorboardx():
    """Tag, tensor and plugin are those that tensorboardX writes for the same layout."""
    charts = {"loss": ("loss/.*", "error"), "band": (Margin("mean", "min", "max"),)}
    got = value(Kind.LAYOUT, {"category": charts}, "custom_scalars__config__")
    layout = {
        "category": {
            "loss": ["Multiline", ["loss/.*", "error"]],
            "band": ["Margin", ["mean", "min", "max"]],
        }
    }
    (expected,) = tensorboardx.custom_scalars(layout).value
    assert got.tag == expected.tag
    assert got.metadata.SerializeToString() == expected.metadata.SerializeToString()
    parsed = [
        _proto.layout.Layout.FromString(each.tensor.string_val[0]) for each in (got, expected)
    ]
    for each in parsed:
        each.version = 0
    assert parsed[0] == parsed[1]


COUNTS = ThresholdCounts(np.array([3, 2, 0]), np.array([4, 1, 0]), 3, 4)


def test_a_pr_curve_is_that_of_tensorboardx():
    """Tensor and plugin data are those that tensorboardX writes for the same samples; the card has a title."""
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 2, 100), rng.random(100).astype(np.float32)
    with capture() as records:
        jb.pr_curve("tag", labels, predictions, num_thresholds=20)
    got = value(Kind.PR_CURVE, records[0].value)
    (expected,) = tensorboardx.pr_curve("tag", labels, predictions, num_thresholds=20).value
    ours, theirs = (tensor_util.make_ndarray(each.tensor) for each in (got, expected))
    assert ours.dtype == theirs.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)
    plugins = [each.metadata.plugin_data.SerializeToString() for each in (got, expected)]
    assert plugins[0] == plugins[1]
    assert got.metadata.display_name == "tag"


def test_curves_and_matrices_are_images():
    """A ROC curve and a confusion matrix are one PNG each."""
    matrix = ConfusionMatrix(np.array([[3, 1], [0, 2]]), ("cat", "dog"))
    for kind, content in ((Kind.ROC_CURVE, COUNTS), (Kind.CONFUSION_MATRIX, matrix)):
        got = value(kind, content)
        width, height, file = got.tensor.string_val
        image = Image.open(io.BytesIO(file))
        assert (image.format, image.size) == ("PNG", (int(width), int(height)))
        assert got.metadata.plugin_data.plugin_name == "images"


BAD_RECORDS = {
    "float image": Record(Kind.IMAGE, "bad", 1, 1.0, np.zeros((1, 2, 2, 3), np.float32)),
    "float sound": Record(Kind.AUDIO, "bad", 1, 1.0, Audio(np.zeros((1, 2, 1)), 8000)),
    "float video": Record(Kind.VIDEO, "bad", 1, 1.0, Video(np.zeros((1, 2, 2, 2, 3)), 4)),
    "no image": Record(Kind.IMAGE, "bad", 1, 1.0, None),
    "text that is not UTF-8": Record(Kind.TEXT, "bad", 1, 1.0, "\udce9"),
    "hparams that are a list": Record(Kind.HPARAMS, "bad", 1, 1.0, [1]),
    "unknown kind": Record("audio", "bad", 1, 1.0, 2.0),  # pyright: ignore[reportArgumentType]
    "object": Record(Kind.SCALAR, "bad", 1, 1.0, object()),
    "string": Record(Kind.SCALAR, "bad", 1, 1.0, "high"),
    "complex": Record(Kind.SCALAR, "bad", 1, 1.0, np.complex64(1j)),
    "vector": Record(Kind.SCALAR, "bad", 1, 1.0, np.zeros(3)),
    "step of a scalar": Record(Kind.SCALAR, "bad", 2**63, 1.0, np.float32(2)),
    "fraction of a step": Record(Kind.SCALAR, "bad", 1.5, 1.0, np.float32(2)),  # pyright: ignore[reportArgumentType]
    "step of a text": Record(Kind.TEXT, "bad", -(2**63) - 1, 1.0, "x"),
    "time of a scalar": Record(Kind.SCALAR, "bad", 1, "now", np.float32(2)),  # pyright: ignore[reportArgumentType]
    "time of a text": Record(Kind.TEXT, "bad", 1, "now", "x"),  # pyright: ignore[reportArgumentType]
}


@pytest.mark.parametrize("name", BAD_RECORDS)
def test_a_record_that_cannot_be_encoded_costs_only_itself(name):
    """It is lost, once and with a reason; all other records of the batch, its step and its tag are encoded."""
    good = [
        Record(Kind.TEXT, "text", 1, 1.0, "x"),
        Record(Kind.SCALAR, "bad", 1, 1.0, np.float32(3)),
        Record(Kind.SCALAR, "scalar", 1, 1.0, np.float32(2)),
    ]
    lost: list[tuple[object, int]] = []
    reasons: list[str] = []

    def lose(tag: object, count: int, reason: str) -> None:
        lost.append((tag, count))
        reasons.append(reason)

    data, sizes, end_step = _encoding.encode([*good, BAD_RECORDS[name], *good], lose)
    ends = np.cumsum(sizes)
    assert lost == [("bad", 1)]
    assert reasons[0].startswith("it cannot be encoded: ")
    parts = [
        Event.FromString(data[end - size : end]) for end, size in zip(ends, sizes, strict=True)
    ]
    tags = [value.tag for event in parts for value in event.summary.value]
    assert sorted(tags) == ["bad", "bad", "scalar", "scalar", "text", "text"]
    assert end_step == 2


@pytest.mark.parametrize("where", ["tag", "step", "values"])
def test_a_bad_part_of_a_block_costs_only_itself(where):
    """In a block of scalars, one tag or one step may be lost, and every other point is encoded."""
    steps: Any = np.arange(3)
    tags, values = ("a", "b"), np.arange(6.0).reshape(3, 2).astype(object)
    if where == "tag":
        tags = ("a", "\udce9")
    elif where == "step":
        steps = np.array([0, 2**64, 2], object)
    else:
        values[1, 1] = "high"
    lost: list[tuple[object, int]] = []
    data, sizes, _ = _encoding.encode(
        [Scalars(tags, steps, np.arange(3.0), values)],
        lambda tag, count, reason: lost.append((tag, count)),
    )
    ends = np.cumsum(sizes)
    parts = [
        Event.FromString(data[end - size : end]) for end, size in zip(ends, sizes, strict=True)
    ]
    points = [(event.step, v.tag, v.simple_value) for event in parts for v in event.summary.value]
    every = [(step, tag, 2.0 * step + (tag == "b")) for tag in "ab" for step in range(3)]
    missing = {"tag": every[3:], "step": [every[1], every[4]], "values": [every[4]]}[where]
    assert points == [point for point in every if point not in missing]
    assert sum(count for _, count in lost) == len(missing)


@pytest.mark.parametrize("part", ["steps", "wall_times", "values"])
def test_a_block_whose_parts_do_not_match_is_lost(part):
    """A block whose points are unknown is counted as lost."""
    parts = {"steps": np.arange(2), "wall_times": np.zeros(2), "values": np.zeros((2, 1))}
    parts[part] = parts[part][:1]
    lost: list[object] = []
    block = Scalars(("a",), **parts)
    data, *_ = _encoding.encode([block], lambda tag, count, reason: lost.append(tag))
    assert (data, set(lost)) == (b"", {"a"})


def test_a_restart_is_marked_twice():
    """The mark of a restart is two events SessionLog.START at its step."""
    data, sizes, _ = _encoding.restart(17)
    assert sizes.tolist() == [len(data) // 2] * 2
    for half in data[: len(data) // 2], data[len(data) // 2 :]:
        event = Event.FromString(half)
        assert (event.step, event.session_log.status) == (17, 1)


GRAPH = Graph(
    (
        GraphNode("inputs/x", "input", (), (("float32", (3, None)),)),
        GraphNode(
            "a/top_k", "top_k", ("inputs/x",), (("float32", ()), ("int32", (2,))), {"k": "2"}
        ),
        GraphNode("y", "output", ("a/top_k:1",)),
    )
)


def graph_def(data: bytes) -> dict[str, Any]:
    nodes = _proto.GraphDef.FromString(data).node
    return {node.name: node for node in nodes}


def test_the_graph_of_a_run() -> None:
    """The graph of a run is an event of its own: names, inputs, shapes of all outputs, and attributes."""
    (event,) = events(Record(Kind.GRAPH, "", 3, 12.5, GRAPH))
    assert (event.step, event.wall_time, event.WhichOneof("what")) == (3, 12.5, "graph_def")
    nodes = graph_def(event.graph_def)
    assert [(node.op, list(node.input)) for node in nodes.values()] == [
        ("input", []),
        ("top_k", ["inputs/x"]),
        ("output", ["a/top_k:1"]),
    ]
    shapes = [
        [[dim.size for dim in shape.dim] for shape in node.attr["_output_shapes"].list.shape]
        for node in nodes.values()
    ]
    assert shapes == [[[3, -1]], [[], [2]], []]
    texts = {name: attr.s for name, attr in nodes["a/top_k"].attr.items() if attr.s}
    assert texts == {"dtype": b"float32, int32", "k": b"2"}


def test_an_event() -> None:
    """A message is written as it is, with the step and the wall time of its record; bytes that are none are lost."""
    value = _proto.Summary.Value(tag="x", simple_value=2.5)
    given = Event(step=1, wall_time=2.0, summary=_proto.Summary(value=[value]))
    (event,) = events(Record(Kind.EVENT, "", 3, 12.5, given.SerializeToString()))
    assert event == Event(step=3, wall_time=12.5, summary=given.summary)
    lost: list[object] = []
    record = Record(Kind.EVENT, "", 3, 12.5, b"no event")
    assert _encoding.encode([record], lambda *args: lost.append(args)).data == b""
    assert record.nbytes == 8
    assert len(lost) == 1


def test_a_graph_with_a_tag() -> None:
    """A graph with a tag is the one function of a RunMetadata, as TensorFlow exports traces."""
    message = value(Kind.GRAPH, GRAPH)
    plugin = message.metadata.plugin_data
    assert (plugin.plugin_name, plugin.content) == ("graph_run_metadata_graph", b"1")
    (data,) = message.tensor.string_val
    (function,) = _proto.RunMetadata.FromString(data).function_graphs
    assert {node.name for node in function.pre_optimization_graph.node} == {
        node.name for node in GRAPH.nodes
    }
