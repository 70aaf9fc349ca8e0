"""Every verb, called from traced code and from plain Python, as a real TensorBoard shows it with both of its readers."""

from __future__ import annotations

import inspect
import io
import typing
import wave

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from PIL import Image, ImageSequence

import jaxboard as jb
from jaxboard._emit import VerbMethods

RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(size=200).astype(np.float32)
PIXELS = RANDOM.integers(0, 256, (2, 24, 32, 3), np.uint8)
BOXES = np.array([[2.0, 3.0, 20.0, 15.0]], np.float32)
SAMPLES = RANDOM.integers(-(2**15), 2**15, (1, 800, 2), np.int16)
VERTICES = RANDOM.normal(size=(1, 4, 3)).astype(np.float32)
FACES = np.array([[[0, 2, 1], [0, 1, 3]]], np.int32)
COLORS = RANDOM.integers(0, 256, (1, 4, 3), np.uint8)
LABELS = RANDOM.integers(0, 2, 100)
PREDICTIONS = (RANDOM.integers(0, 9, 100) / 8).astype(np.float32)
PERCENTILES = "data/plugin/distributions/distributions"
ARRAYS = (NUMBERS, PIXELS, BOXES, SAMPLES, VERTICES, FACES, COLORS, LABELS, PREDICTIONS)


class Sum(typing.NamedTuple):
    """A metric: a sum."""

    total: jax.Array

    def merge(self, other):
        return Sum(self.total + other.total)

    def compute(self):
        return self.total


def report_anywhere(arrays):
    """Call every verb that traced code may call, except tap, which reports a gradient."""
    numbers, pixels, boxes, samples, vertices, faces, colors, labels, predictions = arrays
    jb.scalar("scalar", numbers[0])
    jb.scalars("scalars", {"a": numbers[1], "b": numbers[2]})
    jb.metric("metric", Sum(numbers[3]))
    jb.histogram("histogram", numbers)
    jb.histogram("bins", numbers, bins=[-1, 0, 1])
    jb.watch("watch", {"w": numbers})
    jb.health({"w": numbers}, {"w": 2 * numbers}, tag="health", every=1)
    jb.noise_scale("noise", 5.0, 4.0, 2, 8)
    jb.attention_entropy("entropy", jnp.full((2, 3, 4), 0.25))
    jb.max_logit("logit", numbers)
    jb.image("image", pixels)
    jb.image("boxes", pixels[0], boxes=boxes, labels=jnp.array([1]), class_names=["cat", "dog"])
    jb.audio("audio", samples, 8000)
    jb.video("video", pixels)
    jb.mesh("mesh", vertices, faces, colors)
    jb.pr_curve("pr_curve", labels, predictions, num_thresholds=5)
    jb.roc_curve("roc_curve", labels, predictions)
    jb.confusion_matrix("confusion_matrix", labels, predictions > 0.5, classes=["no", "yes"])


def report_in_python():
    """Call every verb for plain Python."""
    jb.text("text", "**bold**")
    jb.keep("batch", np.arange(3))
    jb.figure("figure", [matplotlib.figure.Figure((2, 1), dpi=dpi) for dpi in (50, 60)])
    jb.tensor("tensor", np.float32(2.5), "scalars", data_class="scalar")
    jb.layout({"category": {"chart": ["scalar.*"]}})
    # Without metrics=: TensorBoard takes the columns of one run for all, and the server has the runs of other tests.
    jb.scalar("loss", 0.25)
    jb.hparams({"rate": 0.5, "model": {"name": "mlp"}})
    jb.graph(jnp.sin, jnp.ones(3))
    jb.graph(jnp.cos, jnp.ones(3), tag="forward")
    labels = {"name": ["a", "b", "c"], "number": range(3)}
    jb.embedding("embedding", np.eye(3), labels=labels, images=PIXELS[[0, 1, 0]])


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """Write a run from a jitted function, and one from plain Python."""
    logdir = tmp_path_factory.mktemp("verbs")
    with jb.Run(logdir / "traced"):
        jb.instrument(jax.jit(report_anywhere))(tuple(map(jnp.asarray, ARRAYS)))
        jb.instrument(jax.jit(jax.grad(lambda x: jb.tap("tap", x) * 3)), advance=False)(1.0)
    with jb.Run(logdir / "python"):
        report_anywhere(ARRAYS)
        report_in_python()
    return logdir


@pytest.fixture(scope="module")
def runs(server, logdir):
    prefix = server.show(logdir)
    return f"{prefix}traced", f"{prefix}python"


def same(fetch, runs):
    """Return what TensorBoard shows of the run from traced code, which is that of the one from plain Python."""
    traced, python = map(fetch, runs)
    assert traced == python
    return traced


def images(server, tag, sample=0):
    return lambda run: server.images(run, tag, sample=sample)[0]["file"]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("scalar", NUMBERS[0]),
        ("scalars/a", NUMBERS[1]),
        ("scalars/b", NUMBERS[2]),
        ("metric", NUMBERS[3]),
        ("noise/signal", np.float32((8 * 4**2 - 2 * 5**2) / (8 - 2))),
        ("noise/noise", np.float32((5**2 - 4**2) / (1 / 2 - 1 / 8))),
        ("entropy", np.float32(np.log(4))),
        ("logit", NUMBERS.max()),
    ],
)
def test_scalars(server, runs, tag, value):
    """A scalar is the point of its step, bit-identical."""
    assert same(lambda run: server.scalars(run, tag)[0][1:], runs) == (0, float(value))


def test_watch_and_tap(server, runs):
    """The norm of a watched tree, and that of the gradient at a tap, are scalars."""
    for run in runs:
        ((_, _, norm),) = server.scalars(run, "watch/norm")
        assert norm == pytest.approx(np.linalg.norm(NUMBERS), rel=1e-6)
    assert server.scalars(runs[0], "tap")[0][1:] == (0, 3.0)


def test_health(server, runs):
    """The whole model has curves. Its layers have a picture from the second report on."""
    for run in runs:
        ((_, _, norm),) = server.scalars(run, "health/gradient_norm")
        assert norm == pytest.approx(2 * np.linalg.norm(NUMBERS), rel=1e-6)


def test_histograms(server, runs):
    """The buckets of a histogram have the counts of NumPy, in the dashboards of histograms and distributions."""
    for tag in ("histogram", "bins"):
        table = np.array(same(lambda run, tag=tag: server.histograms(run, tag)[0][2], runs))
        edges = np.append(table[:, 0], table[-1, 1])
        np.testing.assert_array_equal(table[:, 2], np.histogram(NUMBERS, edges)[0])
        assert len(table) == 2 or table[:, 2].sum() == 200
        shown = same(lambda run, tag=tag: server.get(PERCENTILES, run=run, tag=tag)[0][1:], runs)
        assert shown[0] == 0
        assert len(shown[1]) == 9


def test_images(server, runs):
    """Pixels are exact, and boxes, curves and matrices are drawn."""
    for sample, pixels in enumerate(PIXELS):
        file = same(images(server, "image", sample), runs)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), pixels)
    boxed = np.asarray(Image.open(io.BytesIO(same(images(server, "boxes"), runs))))
    assert boxed.shape == PIXELS[0].shape
    changed = np.argwhere((boxed != PIXELS[0]).any(-1))
    assert changed.min(0).tolist()[1] >= 2
    assert len(changed) > 50
    for tag in ("roc_curve", "confusion_matrix"):
        assert Image.open(io.BytesIO(same(images(server, tag), runs))).format == "PNG"
    for sample, size in enumerate([(100, 50), (120, 60)]):
        figure = images(server, "figure", sample)(runs[1])
        assert Image.open(io.BytesIO(figure)).size == size


def test_videos(server, runs):
    """A video is an animation with all frames."""
    gif = Image.open(io.BytesIO(same(images(server, "video"), runs)))
    assert [frame.size for frame in ImageSequence.Iterator(gif)] == 2 * [(32, 24)]


def test_sounds(server, runs):
    """The samples and the rate of a sound are exact."""
    file = same(lambda run: server.sounds(run, "audio")[0]["file"], runs)
    with wave.open(io.BytesIO(file)) as sound:
        assert (sound.getframerate(), sound.getnchannels()) == (8000, 2)
        assert sound.readframes(800) == SAMPLES.astype("<i2").tobytes()


def test_meshes(server, runs):
    """Vertices, faces and colors are exact."""
    parts = same(
        lambda run: {n: e["data"] for (n, _), e in server.mesh(run, "mesh", count=3).items()}, runs
    )
    wanted = {"VERTEX": VERTICES, "FACE": FACES, "COLOR": COLORS}
    assert parts == {name: array.tobytes() for name, array in wanted.items()}


def test_pr_curves(server, runs):
    """The counts at each threshold are those of the samples."""
    keys = ("thresholds", "true_positives", "false_positives", "true_negatives", "false_negatives")
    entry = same(lambda run: [server.pr_curves(run, "pr_curve")[0][key] for key in keys], runs)
    thresholds, true, false, *_ = entry
    np.testing.assert_array_equal(thresholds, [0, 0.25, 0.5, 0.75, 1])
    above = np.array([threshold <= PREDICTIONS for threshold in thresholds])
    assert true == (above & (LABELS == 1)).sum(1).tolist()
    assert false == (above & (LABELS == 0)).sum(1).tolist()


def test_text_and_tensors(server, runs):
    """Text is rendered, and a tensor is shown by the plugin that it names."""
    assert "<strong>bold</strong>" in server.text(runs[1], "text")[0]["text"]
    assert server.scalars(runs[1], "tensor")[0][1:] == (0, 2.5)


def test_layouts(server, runs):
    """The chart of a layout has the curves that match."""
    (chart,) = server.charts("category")
    assert chart == {"title": "chart", "multiline": {"tag": ["scalar.*"]}}
    drawn = server.custom_scalars(runs[1], "scalar.*", count=3)
    assert set(drawn) == {"scalar", "scalars/a", "scalars/b"}


def test_hparams(server, runs):
    """Hyperparameters and metrics are those of a session that has ended."""
    group = server.session_group(runs[1])
    assert group["hparams"] == {"rate": 0.5, "model/name": "mlp"}
    (session,) = group["sessions"]
    assert session["status"] == "STATUS_SUCCESS"
    metrics = {metric["name"]["tag"]: metric["value"] for metric in session["metricValues"]}
    assert metrics["loss"] == 0.25


def test_graphs(server, runs):
    """The graph of the run and one with a tag have the operations of their functions."""
    run = runs[1]
    server.until(lambda: server.get("data/plugin/graphs/info"), lambda found: run in found)
    for query, operation in (({}, b"sin"), ({"tag": "forward"}, b"cos")):
        graph = server.read("data/plugin/graphs/graph", run=run, **query)
        assert b'op: "%s"' % operation in graph


def test_embeddings(server, runs):
    """The projector has the vectors, their labels and their thumbnails."""
    run = runs[1]
    query = {"run": run, "name": "embedding step 0"}
    path = "data/plugin/projector"
    server.until(lambda: server.get(f"{path}/info", run=run)["embeddings"])
    vectors = np.frombuffer(server.read(f"{path}/tensor", **query), np.float32)
    np.testing.assert_array_equal(vectors.reshape(3, 3), np.eye(3))
    rows = server.read(f"{path}/metadata", **query).decode().splitlines()
    assert rows == ["name\tnumber", "a\t0", "b\t1", "c\t2"]
    sprite = np.asarray(Image.open(io.BytesIO(server.read(f"{path}/sprite_image", **query))))
    np.testing.assert_array_equal(sprite[4:28, :32], PIXELS[0])


def test_every_verb_is_called():
    """The runs of this module have a report of every verb."""
    called = inspect.getsource(report_anywhere) + inspect.getsource(report_in_python)
    verbs = [name for name in vars(VerbMethods) if not name.startswith("_")]
    assert [name for name in verbs if f"jb.{name}(" not in called] == ["tap"]
