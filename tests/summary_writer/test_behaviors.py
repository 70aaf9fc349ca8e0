"""The behaviors that the test suites of tensorboardX and of torch.utils.tensorboard check, each tried with jaxboard.

Where a message can be the same, both writers make the same call, and TensorBoard's reader compares the results.
"""

# pyright: reportArgumentType=false

from __future__ import annotations

import io
import logging
import os
import pathlib
import wave

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
import tensorboardX
from PIL import Image
from summary_writer.reading import Value, by_tag, events, values
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

import jaxboard as jb
from jaxboard.sinks import _proto


@pytest.fixture
def both(tmp_path):
    """Return a function that makes a call with both writers, and returns the values of each by their tags."""

    def make(call) -> tuple[dict[str, Value], dict[str, Value]]:
        found = []
        for library in (jb, tensorboardX):
            logdir = str(tmp_path / library.__name__)
            with library.SummaryWriter(logdir) as writer:
                call(writer)
            found.append(by_tag(logdir))
        return found[0], found[1]

    return make


class TensorLike:
    """A value of another library, which converts itself to a NumPy array, as a tensor on a CPU does."""

    def __init__(self, array):
        self._array = np.asarray(array)

    def __array__(self, dtype=None, copy=None):
        return self._array

    def __repr__(self):
        return f"TensorLike({self._array!r})"


# --- Scalars and what counts as a number. ---------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        1.1,
        1 << 63,
        10**21,
        np.float16(1.00000087),
        np.longdouble(10.00008),
        np.int64(100000000000),
        np.array([2.5]),
        np.ones((1, 1, 1)),
        TensorLike(np.float32([0.25])),
        TensorLike(np.float32(0.25)),
        jnp.float32(0.25),
        jnp.bfloat16(0.25),
        True,
    ],
    ids=repr,
)
def test_numbers(value, tmp_path):
    """Python numbers of any size, NumPy scalars, one-element arrays and tensors are scalars."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_scalar("x", value, 0)
    expected = np.asarray(value, np.float64).ravel()[0]
    assert by_tag(tmp_path)["x"].array == np.float32(expected)


@pytest.mark.parametrize("value", [{"a": 1.0}, np.ones(3), "text", None])
def test_values_that_are_not_numbers(value, tmp_path):
    """A dict, a vector and a text raise a ValueError."""
    with jb.SummaryWriter(tmp_path) as writer, pytest.raises(ValueError, match="report 'x'"):
        writer.add_scalar("x", value, 0)


def test_scalars_are_the_same_values(both):
    """A point has the tag, the step, the wall time and the value that tensorboardX writes."""

    def call(writer):
        writer.add_scalar("data/scalar", 0.1, 3, 5.0)
        writer.add_scalar("data/custom_time", 0.2, 0, walltime=0)

    ours, theirs = both(call)
    assert set(ours) == set(theirs)
    for tag, value in ours.items():
        assert value[:3] == theirs[tag][:3]
        assert value.array == theirs[tag].array


def test_a_scalar_of_the_new_style(tmp_path):
    """new_style=True of torch writes a value that TensorBoard reads as a scalar."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_scalar("x", 1.0, new_style=True, double_precision=True)
        with pytest.raises(jb.ReportError):
            writer.add_scalar("y", np.ones(3), new_style=True)
    value = by_tag(tmp_path)["x"]
    assert value.array == 1
    assert value.message.metadata.plugin_data.plugin_name == "scalars"


# --- Histograms. ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bins", ["auto", "fd", "doane", 7, [0, 10, 500, 2000]])
def test_histograms_are_the_same(bins, both):
    """With bins of NumPy, the buckets are those that TensorBoard shows of the message of tensorboardX."""
    numbers = np.random.default_rng(0).gamma(2, 100, 1024)
    ours, theirs = both(lambda writer: writer.add_histogram("x", numbers, 1, bins))
    shown = theirs["x"].array
    # The reader of the old message begins the first bucket at the minimum and ends the last one at the maximum.
    np.testing.assert_allclose(ours["x"].array[1:-1], shown[shown[:, 2].cumsum() > 0][1:-1])
    np.testing.assert_array_equal(ours["x"].array[:, 2], shown[shown[:, 2].cumsum() > 0][:, 2])


@pytest.mark.parametrize("bins", ["auto", "fd", "doane"])
def test_at_most_five_bins(bins, tmp_path):
    """max_bins limits the number of buckets, and all numbers are in them."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_histogram("x", np.arange(1024.0), bins=bins, max_bins=5)
    buckets = by_tag(tmp_path)["x"].array
    assert len(buckets) <= 5
    assert buckets[:, 2].sum() == 1024


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).random(50),
        np.arange(100),
        TensorLike(np.arange(100)),
        jnp.ones(50, jnp.bfloat16),
        np.random.default_rng(0).random((100, 100)),
        [1, 3, 4, 5, 6],
    ],
    ids=["floats", "ints", "tensor", "bfloat16", "matrix", "list"],
)
def test_histograms_of_all_kinds(values, tmp_path):
    """Arrays of any dtype and shape are counted; so are lists, for which both libraries raise."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_histogram("x", values)
    assert by_tag(tmp_path)["x"].array[:, 2].sum() == np.size(np.asarray(values))


def test_an_empty_histogram(tmp_path):
    """An array without elements raises a ValueError, as in both libraries."""
    with jb.SummaryWriter(tmp_path) as writer, pytest.raises(ValueError, match="at least one"):
        writer.add_histogram("x", np.ndarray(0), "tensorflow")


@pytest.mark.parametrize(
    ("numbers", "bins"),
    [
        (np.random.default_rng(0).random(50), [0.0, 0.25, 0.5, 0.75, 1.0]),
        (np.random.default_rng(0).integers(0, 100, 50), [0, 25, 50, 75, 100]),
        (np.arange(100.0), 100),
    ],
    ids=["floats", "ints", "hundred"],
)
def test_raw_histograms_are_the_same(numbers, bins, both):
    """The buckets are exactly those that TensorBoard shows of the message of tensorboardX."""
    counts, edges = np.histogram(numbers, bins)

    def call(writer):
        writer.add_histogram_raw(
            "x",
            min=numbers.min(),
            max=numbers.max(),
            num=len(numbers),
            sum=numbers.sum(),
            sum_squares=float(numbers @ numbers),
            bucket_limits=edges[1:].tolist(),
            bucket_counts=counts.tolist(),
        )

    ours, theirs = both(call)
    shown = theirs["x"].array
    # The reader converts the old message to float32.
    np.testing.assert_array_equal(ours["x"].array.astype(np.float32), shown[: len(ours["x"].array)])
    assert shown[len(ours["x"].array) :, 2].sum() == 0


# --- Pictures. ------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("image", "dataformats"),
    [
        (RANDOM.integers(0, 256, (3, 32, 32), np.uint8), "CHW"),
        (RANDOM.integers(0, 256, (3, 32, 32), np.uint8), "chw"),
        (RANDOM.integers(0, 256, (1, 8, 8), np.uint8), "CHW"),
        (RANDOM.integers(0, 256, (4, 8, 8), np.uint8), "CHW"),
        (RANDOM.integers(0, 256, (32, 32), np.uint8), "hw"),
        (RANDOM.integers(0, 256, (8, 9, 3), np.uint8), "HWC"),
        (RANDOM.random((3, 32, 32)).astype(np.float32), "CHW"),
        (RANDOM.random((1, 32, 32)), "CHW"),
        (RANDOM.integers(0, 256, (1, 3, 8, 8), np.uint8), "NCHW"),
        (TensorLike(RANDOM.integers(0, 256, (3, 8, 8), np.uint8)), "CHW"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{getattr(value, 'shape', 'tensor')}",
)
def test_images_are_the_same(image, dataformats, both):
    """The pixels are those of tensorboardX: uint8 unchanged, floats multiplied by 255 and rounded instead of cut off."""
    ours, theirs = both(
        lambda writer: writer.add_image("x", np.asarray(image), 0, dataformats=dataformats)
    )
    mode = "RGBA" if theirs["x"].pixels.shape[-1] == 4 else "RGB"
    a, b = (
        np.asarray(Image.open(io.BytesIO(found["x"].array[2])).convert(mode)).astype(int)
        for found in (ours, theirs)
    )
    difference = 0 if np.asarray(image).dtype == np.uint8 else 1
    np.testing.assert_allclose(a, b, rtol=0, atol=difference)


@pytest.mark.parametrize("shape", [(16, 3, 32, 32), (2, 1, 8, 8), (2, 4, 8, 8)])
def test_batches_have_the_same_places(shape, both):
    """Each image of a batch is in the row and the column where tensorboardX has it; jaxboard leaves two pixels between them."""
    images = RANDOM.integers(0, 256, shape, np.uint8)
    ours, theirs = both(lambda writer: writer.add_images("x", images))
    height, width = shape[2:]
    for n in range(len(images)):
        row, column = divmod(n, 8)
        a = ours["x"].pixels.reshape(*ours["x"].pixels.shape[:2], -1)
        top, left = row * (height + 2), column * (width + 2)
        cell = theirs["x"].pixels[row * height :, column * width :][:height, :width]
        cell = cell if shape[1] != 1 else cell[..., :1]
        np.testing.assert_array_equal(a[top : top + height, left : left + width], cell)


def test_boxes_and_lists(tmp_path):
    """Boxes may leave the image; a list of arrays is a batch."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_image_with_boxes("box", np.zeros((3, 32, 32)), np.array([[10, 10, 40, 40]]))
        writer.add_image_with_boxes(
            "boxes", np.zeros((3, 64, 64)), np.array([[10, 10, 40, 40], [40, 40, 60, 60]]), 0
        )
        writer.add_images("list", [np.ones((3, 100, 110))] * 5, dataformats="CHW")
    found = by_tag(tmp_path)
    assert found["box"].array[:2].tolist() == [b"32", b"32"]
    assert found["boxes"].pixels.any()
    assert found["list"].pixels.shape[:2] == (100, 5 * 110 + 8)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((16, 8, 3, 28, 28), (112, 112)),
        ((19, 3, 3, 23, 19), (5 * 19, 4 * 23)),
        ((3, 3, 3, 3, 3), (6, 6)),
        ((4, 3, 1, 8, 8), (16, 16)),
        ((20, 7, 1, 8, 8), (5 * 8, 4 * 8)),
        ((1, 2, 1, 8, 8), (8, 8)),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_videos(shape, size, dtype, tmp_path):
    """All videos of a batch are in each frame: the sum over its pixels is that of the frames of the videos."""
    from jaxboard._summary_writer.dataformats import tiled

    videos = RANDOM.integers(0, 2, shape).astype(dtype)
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_video("x", videos)
    width, height = size
    assert by_tag(tmp_path)["x"].array[:2].tolist() == [str(width).encode(), str(height).encode()]
    frames = tiled(videos.transpose(0, 1, 3, 4, 2))
    np.testing.assert_array_equal(frames.sum(axis=(1, 2, 3)), videos.sum(axis=(0, 2, 3, 4)))


def test_figures(tmp_path):
    """A figure stays open with close=False and is closed otherwise, alone and in a list."""
    with jb.SummaryWriter(tmp_path) as writer:
        for tag, count in {"figure": 1, "list": 5}.items():
            figures = [plt.figure(figsize=(2, 1)) for _ in range(count)]
            figures[0].add_subplot().plot([1, 2, 3])
            shown = figures[0] if count == 1 else figures
            writer.add_figure(tag, shown, 0, close=False)
            assert all(plt.fignum_exists(figure.number) for figure in figures)
            writer.add_figure(tag, shown, 1)
            assert not any(plt.fignum_exists(figure.number) for figure in figures)
    found = [(value.tag, value.step, len(value.array)) for value in values(tmp_path)]
    assert sorted(found) == [("figure", 0, 3), ("figure", 1, 3), ("list", 0, 7), ("list", 1, 7)]


# --- Sounds and texts. ----------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [np.arange(42.0), RANDOM.random(65535), np.zeros(88200)])
def test_sounds(samples, tmp_path):
    """A sound is a WAV file of 16 bits with all samples; those above 1 are clipped with a warning."""
    import contextlib

    clipped = (
        pytest.warns(jb.JaxboardWarning, match="clip")
        if samples.max() > 1
        else contextlib.nullcontext()
    )
    with jb.SummaryWriter(tmp_path) as writer, clipped:
        writer.add_audio("x", samples, 0)
    with wave.open(io.BytesIO(by_tag(tmp_path)["x"].array[0])) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (
            44100,
            1,
            len(samples),
        )
        found = np.frombuffer(file.readframes(len(samples)), "<i2")
    expected = samples.clip(-1, 1) * 32767
    np.testing.assert_allclose(found, expected, rtol=0, atol=1.5)


def test_texts_are_the_same(both):
    """Text has the tag and the content of tensorboardX, which a later writer shows beside that of an earlier one."""

    def call(writer):
        writer.add_text("text", "some text", 0)
        writer.add_text("table", "x|y\n-|-\n1|2", 0)

    ours, theirs = both(call)
    assert set(ours) == {"text/text_summary", "table/text_summary"} == set(theirs)
    for tag, value in ours.items():
        assert value.array.item() == theirs[tag].array.item()
        assert value.message.metadata.plugin_data.plugin_name == "text"


# --- Curves, meshes, charts and hyperparameters. --------------------------------------------------

TRUE_POSITIVES = np.array([40, 30, 12, 3, 0])
FALSE_POSITIVES = np.array([60, 25, 9, 1, 0])
COUNTS = (
    TRUE_POSITIVES.tolist(),
    FALSE_POSITIVES.tolist(),
    (60 - FALSE_POSITIVES).tolist(),
    (40 - TRUE_POSITIVES).tolist(),
    (TRUE_POSITIVES / np.maximum(TRUE_POSITIVES + FALSE_POSITIVES, 1)).tolist(),
    (TRUE_POSITIVES / 40).tolist(),
)
"""Right and wrong predictions at five thresholds, precision and recall."""


@pytest.mark.parametrize("thresholds", [2, 20, 127])
@pytest.mark.parametrize("weights", [None, 2.0, "each"])
def test_pr_curves_are_the_same(thresholds, weights, both):
    """Counts, precision and recall are those of tensorboardX."""
    labels, predictions = RANDOM.integers(0, 2, 100), RANDOM.random(100)
    weights = RANDOM.integers(0, 4, 100) if weights == "each" else weights

    def call(writer):
        writer.add_pr_curve("x", labels, predictions, 1, thresholds, weights)

    ours, theirs = both(call)
    np.testing.assert_allclose(ours["x"].array, theirs["x"].array, rtol=1e-6)
    plugins = [found["x"].message.metadata.plugin_data for found in (ours, theirs)]
    assert plugins[0] == plugins[1]


def test_raw_pr_curves_are_the_same(both):
    """The tensor is that of tensorboardX; the plugin data has the real number of thresholds."""
    ours, theirs = both(lambda writer: writer.add_pr_curve_raw("x", *COUNTS, 1, 5))
    np.testing.assert_array_equal(ours["x"].array, theirs["x"].array)
    assert ours["x"].message.metadata.plugin_data == theirs["x"].message.metadata.plugin_data


def test_layouts_are_the_same(both):
    """The message of custom charts is exactly that of tensorboardX."""
    layout = {
        "first": {"lines": ["Multiline", ["a/1", "a/2"]]},
        "second": {"m": ["Margin", ["b", "c", "d"]], "n": ["Margin", ["e", "f", "g"]]},
    }
    ours, theirs = both(lambda writer: writer.add_custom_scalars(layout))
    assert ours["custom_scalars__config__"].message == theirs["custom_scalars__config__"].message


def test_meshes_are_the_same(both):
    """Vertices, faces and colors have the numbers of tensorboardX, in the dtypes that TensorBoard expects."""
    vertices = np.array([[[1, 1, 1], [-1, -1, 1], [1, -1, -1], [-1, 1, -1]]], float)
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 0, 255]]])
    faces = np.array([[[0, 2, 3], [0, 3, 1], [0, 1, 2], [1, 3, 2]]])
    ours, theirs = both(lambda writer: writer.add_mesh("x", vertices, colors, faces))
    for name, number in {"VERTEX": 1, "FACE": 2, "COLOR": 3}.items():
        np.testing.assert_array_equal(ours[f"x_{name}"].array, theirs[f"x_{number}"].array)


@pytest.mark.parametrize(
    "hparams",
    [
        {"lr": 0.1, "bsize": 4, "name": "adam", "none": None},
        {"bn": True, "other": False},
    ],
)
def test_hparams_are_the_same(hparams, tmp_path):
    """The hyperparameters of a session and its metrics are those of tensorboardX, in a run of the given name."""
    found = []
    for library in (jb, tensorboardX):
        with library.SummaryWriter(str(tmp_path / library.__name__)) as writer:
            writer.add_hparams(hparams, {"accuracy": 10, "loss": 20}, name="trial")
        found.append(by_tag(tmp_path / library.__name__ / "trial"))
    data = [
        _proto.hparams_data.HParamsPluginData.FromString(
            each["_hparams_/session_start_info"].message.metadata.plugin_data.content
        ).session_start_info.hparams
        for each in found
    ]
    assert dict(data[0]) == dict(data[1])
    for tag in ("accuracy", "loss"):
        assert found[0][tag].array == found[1][tag].array
    assert "_hparams_/session_end_info" in found[0]


def test_a_sweep(tmp_path):
    """Trials of one writer are runs, each with its hyperparameters and metrics."""
    with jb.SummaryWriter(tmp_path) as writer:
        for number, lr in enumerate([0.1, 0.01, 0.001]):
            for bn in (True, False):
                writer.add_hparams({"lr": lr, "bn": bn}, {"loss": lr}, name=f"trial{number}{bn}")
    table = jb.read(tmp_path)
    assert len(table) == 6
    assert set(table["run"]) == {
        f"trial{number}{bn}" for number in range(3) for bn in (True, False)
    }


# --- Embeddings, tensors, graphs. -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
def test_embeddings(dtype, tmp_path):
    """Labels, rows of labels, and thumbnails of any dtype are stored; a second embedding joins the first."""
    features = TensorLike([[1.0, 2.0, 3.0], [5.0, 4.0, 1.0], [3.0, 7.0, 7.0]])
    labels, images = np.array([33.0, 44.0, 55.0]), np.zeros((3, 3, 5, 5), dtype)
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_embedding(features, metadata=labels, label_img=images, global_step=2)
        rows = list(zip(labels, ["test", "test", "train", "train"], strict=False))
        writer.add_embedding(
            features,
            metadata=rows,
            label_img=images,
            metadata_header=["digit", "dataset"],
            global_step=2,
            tag="rows",
        )
    config = (tmp_path / "projector_config.pbtxt").read_text()
    assert config.count("embeddings {") == 2
    assert config.count("sprite {") == 2
    table = (tmp_path / "projector/rows/step_2/labels.tsv").read_text().splitlines()
    assert table[:2] == ["digit\tdataset", "33.0\ttest"]


# TensorBoard's reader sets the dtype of an array, against which NumPy 2.5 warns.
@pytest.mark.filterwarnings("ignore:Setting the dtype on a NumPy array:DeprecationWarning")
@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1.0, 2.0, 3.0], np.float16), np.float16),
        (jnp.array([1.0, 2.0, 3.0], jnp.bfloat16), np.float32),
        (np.array([1.0, 2.0, 3.0], np.float32), np.float32),
        (np.array([1, 2, 3], np.int32), np.int32),
        (TensorLike(0.1), np.float64),
        (np.ones((2, 0)), np.float64),
    ],
    ids=["half", "bfloat16", "float", "int", "scalar", "empty"],
)
def test_tensors(array, dtype, tmp_path):
    """A tensor keeps its numbers, its shape and its dtype; bfloat16, which NumPy lacks, is stored as float32."""
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_tensor("x", array, 3)
    found = by_tag(tmp_path)["x"]
    assert found.message.metadata.plugin_data.plugin_name == "tensor"
    assert found.array.dtype == dtype
    np.testing.assert_array_equal(found.array, np.asarray(array).astype(dtype))


def test_graphs(tmp_path):
    """A function with nested scopes or a dict of outputs is shown; inputs of a wrong size raise."""

    def model(x):
        return {"out": jnp.tanh(x @ jnp.ones((3, 5)))}

    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_graph(model, jnp.zeros((1, 3)), use_strict_trace=False)
        with pytest.raises(jb.ReportError, match="JAX cannot trace model"):
            writer.add_graph(model, jnp.zeros((1, 9)))
    assert any(event.HasField("graph_def") for event in events(tmp_path))


# --- The writer. ----------------------------------------------------------------------------------


def test_many_writers(tmp_path):
    """Opening and closing many writers leaves no file and no thread open."""
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for number in range(20):
        jb.SummaryWriter(tmp_path / str(number)).close()
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) <= descriptors + 1


@pytest.mark.parametrize("logdir", ["C:\\Downloads", pathlib.Path("./pathlibtest")], ids=repr)
def test_names_of_directories(logdir, tmp_path, monkeypatch):
    """A path of Windows and a relative path object are directories."""
    monkeypatch.chdir(tmp_path)
    with jb.SummaryWriter(logdir) as writer:
        writer.add_scalar("test", 1)
    assert writer.file_writer is None
    assert "test" in by_tag(tmp_path / logdir)


def test_the_first_event_of_a_file(tmp_path):
    """A file begins with the version; an empty one has only that, and n scalars are n more events, in order."""
    with jb.SummaryWriter(tmp_path / "empty", filename_suffix=".event_horizon") as writer:
        writer.flush()
    (event,) = events(tmp_path / "empty", LegacyEventFileLoader)
    assert event.file_version == "brain.Event:2"
    (name,) = os.listdir(tmp_path / "empty")
    assert name.split(".")[-1] == "event_horizon"
    with jb.SummaryWriter(tmp_path / "ten") as writer:
        for n in range(10):
            writer.add_scalar("tag", n)
    _, *rest = events(tmp_path / "ten", LegacyEventFileLoader)
    assert [event.summary.value[0].simple_value for event in rest] == list(range(10))


def test_an_event_is_written_as_it_is(tmp_path):
    """The message of an event that is added is unchanged in the file."""
    value = _proto.Summary.Value(tag="dummy", simple_value=42)
    event = _proto.Event(wall_time=3.0, step=2, summary=_proto.Summary(value=[value]))
    with jb.SummaryWriter(tmp_path) as writer:
        writer.add_event(event, walltime=3.0)
    assert events(tmp_path, LegacyEventFileLoader)[1] == event


def test_a_writer_is_used_after_it_was_closed(tmp_path):
    """A report after closing opens another file, so that nothing is lost."""
    writer = jb.SummaryWriter(tmp_path)
    writer.close()
    writer.add_text("reuse", "again", 0)
    writer.close()
    assert by_tag(tmp_path)["reuse/text_summary"].array.item() == b"again"


@pytest.mark.parametrize("write_to_disk", [True, False])
def test_use_metadata(write_to_disk, tmp_path):
    """The defaults of a block apply to what has none of its own, on disk or not."""
    with jb.SummaryWriter(tmp_path / "run", write_to_disk=write_to_disk) as writer:
        with writer.use_metadata(global_step=17, walltime=13.0):
            writer.add_scalar("a", 0.1)
            writer.add_scalar("b", 0.2, global_step=7)
            writer.add_scalar("c", 0.3, walltime=18.0)
        writer.add_scalar("d", 0.4)
    assert (tmp_path / "run").exists() == write_to_disk
    if write_to_disk:
        found = {value.tag: (value.step, value.wall_time) for value in values(tmp_path / "run")}
        assert [found[tag] for tag in "abc"] == [(17, 13.0), (7, 13.0), (17, 18.0)]
        assert found["d"][0] == 0


def test_everything_at_once(tmp_path, caplog):
    """The long program of both suites: one call of most methods, in one run, without a lost report or a logged fault."""
    n = 0
    with caplog.at_level(logging.ERROR, "jaxboard"), jb.SummaryWriter(tmp_path / "run") as writer:
        writer.add_hparams({"lr": 0.1, "bsize": 1}, {"best/accuracy": 10, "best/loss": 10})
        writer.add_scalar("numbers/now", 0.1, n)
        writer.add_scalar("numbers/then", 0.2, n, walltime=n)
        writer.add_scalar("numbers/new style", 0.2, n, new_style=True)
        writer.add_scalars(
            "numbers/group", {"sin": np.sin(n), "cos": np.cos(n), "atan": np.arctan(n)}, n
        )
        writer.add_images("images", np.zeros((32, 3, 64, 64)), n)
        boxes = np.array([[10, 10, 40, 40], [40, 40, 60, 60]])
        writer.add_image_with_boxes("boxes", np.zeros((3, 64, 64)), boxes, n)
        writer.add_audio("audio", np.zeros(44100 * 2), n)
        writer.add_video("video", RANDOM.random((16, 8, 1, 28, 28)).astype(np.float32), n)
        writer.add_text("text", f"step {n}", n)
        writer.add_text("table", "x|y\n-|-\n1|2", n)
        writer.add_histogram("hist", RANDOM.random((100, 100)), n)
        writer.add_pr_curve("pr", RANDOM.integers(0, 2, 100), RANDOM.random(100), n)
        writer.add_pr_curve_raw("raw pr", *COUNTS, n)
        writer.add_mesh("mesh", vertices=np.ones((1, 4, 3)), colors=np.full((1, 4, 3), 255))
        writer.export_scalars_to_json(tmp_path / "all_scalars.json")
    assert caplog.records == []
    assert len(by_tag(tmp_path / "run")) == 22
