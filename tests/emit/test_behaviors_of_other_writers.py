"""The behaviors that the test suites of CLU's MetricWriter and of Flax's SummaryWriter check, each tried with jaxboard.

``docs/coming_from.md`` lists where jaxboard differs from them on purpose.
"""

from __future__ import annotations

import io
import json
import wave

import numpy as np
import pytest
from PIL import Image
from summary_writer.reading import Value, by_tag, values
from tensorboard.plugins.hparams import metadata as hparams_metadata

import jaxboard as jb
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink, TensorBoardSink

RNG = np.random.default_rng(0)


@pytest.fixture
def written(tmp_path):
    """Return a function that makes a call in a run and returns the values in its files by their tags."""

    def write(call) -> dict[str, Value]:
        with jb.Run(tmp_path / "run", telemetry=False):
            call()
        return by_tag(tmp_path / "run")

    return write


def test_scalars_of_several_steps(tmp_path):
    """Floats and integers of one dict are points of their step."""
    with jb.Run(tmp_path, telemetry=False):
        jb.scalars("m", {"a": 0.6, "b": 15}, step=11)
        jb.scalars("m", {"a": 0.8, "b": 12}, step=20)
    points = values(tmp_path)
    assert {(p.tag, p.step): p.array.item() for p in points} == {
        ("m/a", 11): np.float32(0.6),
        ("m/b", 11): 15,
        ("m/a", 20): np.float32(0.8),
        ("m/b", 20): 12,
    }
    assert all(p.wall_time > 0 for p in points)


@pytest.mark.parametrize(
    ("numbers", "bins", "rows"),
    [
        ([0.3, 0.1, 0.5, 0.7, 0.1], 2, [(0.1, 0.4, 3), (0.4, 0.7, 2)]),
        ([0.2, 0.4, 0.5, 0.1, -0.1], 2, [(-0.1, 0.2, 2), (0.2, 0.5, 3)]),
        ([-0.1, 0.1, 0.3], 2, [(-0.1, 0.1, 1), (0.1, 0.3, 2)]),
        ([0.1] * 5, 1, [(-0.4, 0.6, 5)]),
        (range(31), 30, [(n, n + 1, 1 + (n == 29)) for n in range(30)]),
        (range(1000), 2, [(0, 499.5, 500), (499.5, 999, 500)]),
        (range(1000), None, [(8 * n, min(8 * n + 8, 999), 8) for n in range(125)]),
    ],
    ids=["floats", "edge", "middle", "constant", "ints", "two", "default"],
)
def test_buckets(numbers, bins, rows, written):
    """A bucket contains its left edge, the last one its right edge too; a constant is in the middle of a bucket of 1."""
    found = written(lambda: jb.histogram("h", np.array(numbers), bins=bins, step=1))
    np.testing.assert_allclose(found["h"].array, rows, rtol=1e-15, atol=1e-16)


def test_arrays_of_a_plugin(written):
    """Arrays of any dtype are stored exactly, with the bytes for their plugin or without."""

    def call():
        jb.tensor("a", np.eye(3, dtype=np.uint8), "other", content=b"\x00\xff\x3f", step=11)
        jb.tensor("b", np.eye(2, dtype=np.float32), "other", step=11)

    found = written(call)
    for tag, array, content in (("a", np.eye(3, dtype="u1"), b"\x00\xff?"), ("b", np.eye(2), b"")):
        np.testing.assert_array_equal(found[tag].array, array)
        assert found[tag].message.metadata.plugin_data.content == content
    assert (found["a"].array.dtype, found["b"].array.dtype) == (np.uint8, np.float32)


CONFIG = {
    "none": None,
    "list": [1, 2, 3],
    "tuple": (1, 2),
    "complex": 1 + 1j,
    "complex128": np.complex128(1 + 1j),
    "bool": True,
    "int": 512,
    "float": 0.25,
    "str": "a",
    "bool_": np.bool_(True),
    "int64": np.int64(90),
    "float64": np.float64(1.5),
    "str_": np.str_("b"),
}
SHOWN = CONFIG | {
    "none": "None",
    "list": "[1, 2, 3]",
    "tuple": "(1, 2)",
    "complex": "(1+1j)",
    "complex128": "(1+1j)",
}


def test_nested_hyperparameters(written):
    """Bools, numbers and texts are stored as such at all levels, everything else as text: lists too, as with Flax."""
    found = written(lambda: jb.hparams(CONFIG | {"sub": CONFIG | {"deep": {"x": 1}}}))
    plugin = found["_hparams_/session_start_info"].message.metadata.plugin_data
    start = hparams_metadata.parse_session_start_info_plugin_data(plugin.content)
    stored = {name: getattr(x, str(x.WhichOneof("kind"))) for name, x in start.hparams.items()}
    nested = {f"sub/{name}": value for name, value in SHOWN.items()}
    assert stored == SHOWN | nested | {"sub/deep/x": 1}


BYTES = RNG.integers(0, 256, (2, 30, 20, 3), np.uint8)
FLOATS = RNG.random((30, 20, 3))


@pytest.mark.parametrize(
    ("image", "options", "mode", "shown"),
    [
        (BYTES[0], {}, "RGB", BYTES[:1]),
        (BYTES, {}, "RGB", BYTES),
        (FLOATS, {}, "RGB", np.round(FLOATS * 255)[None]),
        (BYTES[0, :, :, 0], {}, "L", BYTES[:1, :, :, [0]]),
        (BYTES[0, :, :, :1], {}, "L", BYTES[:1, :, :, [0]]),
        (BYTES[..., 0], {"layout": "NHW"}, "L", BYTES[..., [0]]),
        (np.repeat(BYTES, 3, 0), {}, "RGB", np.repeat(BYTES, 3, 0)[:3]),
        (np.repeat(BYTES, 3, 0), {"max_images": 6}, "RGB", np.repeat(BYTES, 3, 0)),
    ],
    ids=["bytes", "batch", "floats", "HW", "HW1", "NHW", "three", "all"],
)
def test_pixels(image, options, mode, shown, written):
    """Bytes are exact, and floats are rounded; a gray picture stays gray, and its colors are those of three channels."""
    width, height, *files = written(lambda: jb.image("x", image, **options))["x"].array
    assert (width, height) == (b"20", b"30")
    pictures = [Image.open(io.BytesIO(file)) for file in files]
    assert {picture.mode for picture in pictures} == {mode}
    pixels = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    np.testing.assert_array_equal(pixels, np.broadcast_to(shown, (*shown.shape[:3], 3)))


@pytest.mark.parametrize(("count", "options"), [(2, {}), (1, {"max_sounds": 1})])
def test_stereo_sounds(count, options, written):
    """Each sound of a batch is a file of both channels, clipped with a warning; max_sounds= keeps the first ones."""
    samples = RNG.uniform(-2, 2, (2, 4800, 2)).astype(np.float32)
    with pytest.warns(jb.JaxboardWarning, match="were clipped"):
        found = written(lambda: jb.audio("x", samples, 44100, **options))
    assert len(found["x"].array) == count
    for file, sound in zip(found["x"].array, samples, strict=False):
        with wave.open(io.BytesIO(file)) as opened:
            assert (opened.getframerate(), opened.getnchannels()) == (44100, 2)
            heard = np.frombuffer(opened.readframes(4800), "<i2").reshape(4800, 2)
        np.testing.assert_array_equal(heard, np.rint(sound * 2**15).clip(-(2**15), 2**15 - 1))


def test_text(written):
    """A text is stored as it is, at its tag."""
    found = written(lambda: jb.text("t", "hello world.", step=1))
    assert {tag: value.array.item() for tag, value in found.items()} == {"t": b"hello world."}


def test_each_of_several_sinks_receives_all_kinds(tmp_path):
    """A run without a directory writes no file; each of its sinks receives values with their shapes and settings."""
    memory = MemorySink()
    points, config = RNG.normal(size=(1, 64, 3)).astype(np.float32), {"material": {"size": 0.09}}
    with jb.Run(None, sinks=[memory, TensorBoardSink(tmp_path / "run")], telemetry=False):
        jb.scalars("m", {"a": 3, "b": 0.0000005}, step=2)
        jb.image("image", np.zeros((2, 28, 27, 3)), step=4)
        jb.video("video", np.zeros((2, 4, 28, 27, 3)), step=4)
        jb.text("text", "bla", step=4)
        jb.mesh("mesh", points, colors=np.full((1, 64, 3), 0.5), config=config, step=0)
    records = {record.tag: record for record in memory.records}
    files = by_tag(tmp_path / "run")
    for tag, number in (("m/a", 3), ("m/b", 5e-7)):
        assert float(records[tag].value) == pytest.approx(number, rel=1e-7)
        assert files[tag].array == np.float32(number)
        assert (records[tag].step, files[tag].step) == (2, 2)
    assert (records["image"].kind, records["video"].kind) == (Kind.IMAGE, Kind.VIDEO)
    for tag in ("image", "video"):
        assert files[tag].array[:2].tolist() == [b"27", b"28"]
        assert len(files[tag].array) == 4
    assert (records["text"].value, files["text"].array) == ("bla", b"bla")
    np.testing.assert_array_equal(files["mesh_VERTEX"].array, points)
    np.testing.assert_array_equal(files["mesh_COLOR"].array, np.full((1, 64, 3), 128))
    assert json.loads(records["mesh"].value.config) == config
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_blocks_of_several_runs(tmp_path):
    """The end of a block writes the points of each run, also if an exception ends it."""
    a, b = (jb.Run(tmp_path / name, telemetry=False, flush_secs=600) for name in "ab")

    def fail():
        a.scalar("x", 3, step=0)
        b.scalar("x", 5, step=2)
        raise KeyError

    with pytest.raises(KeyError), a, b:
        fail()
    found = {name: by_tag(tmp_path / name)["x"] for name in "ab"}
    assert [(found[n].step, found[n].array.item()) for n in "ab"] == [(0, 3), (2, 5)]


def test_flush_and_close(tmp_path):
    """A report is in no file until a flush; a second flush, a close and a flush after it add nothing and raise nothing."""

    def size() -> int:
        return sum(path.stat().st_size for path in tmp_path.glob("run/*"))

    run = jb.Run(tmp_path / "run", telemetry=False, flush_secs=600)
    run.scalar("metric", 123, step=1)
    sizes = [size()]
    for call in (run.flush, run.flush, run.close, run.flush, run.close):
        call()
        sizes.append(size())
    assert sizes[0] < sizes[1]
    assert len(set(sizes[1:])) == 1
    assert by_tag(tmp_path / "run")["metric"].array == 123
    with pytest.raises(jb.RunError, match="is closed"):
        run.scalar("metric", 124, step=2)
