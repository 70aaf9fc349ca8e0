"""The methods of a summary writer: their signatures, steps, wall times, and values that differ from those of the verbs."""

# pyright: reportArgumentType=false

from __future__ import annotations

import inspect
import io
import json
import re

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
import tensorboardX
from held_arrays import uncomputed
from PIL import Image, ImageSequence
from summary_writer.method_calls import CALLS, COUNTS, GRAY, ON_DEVICE, on_device
from summary_writer.reading import by_tag, events, values

import jaxboard as jb
from jaxboard.sinks import _proto

TORCH = {
    "__init__": "log_dir comment purge_step max_queue flush_secs filename_suffix",
    "add_scalar": "tag scalar_value global_step walltime new_style double_precision",
    "add_scalars": "main_tag tag_scalar_dict global_step walltime",
    "add_tensor": "tag tensor global_step walltime",
    "add_histogram": "tag values global_step bins walltime max_bins",
    "add_histogram_raw": "tag min max num sum sum_squares bucket_limits bucket_counts global_step walltime",
    "add_image": "tag img_tensor global_step walltime dataformats",
    "add_images": "tag img_tensor global_step walltime dataformats",
    "add_image_with_boxes": "tag img_tensor box_tensor global_step walltime rescale dataformats labels",
    "add_figure": "tag figure global_step close walltime",
    "add_video": "tag vid_tensor global_step fps walltime",
    "add_audio": "tag snd_tensor global_step sample_rate walltime",
    "add_text": "tag text_string global_step walltime",
    "add_graph": "model input_to_model verbose use_strict_trace",
    "add_embedding": "mat metadata label_img global_step tag metadata_header",
    "add_pr_curve": "tag labels predictions global_step num_thresholds weights walltime",
    "add_pr_curve_raw": "tag true_positive_counts false_positive_counts true_negative_counts false_negative_counts "
    "precision recall global_step num_thresholds weights walltime",
    "add_custom_scalars": "layout",
    "add_custom_scalars_multilinechart": "tags category title",
    "add_custom_scalars_marginchart": "tags category title",
    "add_mesh": "tag vertices colors faces config_dict global_step walltime",
    "add_hparams": "hparam_dict metric_dict hparam_domain_discrete run_name global_step",
    "add_onnx_graph": "",
    "get_logdir": "",
    "flush": "",
    "close": "",
}
"""The methods of torch.utils.tensorboard.SummaryWriter (2.14) and the names of their arguments."""

OTHER_PLACE = {"logdir", "log_dir", "display_name", "new_style", "rescale"}
"""Arguments that one of the libraries has in a place where the other has another one."""


def names(method) -> list[str]:
    """Return the names of the arguments of a method."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(method).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind in kinds][1:]


def tensorboardx_methods() -> dict[str, str]:
    """Return the methods of tensorboardX and the names of their arguments."""
    found = inspect.getmembers(tensorboardX.SummaryWriter, inspect.isfunction)
    return {
        name: " ".join(names(method))
        for name, method in found
        if not name.startswith("_") or name == "__init__"
    }


@pytest.mark.parametrize("library", ["torch", "tensorboardX"])
def test_signatures(library):
    """Every method of both libraries exists and has the same arguments, in the same order."""
    methods = TORCH if library == "torch" else tensorboardx_methods()
    assert len(methods) > 20
    for name, arguments in methods.items():
        ours = names(getattr(jb.SummaryWriter, name))
        theirs = arguments.split()
        assert set(theirs) <= set(ours), name
        if (library, name) == ("tensorboardX", "add_hparams"):  # see test_hparams_by_position
            continue
        common = [argument for argument in theirs if argument not in OTHER_PLACE]
        assert common == [argument for argument in ours if argument in common], name
        first = [argument for argument in theirs if argument not in ("logdir", "log_dir")][:4]
        assert first == [a for a in ours if a not in ("logdir", "log_dir")][: len(first)], name


def test_defaults():
    """Defaults are those of tensorboardX, except where a value of their own has another name here."""
    for name, theirs in inspect.getmembers(tensorboardX.SummaryWriter, inspect.isfunction):
        if name.startswith("_") and name != "__init__":
            continue
        ours = inspect.signature(getattr(jb.SummaryWriter, name)).parameters
        for parameter in inspect.signature(theirs).parameters.values():
            if parameter.name in ours and parameter.name != "comet_config":
                assert ours[parameter.name].default == parameter.default, (name, parameter)


@pytest.mark.parametrize("name", CALLS)
def test_steps_and_wall_times(name, tmp_path):
    """Each value has the step and the wall time that were passed; without a step it is 0."""
    call = CALLS[name]
    with jb.SummaryWriter(tmp_path) as writer:
        call(writer, global_step=7, walltime=1234.5)
        call(writer)
    found = [value for value in values(tmp_path) if value.tag in call.tags]
    assert {value.tag for value in found} == set(call.tags)
    if name == "hparams":  # The run has them once.
        found = [value for value in found if value.tag == "x"]
    found.sort(key=lambda value: (value.step != 7, value.wall_time))
    first, second = found[: len(found) // 2], found[len(found) // 2 :]
    assert {(value.step, value.wall_time) for value in first} == {(7, 1234.5)}
    assert {value.step for value in second} == {0}
    assert all(value.wall_time > 1e9 for value in second)


@pytest.mark.parametrize("name", ON_DEVICE)
def test_arrays_on_a_device_are_not_waited_for(name, tmp_path):
    """A report of an array that is not computed returns, and the array is written once it is."""
    call = ON_DEVICE[name]
    with jb.SummaryWriter(tmp_path / "expected") as writer:
        call(writer, global_step=1)
        call.with_arrays(on_device)(writer, global_step=1)  # compiles
    with jb.SummaryWriter(tmp_path / "late") as writer:
        held = [arg for arg in call.args if isinstance(arg, np.ndarray)] or [np.float32(1)]
        with uncomputed(held[0]) as late:
            first = iter([late])
            call.with_arrays(lambda array: next(first, array))(writer, global_step=1, walltime=5)
    expected, actual = by_tag(tmp_path / "expected"), by_tag(tmp_path / "late")
    assert set(actual) == set(expected)
    for tag in call.tags:
        assert actual[tag].message.tensor == expected[tag].message.tensor
        assert (actual[tag].step, actual[tag].wall_time) == (1, 5.0)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (3, 3),
        (True, 1),
        (np.int64(3), 3),
        (3.9, 3),
        (np.float32(3.9), 3),
        (np.array([3]), 3),
        (jnp.int32(3), 3),
        (jnp.array([3]), 3),
        (jnp.float32(3.9), 3),
        (-2, -2),
    ],
)
def test_kinds_of_steps(step, expected, tmp_path):
    """A step may be any number, which is truncated, and an array with one element."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_scalar("scalar", 1.0, step)
        writer.add_text("text", "x", step)
        writer.add_histogram("device", jnp.ones(3), step)
    assert {value.step for value in values(tmp_path)} == {expected}


def test_points_are_in_the_order_of_their_reports(tmp_path):
    """Wall times that go back, or that only some reports have, do not change the order of the points."""
    with jb.SummaryWriter(tmp_path) as writer:
        for step in range(40):
            walltime = {0: 1000.0 - step, 1: None}[step % 2] if step < 20 else 2000.0 - step
            writer.add_scalar("numbers", step, step, walltime)
            writer.add_scalar("arrays", jnp.float32(step), step, walltime)
            writer.add_histogram("device", jnp.full(3, step, jnp.float32), step, walltime=walltime)
            writer.add_histogram("host", np.full(3, step), step, walltime=walltime)
    for tag in ("numbers", "arrays", "device", "host"):
        found = [value for value in values(tmp_path) if value.tag == tag]
        assert [value.step for value in found] == list(range(40))
        assert [value.wall_time for value in found[0:20:2]] == [1000.0 - s for s in range(0, 20, 2)]
        assert [value.wall_time for value in found[20:]] == [2000.0 - s for s in range(20, 40)]
        assert all(value.wall_time > 1e9 for value in found[1:20:2])


def test_equal_steps_make_points_of_their_own(tmp_path):
    """Two values of one step are two points, as in both libraries."""
    with jb.SummaryWriter(tmp_path) as writer:
        for value in (1.0, 2.0):
            writer.add_scalar("x", value)
    assert [value.array.item() for value in values(tmp_path)] == [1.0, 2.0]


def test_scalars_share_a_chart(tmp_path):
    """add_scalars makes tags below the main tag, no run, and one chart, which grows with new names."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_custom_scalars({"train": {"rate": ["Multiline", ["lr"]]}})
        writer.add_scalars("train/loss", {"a": 1, "b+": 2}, 0)
        writer.add_scalars("train/loss", {"a": 1, "c": 3}, 1)
        with jb.scope("eval"):
            writer.add_scalars("loss", {"a": 1}, 0)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    assert layout(tmp_path) == {
        "train": {
            "rate": ["lr"],
            "train/loss": ["train/loss/a$", r"train/loss/b\+$", "train/loss/c$"],
        },
        "eval": {"eval/loss": ["eval/loss/a$"]},
    }
    tags = set(by_tag(tmp_path)) - {"custom_scalars__config__"}
    assert tags == {"train/loss/a", "train/loss/b+", "train/loss/c", "eval/loss/a"}


def layout(directory):
    """Return the last layout: category -> title -> tags, or the tags of a margin chart."""
    message = _proto.layout.Layout.FromString(
        by_tag(directory)["custom_scalars__config__"].array.item()
    )
    return {
        category.title: {
            chart.title: list(chart.multiline.tag)
            or [(each.value, each.lower, each.upper) for each in chart.margin.series]
            for chart in category.chart
        }
        for category in message.category
    }


def test_the_old_behavior_of_scalars(tmp_path):
    """The lines of the docstring make a run for each name, whose curves share a chart."""
    with jb.SummaryWriter(tmp_path) as writer:
        for name, value in {"a": 1.0, "b": 2.0}.items():
            writer.run.child(f"loss/{name}").scalar("loss", value, step=3)
    table = jb.read(tmp_path)
    assert table[["run", "tag", "step"]].values.tolist() == [
        ["loss/a", "loss", 3],
        ["loss/b", "loss", 3],
    ]


def test_custom_scalars_add_up(tmp_path):
    """Several calls make one layout; a chart of the same title replaces the earlier one."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_custom_scalars_multilinechart(["x"], "first", "a")
        writer.add_custom_scalars_multilinechart("loss/.*", "first", "a")
        writer.add_custom_scalars_marginchart(["m", "l", "u"])
    assert layout(tmp_path) == {
        "first": {"a": ["loss/.*"]},
        "default": {"untitled": [("m", "l", "u")]},
    }


def test_hparams_by_position(tmp_path):
    """Names and steps work in the places of both libraries; runs without a name have numbers."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_hparams({"lr": 1}, {"x": 1})
        writer.add_hparams({"lr": 1}, {"x": 2}, global_step=1)
        writer.add_hparams({"lr": 2}, {"x": 3})
        writer.add_hparams({"lr": 3}, {"x": 4}, "tensorboardX", 5)
        writer.add_hparams({"lr": 4}, {"x": 5}, {"lr": [3, 4]}, "torch", 6)
        writer.add_hparams({"lr": 5, "none": None}, {"x": 6}, name="by name")
    table = jb.read(tmp_path)
    assert table[["run", "step", "value"]].values.tolist() == [
        [".", 0, 1.0],
        [".", 1, 2.0],
        ["by name", 0, 6.0],
        ["hparams_1", 0, 3.0],
        ["tensorboardX", 5, 4.0],
        ["torch", 6, 5.0],
    ]


def test_scalars_in_tensorboard(tmp_path, shared_tensorboard):
    """TensorBoard shows, with both loaders, the title and the description of a scalar, and a chart of several scalars."""
    with jb.SummaryWriter(tmp_path / "titled") as writer:
        for step in range(3):
            writer.add_scalar("x", step, step, None, "the title", "**about** it")
            writer.add_scalar("y", step, step, None, True, True)  # new_style of PyTorch
            writer.add_scalars("writer/loss", {"one": step, "two+": -step}, step)
    for loader in ("rust", "python"):
        server = shared_tensorboard(loader)
        run = server.show(tmp_path) + "titled"
        points = server.scalars(run, "x", count=3)
        assert [(step, value) for _, step, value in points] == [(0, 0.0), (1, 1.0), (2, 2.0)]
        shown = server.tags("scalars", run)
        assert shown["x"]["displayName"] == "the title"
        assert "<strong>about</strong> it" in shown["x"]["description"]
        assert shown["y"]["displayName"] in ("y", "")
        (chart,) = server.charts("writer")
        assert chart["title"] == "writer/loss"
        found = [server.custom_scalars(run, tag, count=3) for tag in chart["multiline"]["tag"]]
        curves = {tag: [row[2] for row in rows] for each in found for tag, rows in each.items()}
        assert curves == {"writer/loss/one": [0, 1, 2], "writer/loss/two+": [0, -1, -2]}


def test_integers_are_pixels_from_0_to_1(tmp_path):
    """Integers other than uint8, and bools, are scaled as floats are: a mask of 0 and 1 is black and white."""
    mask = np.eye(4, dtype=np.int64)
    with jb.SummaryWriter(tmp_path) as writer:
        for number, dtype in enumerate((np.int64, np.int32, np.uint16, bool, np.float32)):
            writer.add_image(f"{number}", mask.astype(dtype), dataformats="HW")
            writer.add_video(f"video {number}", mask.astype(dtype)[None, None, None])
        writer.add_embedding(np.eye(4), label_img=np.broadcast_to(mask, (4, 1, 4, 4)))
    found = by_tag(tmp_path)
    for number in range(5):
        np.testing.assert_array_equal(found[f"{number}"].pixels, mask * 255)
    assert {found[f"video {n}"].message.tensor.string_val[2] for n in range(5)} == {
        found["video 0"].message.tensor.string_val[2]
    }


@pytest.mark.parametrize("dataformats", ["CHW", "HWC", "chw", "WHC", "CWH"])
def test_orders_of_axes(dataformats, tmp_path):
    """An image may have its axes in any order, on the host and on a device."""
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    order = ["HWC".index(letter) for letter in dataformats.upper()]
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_image("host", image.transpose(order), dataformats=dataformats)
        writer.add_image("device", jnp.asarray(image.transpose(order)), dataformats=dataformats)
    found = by_tag(tmp_path)
    np.testing.assert_array_equal(found["host"].pixels, image)
    np.testing.assert_array_equal(found["device"].pixels, image)


def test_a_batch_is_a_grid(tmp_path):
    """A batch of images, or a list, is one picture with up to eight in a row."""
    images = np.zeros((10, 3, 4, 6), np.uint8)
    images[:] = np.arange(10)[:, None, None, None]
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_images("batch", images)
        writer.add_images("list", list(images), dataformats="CHW")
        writer.add_images("list of arrays", list(jnp.asarray(images)))
        writer.add_images("three", images[:3].transpose(0, 2, 3, 1), dataformats="NHWC")
        writer.add_image("one", images[:1], dataformats="NCHW")
    found = by_tag(tmp_path)
    assert found["batch"].pixels.shape == (2 * 4 + 2, 8 * 6 + 7 * 2, 3)
    assert found["batch"].pixels[0, 0::8, 0].tolist() == list(range(8))
    assert found["batch"].pixels[6, 0:9:8, 0].tolist() == [8, 9]
    for tag in ("list", "list of arrays"):
        np.testing.assert_array_equal(found[tag].pixels, found["batch"].pixels)
    assert found["three"].pixels.shape == (4, 3 * 6 + 2 * 2, 3)
    assert found["one"].pixels.shape == (4, 6, 3)


def test_videos_are_side_by_side(tmp_path):
    """The videos of a batch are one GIF; each frame has the pixels of all of them."""
    frames = np.zeros((3, 2, 1, 4, 4), np.uint8)
    frames[0], frames[1], frames[2] = 50, 100, 150
    frames[:, 1] += 50
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_video("batch", frames, fps=2)
        writer.add_video("axes", frames.transpose(0, 1, 3, 4, 2), dataformats="NTHWC")
        writer.add_video("single", jnp.asarray(frames[0]), dataformats="TCHW")
    found = by_tag(tmp_path)
    gif = Image.open(io.BytesIO(found["batch"].array[2]))
    corners = [
        np.asarray(frame.convert("L"))[::4, ::4].tolist() for frame in ImageSequence.Iterator(gif)
    ]
    assert gif.size == (8, 8)
    assert corners == [[[50, 100], [150, 0]], [[100, 150], [200, 0]]]
    assert found["axes"].array[:2].tolist() == [b"8", b"8"]
    assert found["single"].array[:2].tolist() == [b"4", b"4"]


def test_boxes(tmp_path):
    """Boxes are drawn; a wrong number of labels is a warning; rescale= enlarges the image and the boxes."""
    image = np.zeros((3, 32, 32), np.float32)
    boxes = np.array([[4, 4, 20, 20], [8, 8, 30, 30]])
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_image_with_boxes("plain", image, boxes)
        writer.add_image_with_boxes("one box", image, boxes[:1])
        writer.add_image_with_boxes("one label", image, boxes[:1], labels="cat")
        with pytest.warns(jb.JaxboardWarning, match="2 boxes have 1 labels"):
            writer.add_image_with_boxes("labels", image, boxes, labels=["cat"])
        writer.add_image_with_boxes("double", image, boxes, rescale=2)
    found = by_tag(tmp_path)
    np.testing.assert_array_equal(found["labels"].pixels, found["plain"].pixels)
    assert found["plain"].pixels[4, 10].any()
    assert found["double"].pixels.shape == (64, 64, 3)
    assert found["double"].pixels[8, 20].any()
    assert (found["one label"].pixels != found["one box"].pixels).any()


def test_meshes(tmp_path):
    """Colors of integers and of NumPy floats up to 255 are bytes; floats up to 1 are scaled. All meshes are kept."""
    vertices = np.zeros((5, 4, 3))
    colors = np.tile(np.array([255, 0, 128]), (5, 4, 1))
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_mesh("int", vertices, colors)
        writer.add_mesh("float", vertices, colors.astype(float))
        writer.add_mesh("unit", vertices, colors / 255)
        writer.add_mesh("device", vertices, jnp.asarray(colors))
        writer.add_mesh("one", vertices[0], config_dict={"camera": {"cls": "OrthographicCamera"}})
    found = by_tag(tmp_path)
    for tag in ("int", "float", "unit", "device"):
        assert found[f"{tag}_VERTEX"].array.shape == (5, 4, 3)
        np.testing.assert_array_equal(found[f"{tag}_COLOR"].array, colors)
    content = found["one_VERTEX"].message.metadata.plugin_data.content
    assert b"OrthographicCamera" in content


def test_sounds(tmp_path):
    """A sound has its samples last or first, in one channel, or two channels last."""
    mono = np.linspace(-1, 1, 50, dtype=np.float32)
    with jb.SummaryWriter(tmp_path) as writer:
        for tag, sound in {
            "a": mono,
            "b": mono[None],
            "c": mono[:, None],
            "d": mono[None, None],
        }.items():
            writer.add_audio(tag, sound, sample_rate=8000)
        writer.add_audio("stereo", np.stack([mono, mono], axis=1))
    found = by_tag(tmp_path)
    assert {found[tag].array[0] for tag in "abcd"} == {found["a"].array[0]}
    assert len(found["stereo"].array[0]) == 44 + 50 * 4


def test_histograms(tmp_path):
    """Bins are those of NumPy without empty ones at the ends; NaN is left out; max_bins merges neighbors."""
    numbers = np.concatenate([np.arange(100.0), [np.nan, np.inf]])
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_histogram("default", numbers)
        writer.add_histogram("ten", numbers, bins=10)
        writer.add_histogram("edges", numbers, bins=[-10, -5, 0, 50, 60, 200, 300])
        writer.add_histogram("merged", jnp.asarray(numbers), bins=10, max_bins=4)
        writer.add_histogram("few", numbers, max_bins=5)
        writer.add_histogram("bfloat16", jnp.ones(3, jnp.bfloat16), bins=2)
    found = {tag: value.array.tolist() for tag, value in by_tag(tmp_path).items()}
    assert sum(count for _, _, count in found["default"]) == 100
    np.testing.assert_allclose(found["ten"], [[9.9 * i, 9.9 * (i + 1), 10] for i in range(10)])
    assert found["edges"] == [[0, 50, 50], [50, 60, 10], [60, 200, 40]]
    assert [count for _, _, count in found["merged"]] == [30, 30, 30, 10]
    assert [count for _, _, count in found["few"]] == [20] * 5
    assert sum(count for _, _, count in found["bfloat16"]) == 3


def test_embeddings(tmp_path):
    """Labels of an array are plain numbers; thumbnails have their channels first, or last where only that can be."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_embedding(
            jnp.eye(3), np.array([33.0, 44.0, 55.0]), jnp.ones((3, 3, 5, 5)), 2, "a", None
        )
        writer.add_embedding(np.eye(3), label_img=np.ones((3, 7, 7, 1)), tag="b")
        rows = zip([1, 2, 3], ["x", "y", "z"], strict=True)
        writer.add_embedding(np.eye(3), metadata=rows, metadata_header=["number", "name"])
    projector = tmp_path / "projector"
    assert (projector / "a" / "step_2" / "labels.tsv").read_text() == "33.0\n44.0\n55.0\n"
    assert (projector / "a" / "step_2" / "images.png").exists()
    assert (projector / "b" / "step_0" / "images.png").exists()
    assert (projector / "default" / "step_0" / "labels.tsv").read_text().splitlines()[:2] == [
        "number\tname",
        "1\tx",
    ]


def test_figures(tmp_path):
    """A list of figures is one value with an image each."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_figure("list", [matplotlib.figure.Figure((1, 1)) for _ in range(3)])
    assert len(by_tag(tmp_path)["list"].array) == 2 + 3


def test_graphs(tmp_path):
    """A function is shown with one input, or with a list or tuple of them."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_graph(jnp.add, (jnp.ones(3), jnp.ones(3)))
        with pytest.raises(jb.ReportError, match="JAX cannot trace"):
            writer.add_graph(jnp.dot, [jnp.ones((2, 3)), jnp.ones((2, 3))])
        for method in (writer.add_onnx_graph, writer.add_openvino_graph):
            with pytest.raises(jb.UsageError, match=r"Use add_graph\(function, inputs\)"):
                method("model.file")
    (graph,) = (event for event in events(tmp_path) if event.HasField("graph_def"))
    assert b"inputs" in graph.graph_def


def test_messages(tmp_path):
    """Events and summaries of any library are written with their own or the given step and wall time."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboardX.proto import event_pb2 as their_event
    from tensorboardX.proto import summary_pb2 as their_summary

    pairs = ((event_pb2, summary_pb2), (their_event, their_summary))
    with jb.SummaryWriter(tmp_path) as writer:
        for number, (event_module, summary_module) in enumerate(pairs):
            value = summary_module.Summary.Value(tag=f"{number}", simple_value=2.5)
            summary = summary_module.Summary(value=[value])
            writer.add_event(event_module.Event(step=7, summary=summary))
            writer.add_event(event_module.Event(step=7, summary=summary), 8, 100.0)
            writer.add_summary(summary, 9, 101.0)
            with writer.use_metadata(global_step=10):
                writer.add_event(event_module.Event(step=7, summary=summary))
                writer.add_summary(summary)
            assert writer.file_writer is not None
            writer.file_writer.add_summary(summary)
    for number in range(2):
        found = [value for value in values(tmp_path) if value.tag == f"{number}"]
        assert [value.step for value in found] == [7, 8, 9, 10, 10, 0]
        assert [value.wall_time for value in found[1:3]] == [100.0, 101.0]
        assert {value.array.item() for value in found} == {2.5}


def test_exported_scalars(tmp_path):
    """The file has every scalar of the directory by its path: wall time, step and value."""
    with jb.SummaryWriter(tmp_path / "run") as writer:
        writer.add_scalar("x", jnp.float32(0.5), 3, walltime=100.0)
        writer.add_scalars("y", {"a": 1, "b": 2}, 4, walltime=101.0)
        writer.run.child("eval").scalar("x", 5.0, step=1)
        writer.export_scalars_to_json(tmp_path / "scalars.json")
    found = json.loads((tmp_path / "scalars.json").read_text())
    logdir = str(tmp_path / "run")
    assert found.pop(f"{logdir}/eval/x")[0][1:] == [1, 5.0]
    assert found == {
        f"{logdir}/x": [[100.0, 3, 0.5]],
        f"{logdir}/y/a": [[101.0, 4, 1.0]],
        f"{logdir}/y/b": [[101.0, 4, 2.0]],
    }


NOT_A_CHART = (
    "expected chart 'c' to be ['Multiline', tags] or ['Margin', [value, lower, upper]], got {}."
)
ERRORS = [
    (lambda w: w.add_scalar("x", np.ones(3, np.float32)), "x", "expected a scalar, got float32[3]. Reduce it first (jnp.mean(x)) or use jaxboard.histogram."),
    (lambda w: w.add_scalar("x", "high"), "x", "expected numbers, got 'high' (str). jaxboard.text reports texts."),
    (lambda w: w.add_scalar(3, 1.0), 3, "expected a string as the tag, the first argument, got 3 (int)."),
    (lambda w: w.add_scalar("x", 1.0, "first"), "x", "expected global_step= to be an integer, got 'first'."),
    (lambda w: w.add_scalar("x", 1.0, np.ones(3)), "x", "expected global_step= to be an integer, got array([1., 1., 1.])."),
    (lambda w: w.add_scalar("x", 1.0, 0, "now"), "x", "expected walltime= to be seconds since the epoch, got 'now' (str)."),
    (lambda w: w.add_scalars("x", [1.0]), "x", "expected a dict of numbers, got [1.0] (list)."),
    (lambda w: w.add_scalars("x", {"a": np.ones(2)}), "x/a", "expected a scalar, got float64[2]. Reduce it first (jnp.mean(x)) or use jaxboard.histogram."),
    (lambda w: w.add_histogram("x", np.ones(0)), "x", "expected at least one element, got float64[0]."),
    (lambda w: w.add_histogram("x", np.ones(3), bins="many"), "x", "expected bins= to be 'tensorflow' or what numpy.histogram takes, got 'many': ValueError: 'many' is not a valid estimator for `bins`"),
    (lambda w: w.add_histogram("x", np.ones(3), bins=[5, 6]), "x", "no number is in the bins, from 5 to 6."),
    (lambda w: w.add_histogram("x", np.full(3, np.nan), bins=3), "x", "expected a finite number, got float64[3] without."),
    (lambda w: w.add_histogram("x", np.ones(3), max_bins=0), "x", "expected max_bins= to be a positive integer, got 0."),
    (lambda w: w.add_histogram_raw("x", 0, 1, 1, 1, 1, [0, 1], [1]), "x", "expected bucket_limits= and bucket_counts= of one length, got int64[2] and int64[1]. Leave out the first edge of numpy.histogram: bucket_limits=edges[1:]."),
    (lambda w: w.add_image("x", np.ones((3, 4))), "x", "dataformats='CHW' has 3 axes, got float64[3,4]. Pass dataformats= with a letter for each axis."),
    (lambda w: w.add_image("x", np.ones((2, 4, 4), np.float32)), "x", "expected 1, 3 or 4 channels, got float32[2,4,4] with dataformats='CHW'."),
    (lambda w: w.add_image("x", np.ones((3, 4, 4)), dataformats="CXY"), "x", "expected dataformats= to have a letter for each axis, H, W and others of NHWC, as in 'NCHW', got 'CXY'."),
    (lambda w: w.add_images("x", [jnp.ones((3, 4, 4)), jnp.ones((3, 5, 5))]), "x", "expected arrays of one shape, got [(3, 4, 4), (3, 5, 5)]."),
    (lambda w: w.add_image_with_boxes("x", np.ones((3, 4, 4)), np.ones(4)), "x", "expected boxes= of shape [K, 4] for one image, with left, top, right and bottom in pixels, got float64[4]."),
    (lambda w: w.add_image_with_boxes("x", np.ones((3, 4, 4)), np.ones((1, 4)), rescale=0), "x", "expected rescale= to be a factor that leaves an image of at most 16384 pixels a side, got 0."),
    (lambda w: w.add_image_with_boxes("x", np.ones((3, 4, 4)), np.ones((1, 4)), 0, None, 2), "x", "expected dataformats= to have a letter for each axis, H, W and others of HWC, as in 'CHW', got 2."),
    (lambda w: w.add_figure("x", 5), "x", "expected a matplotlib figure, got 5 (int)."),
    (lambda w: w.add_video("x", np.ones((3, 3, 4, 4))), "x", "dataformats='NTCHW' has 5 axes, got float64[3,3,4,4]. Pass dataformats= with a letter for each axis."),
    (lambda w: w.add_video("x", np.ones((1, 2, 1, 4, 4)), fps=0), "x", "expected fps= to be above 0 and at most 50 (frames per second), got 0."),
    (lambda w: w.add_audio("x", np.ones((2, 100), np.float32)), "x", "expected a sound [T], [T, C] or [N, T, C] with 1 to 8 channels, got float32[2,100]. Put the channels last with x.T; of a batch of sounds with one channel, add the channel axis with x[..., None]."),
    (lambda w: w.add_audio("x", np.ones(9, np.int64)), "x", "expected samples as floats from -1 to 1, or as int16, got int64[9]. Scale them first, as in x / 2**31 for int32."),
    (lambda w: w.add_audio("x", np.ones(9), sample_rate=0), "x", "expected sample_rate= to be an integer from 1 to 1000000 (Hz), got 0."),
    (lambda w: w.add_text("x", 5), "x/text_summary", "expected a string or rows of strings, got 5 (int)."),
    (lambda w: w.add_embedding(np.ones(3)), "default", "expected vectors [N, D], got float64[3]. Flatten others: x.reshape(len(x), -1)."),
    (lambda w: w.add_embedding(np.eye(3), ["a"]), "default", "expected 3 labels, one for each vector, got 1."),
    (lambda w: w.add_embedding(np.eye(3), 5), "default", "expected metadata= to be a list, got 5 (int)."),
    (lambda w: w.add_embedding(np.eye(2), ["ab", "cd"], metadata_header=["a", "b"]), "default", "expected a row of labels as a list, got 'ab' (str)."),
    (lambda w: w.add_embedding(np.eye(3), label_img=np.ones((2, 3, 4, 4))), "default", "expected 3 images [3, H, W, C], one for each vector, got float64[2,4,4,3]."),
    (lambda w: w.add_pr_curve("x", [0, 2], [0.1, 0.2]), "x", "expected labels of 0 and 1, got 2. Samples with weights= of 0 do not count."),
    (lambda w: w.add_pr_curve("x", [0, 1], [0.1]), "x", "expected predictions of the shape of the labels, with or without an axis of classes behind, got labels int64[2] and predictions float64[1]."),
    (lambda w: w.add_pr_curve("x", [0, 1], [0.1, 0.2], num_thresholds=1), "x", "expected num_thresholds= to be an integer of at least 2, got 1."),
    (lambda w: w.add_pr_curve_raw("x", *COUNTS[:5], [1.0]), "x", "expected six arrays of one length, got int64[2], int64[2], int64[2], int64[2], float64[2], float64[1]."),
    (lambda w: w.add_mesh("x", np.ones((4, 2))), "x", "expected vertices= of shape [V, 3] or [N, V, 3], got float64[4,2]."),
    (lambda w: w.add_mesh("x", np.ones((4, 3)), faces=np.ones((1, 3))), "x", "expected faces= as integers, got float64[1,3]."),
    (lambda w: w.add_tensor("x", 1j), "x", "got complex128[]. Report its real part, or abs(x)."),
    (lambda w: w.add_graph(5), "", "expected a function, got 5 (int)."),
    (lambda w: w.add_event(5), "add_event", "expected an Event of TensorBoard, got 5 (int)."),
    (lambda w: w.add_summary(5), "add_summary", "expected a Summary of TensorBoard, got 5 (int)."),
    (lambda w: w.add_hparams({}, {}, name=np.zeros(2)), "hparams", "expected the name of the run as a str, got array([0., 0.]) (ndarray)."),
    (lambda w: w.add_embedding(np.eye(2), metadata=np.float32(1)), "default", "expected metadata= to be a list, got np.float32(1.0) (float32)."),
    (lambda w: w.add_hparams([1], {}), "hparams", "expected hparam_dict= to be a dict, got [1] (list)."),
    (lambda w: w.add_hparams({}, {"x"}), "hparams", "expected metric_dict= to be a dict, got {'x'} (set)."),
    (lambda w: w.add_hparams({"lr": 1}, {}, {"lr": ["a"]}), "hparams", "expected hparam_domain_discrete['lr'] to be a list of values like that of hparam_dict, got ['a']."),
    (lambda w: w.add_custom_scalars({"a": {"c": ["Pie", ["x"]]}}), "layout", NOT_A_CHART.format("['Pie', ['x']]")),
    (lambda w: w.add_custom_scalars_marginchart(["x"], title="c"), "layout", NOT_A_CHART.format("['Margin', ['x']]")),
    (lambda w: w.add_custom_scalars(["x"]), "layout", "expected a dict of categories, each a dict of charts such as ['Multiline', tags], got ['x'] (list)."),
]  # fmt: skip


@pytest.fixture(scope="module")
def discarding():
    """Return a writer that writes nothing."""
    with jb.SummaryWriter(write_to_disk=False) as writer:
        yield writer


@pytest.mark.parametrize(("call", "tag", "problem"), ERRORS)
def test_errors(call, tag, problem, discarding):
    """A value of a wrong rank, dtype or type raises an error that names the tag, the line and the fix."""
    with pytest.raises(jb.ReportError) as raised:
        call(discarding)
    place = f"test_methods.py:{call.__code__.co_firstlineno}"
    assert str(raised.value) == f"report {tag!r} ({place}): {problem}"


def test_a_wrong_name_of_a_session(discarding):
    """A session name that is not a relative path raises."""
    with pytest.raises(jb.UsageError, match=re.escape("run.child('../x')")):
        discarding.add_hparams({"lr": 1}, {}, run_name="../x")


def test_every_method_has_a_wrong_call():
    """The table above has each method that takes a value."""
    methods = {name for name in vars_of_writer() if name.startswith("add_")}
    called = set(re.findall(r"w\.(add_\w+)", inspect.getsource(inspect.getmodule(discarding))))
    without = {"add_custom_scalars_multilinechart", "add_onnx_graph", "add_openvino_graph"}
    assert methods - called == without


def vars_of_writer():
    return [name for name in dir(jb.SummaryWriter) if not name.startswith("_")]


def test_floats_are_scaled_to_bytes(tmp_path):
    """Floats from 0 to 1 become bytes from 0 to 255."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_image("x", GRAY, dataformats="HW")
        writer.add_image("device", jax.device_put(GRAY), dataformats="HW")
    found = by_tag(tmp_path)
    expected = np.round(GRAY * 255).astype(np.uint8)
    np.testing.assert_array_equal(found["x"].pixels, expected)
    np.testing.assert_array_equal(found["device"].pixels, expected)
