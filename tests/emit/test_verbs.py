"""The verbs in plain Python: the records of each call, with their values and steps."""

import struct
import threading
import zlib
from typing import ClassVar

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from compilations import compilations
from matplotlib import pyplot as plt

import jaxboard as jb
from jaxboard.records import EncodedImage, Histogram, Kind, Margin
from jaxboard.testing import capture


def only(records):
    (record,) = records
    return record


def points(records):
    return [(record.tag, record.step, float(record.value)) for record in records]


def reported(verb, *args, **options):
    """Return the value of the one record that a call makes."""
    with capture() as records:
        verb("x", *args, **options)
    return only(records).value


@pytest.mark.parametrize(
    "value",
    [
        0.25,
        3,
        True,
        np.float64(0.25),
        np.float16(0.25),
        np.int64(-7),
        np.array(0.25),
        jnp.float32(0.25),
        jnp.bfloat16(0.25),
        jnp.int32(-7),
        jnp.bool_(True),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_scalar_values(value):
    """A Python number, a NumPy scalar and a JAX array each make one scalar record of the same number."""
    with capture(step=4) as records:
        jb.scalar("x", value)
    record = only(records)
    assert (record.kind, record.tag, record.step) == (Kind.SCALAR, "x", 4)
    assert float(record.value) == float(value)


def test_a_python_float_keeps_its_digits():
    """A number that was never on a device is not rounded to 32 bits."""
    assert reported(jb.scalar, 0.1) == 0.1


def test_non_finite_scalars_are_reported():
    """NaN and infinity are reported like other values."""
    with capture() as records:
        jb.scalar("host", float("inf"))
        jb.scalar("device", jnp.float32(jnp.inf))
    assert points(records) == [("host", 0, np.inf), ("device", 0, np.inf)]
    assert np.isnan(reported(jb.scalar, float("nan")))
    assert np.isnan(reported(jb.scalar, jnp.float32(jnp.nan)))


def test_a_layout_has_charts_of_tags_and_of_margins():
    """A chart is one or several regular expressions, or one or several margins."""
    margin = ("margin", "mean", "min", "max")
    charts = {"one": "loss", "two": ["loss", "a/.*"], "margin": margin, "margins": [margin, margin]}
    with capture(step=3) as records:
        jb.layout({"category": charts})
    record = only(records)
    band = Margin("mean", "min", "max")
    expected = {
        "one": ("loss",),
        "two": ("loss", "a/.*"),
        "margin": (band,),
        "margins": (band, band),
    }
    assert (record.kind, record.step, record.value) == (Kind.LAYOUT, 3, {"category": expected})


def test_a_histogram_of_counts():
    """Counts of the user's own buckets are the histogram, in plain Python only."""
    value = reported(jb.histogram, counts=[3, 0, 5], edges=[0.0, 1.0, 2.0, 4.0])
    assert (value.counts.tolist(), value.edges.tolist()) == ([3, 0, 5], [0, 1, 2, 4])
    with capture(), pytest.raises(jb.ReportError, match="counts= is for plain Python"):
        jax.jit(lambda: jb.histogram("x", counts=[1], edges=[0.0, 1.0]))()


@pytest.mark.parametrize("verb", ["text", "figure", "embedding", "tensor"])
def test_the_wall_time(verb):
    """A verb for plain Python may have a wall time of its own; others raise."""
    value = {"text": ["x"], "figure": [matplotlib.figure.Figure()], "embedding": [np.eye(2)]}
    args = value.get(verb, [np.eye(2), "plugin"])
    with capture() as records:
        getattr(jb, verb)("x", *args, walltime=12.5)
    assert only(records).wall_time == 12.5
    for wrong in ("now", 10**400):  # No float holds the integer.
        with capture(), pytest.raises(jb.ReportError, match="expected walltime= to be seconds"):
            getattr(jb, verb)("x", *args, walltime=wrong)


def test_the_wall_time_of_records_without_a_tag():
    """Hyperparameters, their metrics and layouts have the wall time that was passed; it must be a number."""
    with capture() as records:
        jb.hparams({"lr": 0.1}, metrics={"loss": 1.0, "error": "min"}, walltime=12.5)
        jb.layout({"a": {"b": "loss"}}, walltime=13.5)
        jb.scalar("after", 1.0)
    times = {record.kind.value: record.wall_time for record in records if record.tag != "after"}
    assert times == {"hparams": 12.5, "metrics": 12.5, "scalar": 12.5, "layout": 13.5}
    for call in (jb.hparams, jb.layout):
        with pytest.raises(jb.ReportError, match="expected walltime= to be seconds"):
            call({"a": {"b": "x"}}, walltime=10**400)


@pytest.mark.parametrize(
    ("value", "array"),
    [
        (np.arange(3), [0, 1, 2]),
        (jnp.ones(2, jnp.bfloat16), [1, 1]),
        ("wört", "wört".encode()),
        (b"a\0", b"a\0"),
        (["a", "b"], [b"a", b"b"]),
        ([b"a\0"], [b"a\0"]),
    ],
)
def test_tensors_are_numbers_or_bytes(value, array):
    """A tensor holds numbers, or texts as bytes."""
    tensor = reported(jb.tensor, value, "plugin", content=b"settings", data_class="tensor")
    assert tensor.array.tolist() == array
    assert (tensor.plugin, tensor.content, tensor.data_class) == ("plugin", b"settings", "tensor")


def test_a_tensor_of_tracers():
    """A list with a tracer is not a tensor: the error is that of a report."""
    with capture(), pytest.raises(jb.ReportError, match="report 'x' .*: expected numbers, got"):
        jax.jit(lambda x: jb.tensor("x", [x, 2.0], "plugin"))(1.0)  # pyright: ignore[reportArgumentType]


def test_scalars_of_a_pytree():
    """Each leaf makes a scalar whose tag is its path."""
    with capture() as records:
        jb.scalars("loss", {"kl": 1, "rest": [2.0, jnp.float32(3)]})
    assert sorted(points(records)) == [
        ("loss/kl", 0, 1.0),
        ("loss/rest/0", 0, 2.0),
        ("loss/rest/1", 0, 3.0),
    ]
    with capture() as records:
        jb.scalars({"train": {"loss": 1}, "lr": 2})
    assert sorted(points(records)) == [("lr", 0, 2.0), ("train/loss", 0, 1.0)]


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize(
    "values",
    [
        np.arange(129, dtype=np.float32),
        np.arange(256, dtype=np.int32).reshape(4, 8, 8) - 100,
        np.linspace(-1, 1, 65, dtype=np.float32)[:, None] * np.ones((1, 3), np.float32),
    ],
    ids=["range", "integers", "matrix"],
)
def test_histogram_counts_are_numpys(convert, values):
    """The counts equal NumPy's for the same edges, which reach from the minimum to the maximum."""
    histogram = reported(jb.histogram, convert(values))
    counts, _ = np.histogram(values, histogram.edges)
    np.testing.assert_array_equal(histogram.counts, counts)
    assert 64 <= len(counts) <= 128
    assert (histogram.edges[0], histogram.edges[-1]) == (values.min(), values.max())
    assert histogram.nonfinite == 0


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize(
    ("values", "edges", "counts", "nonfinite"),
    [
        (np.zeros(0, np.float32), [], [], 0),
        (np.full((2, 3), 0.5, np.float32), [0.5, 0.5], [6], 0),
        (np.float32(0.5), [0.5, 0.5], [1], 0),
        (np.full(5, np.nan, np.float32), [], [], 5),
        (np.array([np.nan, 2, np.inf, 2, -np.inf], np.float32), [2, 2], [2], 3),
    ],
    ids=["empty", "constant", "one number", "all NaN", "some non-finite"],
)
def test_histograms_of_unusual_arrays(convert, values, edges, counts, nonfinite):
    """Empty, constant and non-finite arrays have exact buckets, and every element is counted."""
    histogram = reported(jb.histogram, convert(values))
    assert isinstance(histogram, Histogram)
    assert histogram.edges.tolist() == edges
    assert histogram.counts.tolist() == counts
    assert histogram.nonfinite == nonfinite


def test_histogram_of_lists_and_trees():
    """A list of numbers makes one histogram, a pytree of arrays one for each leaf."""
    with capture() as records:
        jb.histogram("list", [1.0, 2.0, 3])
        jb.histogram("tree", {"w": np.ones((2, 2)), "b": [jnp.zeros(3)]})
    sizes = {record.tag: int(record.value.counts.sum()) for record in records}
    assert sizes == {"list": 3, "tree/w": 4, "tree/b/0": 3}


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize(
    ("pixels", "shown"),
    [
        (np.array([0, 1, 128, 255], np.uint8), [0, 1, 128, 255]),
        (np.array([False, True, True, False]), [0, 255, 255, 0]),
        (np.array([0, 0.5, 1, 0.25], np.float32), [0, 128, 255, 64]),
        (np.array([0, 1, np.nan, np.inf], np.float32), [0, 255, 0, 255]),
        (np.array([0, 1, 0.75, 1 / 255], np.float16), [0, 255, 191, 1]),
    ],
    ids=["uint8", "bool", "float32", "non-finite", "float16"],
)
def test_image_pixels(convert, pixels, shown):
    """Bytes do not change, bools become black and white, floats are scaled, clipped and rounded."""
    images = reported(jb.image, convert(pixels.reshape(2, 2, 1)))
    assert (images.dtype, images.shape) == (np.uint8, (1, 2, 2, 1))
    assert images.ravel().tolist() == shown


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_of_a_batch(channels):
    """The first max_images of a batch are kept, in order."""
    batch = np.arange(5 * 2 * 3 * channels, dtype=np.uint8).reshape(5, 2, 3, channels)
    np.testing.assert_array_equal(reported(jb.image, batch), batch[:3])
    np.testing.assert_array_equal(reported(jb.image, jnp.asarray(batch), max_images=2), batch[:2])
    np.testing.assert_array_equal(reported(jb.image, batch, max_images=9), batch)


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_where(convert):
    """where=False leaves a report out and where=True keeps it, as a Python bool or an array."""
    with capture() as records:
        for name, mask in [("python", bool), ("numpy", np.bool_), ("jax", jnp.bool_)]:
            for keep in (False, True):
                jb.scalar(f"{name} {keep}", convert(np.float32(1)), where=mask(keep))
        jb.histogram("none", convert(np.ones(3)), where=False)
        jb.image("none", convert(np.ones((2, 2, 1))), where=False)
    assert len(records) == 3
    assert all(record.tag.endswith("True") for record in records)


def test_scopes_nest():
    """Scopes prefix tags of every kind until their block ends, the outer scope first."""
    with capture() as records:
        with jb.scope("model"):
            with jb.scope("encoder"):
                jb.scalar("norm", 1.0)
                jb.histogram("weights", {"w": np.ones(3)})
            jb.text("about", "hello")
        jb.scalar("norm", 1.0)
    assert [record.tag for record in records] == [
        "model/encoder/norm",
        "model/encoder/weights/w",
        "model/about",
        "norm",
    ]


def test_a_scope_ends_with_an_exception():
    """A scope ends when its block raises."""
    with capture() as records:
        with pytest.raises(ZeroDivisionError), jb.scope("model"):
            raise ZeroDivisionError
        jb.scalar("norm", 1.0)
    assert only(records).tag == "norm"


def test_an_explicit_step_overrides_the_runs():
    """step=, of any integer type, sets the step of that report only and overrides the run's."""
    with capture(step=10) as records:
        jb.scalar("x", 1.0, step=3)
        jb.scalar("x", 2.0, step=np.int64(4))
        jb.scalar("x", 3.0, step=jnp.int32(5))
        jb.scalar("x", jnp.float32(4), step=jnp.int32(6))
        jb.histogram("h", np.ones(3), step=7)
        jb.text("t", "hello", step=8)
        jb.scalar("x", 5.0)
    assert [(record.tag, record.step) for record in records] == [
        ("x", 3),
        ("x", 4),
        ("x", 5),
        ("x", 6),
        ("h", 7),
        ("t", 8),
        ("x", 10),
    ]


def test_reports_belong_to_the_last_step():
    """After a call of an instrumented function, reports from plain Python belong to the step of that call."""
    step = jb.instrument(jax.jit(lambda x: x + 1))
    with capture() as records:
        jb.scalar("before", 0.0)
        for x in (1.0, 2.0, 3.0):
            jb.scalar("after", step(x))
    assert points(records) == [
        ("before", 0, 0.0),
        ("after", 0, 2.0),
        ("after", 1, 3.0),
        ("after", 2, 4.0),
    ]


@pytest.mark.parametrize("convert", [float, jnp.float32], ids=["python", "jax"])
def test_every_with_explicit_steps(convert):
    """every=N makes one point of N steps: their mean, the last one with reduce="last"."""
    with capture() as records:
        for i in range(10):
            jb.scalar("mean", convert(i), step=i, every=4)
            jb.scalar("last", convert(i), step=i, every=4, reduce="last")
    assert points([r for r in records if r.tag == "last"]) == [
        ("last", 0, 0.0),
        ("last", 4, 4.0),
        ("last", 8, 8.0),
    ]
    assert points([r for r in records if r.tag == "mean"]) == [
        ("mean", 0, 0.0),
        ("mean", 4, 2.5),
        ("mean", 8, 6.5),
        ("mean", 9, 9.0),
    ]


@pytest.mark.parametrize("convert", [float, jnp.float32], ids=["python", "jax"])
def test_reports_of_one_step_make_one_point(convert):
    """Several values of one tag in one step make one point, also with other reports between them."""
    advance = jb.instrument(jax.jit(lambda: 0))
    with capture() as records:
        for step in range(2):
            advance()
            for value in (1.0, 2.0, 6.0):
                jb.scalar("mean", convert(value + step))
                jb.scalar("sum", convert(value), reduce="sum")
                jb.scalar("count", convert(value), reduce="count")
                jb.histogram("h", convert(value))
    scalars = [r for r in records if r.kind is Kind.SCALAR]
    assert sorted(points(scalars)) == [
        ("count", 0, 3.0),
        ("count", 1, 3.0),
        ("mean", 0, 3.0),
        ("mean", 1, 4.0),
        ("sum", 0, 9.0),
        ("sum", 1, 9.0),
    ]
    histograms = [r for r in records if r.kind is Kind.HISTOGRAM]
    assert [(r.step, int(r.value.counts.sum())) for r in histograms] == [(0, 3), (1, 3)]


def test_windows_of_a_run():
    """every=N in plain Python covers the N steps since the last point, and the remaining steps at the end."""
    advance = jb.instrument(jax.jit(lambda: 0))
    with capture() as records:
        for i in range(8):
            advance()
            jb.scalar("x", i, every=3)
    assert points(records) == [("x", 0, 0.0), ("x", 3, 2.0), ("x", 6, 5.0), ("x", 7, 7.0)]


def test_every_with_the_steps_of_a_run():
    """every=N counts in steps of the run, for every kind of report."""
    advance = jb.instrument(jax.jit(lambda: 0))
    with capture(step=5) as records:
        for _ in range(6):
            advance()
            jb.scalar("scalar", 1.0, every=5)
            jb.histogram("histogram", np.ones(3), every=3)
            jb.image("image", np.ones((2, 2, 1)), every=4)
            jb.text("text", "hello", every=2)
    assert {(record.tag, record.step) for record in records} == {
        ("scalar", 5),
        ("scalar", 10),  # the mean of five steps
        ("histogram", 6),
        ("histogram", 9),
        ("image", 8),
        ("text", 6),
        ("text", 8),
        ("text", 10),
    }


def test_text_and_tables():
    """Text does not change; the cells of a table become strings."""
    assert reported(jb.text, "# Title") == "# Title"
    rows = [("name", "value"), ("lr", 0.1), ("layers", 3)]
    assert reported(jb.text, rows) == [["name", "value"], ["lr", "0.1"], ["layers", "3"]]


def test_figure_is_a_png_of_its_size():
    """A figure is rendered at its own size in pixels, and the PNG header has the same size."""
    figure = matplotlib.figure.Figure(figsize=(3, 2), dpi=50)
    figure.subplots().plot([1, 2, 3])
    image = reported(jb.figure, figure)
    assert isinstance(image, EncodedImage)
    assert (image.width, image.height) == (150, 100)
    assert image.data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", image.data[16:24]) == (150, 100)
    # The checksum of the header chunk (PNG, section 5.3) shows that those bytes are intact.
    assert struct.unpack(">I", image.data[29:33]) == (zlib.crc32(image.data[12:29]),)


def test_figures_are_closed():
    """A reported pyplot figure is closed, unless close=False."""
    plt.close("all")
    reported(jb.figure, plt.figure(figsize=(1, 1)))
    assert plt.get_fignums() == []
    kept = plt.figure(figsize=(1, 1))
    reported(jb.figure, kept, close=False)
    assert plt.get_fignums() == [kept.number]
    plt.close(kept)


def test_a_figure_is_drawn_only_when_due():
    """A function that makes a figure is called only on due steps."""
    drawn = []

    def draw():
        drawn.append(len(drawn))
        return matplotlib.figure.Figure(figsize=(1, 1))

    with capture() as records:
        for i in range(5):
            jb.figure("x", draw, step=i, every=2)
    assert [record.step for record in records] == [0, 2, 4]
    assert drawn == [0, 1, 2]


class Watched(matplotlib.figure.Figure):
    """A figure that notes the thread that renders it."""

    threads: ClassVar[list[str]] = []

    def savefig(self, *args, **options):
        self.threads.append(threading.current_thread().name)
        super().savefig(*args, **options)


def watched():
    fig, axes = plt.subplots(FigureClass=Watched, figsize=(2, 1), dpi=50)
    axes.plot([1, 10, 100])
    axes.set_yscale("log")  # Its labels are parsed as mathematics.
    return fig


def test_the_figures_of_a_function_are_rendered_by_the_flusher():
    """They are the same images, and closed; a figure itself, or one that stays open, is rendered in the call."""
    plt.close("all")
    Watched.threads.clear()
    mine = threading.current_thread().name
    immediate = reported(jb.figure, watched())
    assert Watched.threads == [mine]
    late = reported(jb.figure, watched)
    assert Watched.threads == [mine, "jaxboard flusher (in memory)"]
    assert late == immediate
    pair = reported(jb.figure, lambda: [watched(), watched()])
    assert pair == (immediate, immediate)
    assert plt.get_fignums() == []
    assert reported(jb.figure, watched, close=False) == immediate
    assert Watched.threads[-1] == mine
    plt.close("all")


def test_a_figure_that_cannot_be_rendered():
    """A fault of the flusher's rendering costs that report, and the end of the run raises it."""

    class Broken(matplotlib.figure.Figure):
        def savefig(self, *args, **options):
            raise ValueError("no ink")

    records = []

    def report():
        with capture() as captured:
            jb.figure("bad", Broken)
            jb.figure("good", watched)
            records.append(captured)

    with pytest.raises(jb.RunError, match="1: computing them failed: ValueError: no ink"):
        report()
    assert [record.tag for record in records[0]] == ["good"]


def test_a_function_of_a_figure_that_waits_for_the_flusher():
    """A function that waits for the flusher, which is about to render another figure, does not wait forever."""

    def waits():
        run = jb.current_run()
        assert run is not None
        run.flush()
        return watched()

    with capture() as records:
        jb.figure("first", watched)
        jb.figure("second", waits)
    assert [record.tag for record in records] == ["first", "second"]


def test_a_reported_array_may_be_donated():
    """A reported array may be donated afterwards without changing the record."""
    consume = jax.jit(lambda x: x * 0, donate_argnums=0)
    with capture() as records:
        scalar, weights = jnp.float32(3), jnp.arange(128, dtype=jnp.float32) + 1
        pixels = jnp.full((2, 2, 1), 7, jnp.uint8)
        jb.scalar("scalar", scalar)
        jb.histogram("weights", weights)
        jb.image("pixels", pixels)
        for array in (scalar, weights, pixels):
            consume(array)
            assert array.is_deleted()
    values = {record.tag: record.value for record in records}
    assert float(values["scalar"]) == 3.0
    assert values["weights"].counts.tolist() == [1] * 126 + [2]
    assert values["pixels"].ravel().tolist() == [7] * 4


def test_a_numpy_array_may_be_written_to_afterwards():
    """A reported NumPy array may be overwritten immediately without changing the record."""
    scalar, pixels = np.array(3.0), np.full((2, 2, 1), 7, np.uint8)
    with capture() as records:
        jb.scalar("scalar", scalar)
        jb.image("pixels", pixels)
        scalar[...] = 0
        pixels[...] = 0
    values = {record.tag: record.value for record in records}
    assert float(values["scalar"]) == 3.0
    assert values["pixels"].ravel().tolist() == [7] * 4


def test_integers_of_64_bits():
    """Integers that need more than JAX's 32 bits are reported as floats in traced code."""

    @jb.instrument
    @jax.jit
    def f(x):
        jb.scalar("large", 7_000_000_000)
        jb.scalar("negative", np.int64(-5_000_000_000))
        jb.scalar("small", 3)
        jb.histogram("h", np.array([2**32, 2**33]))
        return x

    with capture() as records:
        f(1.0)
    found = {record.tag: record.value for record in records}
    edges = found.pop("h").edges
    assert (edges[0], edges[-1]) == (2**32, 2**33)
    assert {k: float(v) for k, v in found.items()} == {"large": 7e9, "negative": -5e9, "small": 3}


def test_steps_of_64_bits():
    """Steps may exceed 32 bits in plain Python, also for device arrays; in traced code they raise."""
    with capture() as records:
        jb.scalar("device", jnp.float32(1), step=3_000_000_000)
        jb.histogram("h", jnp.arange(3), step=2**40)
        jb.watch("w", jnp.arange(3.0), step=2**40, what=("max",))
    assert [(r.tag, r.step) for r in records] == [
        ("device", 3_000_000_000),
        ("h", 2**40),
        ("w/max", 2**40),
    ]
    assert [float(r.value) for r in records if r.kind is Kind.SCALAR] == [1.0, 2.0]
    f = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, step=2**31)))
    with capture(), pytest.raises(jb.ReportError, match="report 'x' .* step=2147483648 exceeds"):
        f(1.0)


def test_labels_of_embeddings_in_an_array():
    """Labels may be arrays on a device. Reading them compiles no program."""
    digits = jnp.arange(300) % 10
    with capture() as records, compilations() as compiled:
        jb.embedding("column", np.ones((300, 2)), labels={"digit": digits})
        jb.embedding("list", np.ones((300, 2)), labels=digits)
    expected = tuple((str(n % 10),) for n in range(300))
    assert [record.value.labels for record in records] == [expected, expected]
    assert compiled == []
