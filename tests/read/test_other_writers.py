"""Event files of other writers, compared with TensorBoard's reader."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorboardX
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray, make_tensor_proto

import jaxboard as jb
from jaxboard._read.verification import verify
from jaxboard.sinks import _proto, _tfrecords
from jaxboard.sinks._encoding import Events


def points(logdir, run: str = ".") -> dict[str, list[tuple[int, float, float]]]:
    """Return step, wall time and value of each point, by tag."""
    table = jb.read(logdir, runs=run)
    return {
        str(tag): list(zip(rows["step"], rows["wall_time"], rows["value"], strict=True))
        for tag, rows in table.groupby("tag")
    }


def tensorboard_points(logdir) -> dict[str, list[tuple[int, float, float]]]:
    """Return what TensorBoard reads."""
    events = EventAccumulator(str(logdir), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    found = {}
    for tag in events.Tags()["scalars"]:
        found[tag] = [(event.step, event.wall_time, event.value) for event in events.Scalars(tag)]
    for tag in events.Tags()["tensors"]:
        plugin = (
            events.summary_metadata[tag].plugin_data if tag in events.summary_metadata else None
        )
        if plugin is not None and plugin.plugin_name == "scalars":
            found[tag] = [
                (event.step, event.wall_time, make_ndarray(event.tensor_proto).item())
                for event in events.Tensors(tag)
            ]
    return found


def write(path: pathlib.Path, *events) -> None:
    """Write messages into an event file."""
    path.mkdir(parents=True)
    data = [event.SerializeToString() for event in events]
    file = path / "events.out.tfevents.1700000000.host"
    file.write_bytes(
        _tfrecords.frame(Events(b"".join(data), np.array([len(each) for each in data])))
    )


def event(step: int, **fields):
    """Return an event with one value."""
    value = _proto.Summary.Value(**fields)
    return _proto.Event(wall_time=step + 0.5, step=step, summary=_proto.Summary(value=[value]))


def metadata(plugin: str):
    """Return the metadata of a plugin."""
    data = _proto.SummaryMetadata.PluginData(plugin_name=plugin)
    return _proto.SummaryMetadata(plugin_data=data)


def test_tensorboardx(logdir) -> None:
    """All scalars of tensorboardX are read as TensorBoard reads them, and its text, histograms, images and hyperparameters."""
    generator = np.random.default_rng(0)
    with tensorboardX.SummaryWriter(logdir) as writer:
        for step in range(300):
            writer.add_scalar("loss", generator.random(), step)
            writer.add_scalar("nested/accuracy", generator.random(), step * 1000, walltime=step)
        writer.add_scalars("both", {"a": 1, "b": 2}, 3)
        writer.add_text("text", "hello", 1)
        writer.add_histogram("histogram", np.array([1.0, 1.0, 5.0]), 1)
        writer.add_image("image", np.zeros((3, 4, 5)), 1)
        writer.add_hparams({"lr": 0.5, "name": "x", "on": True}, {"metric": 1.0}, name="trial")
    assert points(logdir) == tensorboard_points(logdir)
    assert sum(map(len, points(logdir).values())) == 600
    assert set(jb.read(logdir)["run"]) == {".", "both/a", "both/b", "trial"}
    assert jb.read(logdir, kind="text")["value"].tolist() == [["hello"]]
    (histogram,) = jb.read(logdir, kind="histogram")["value"]
    assert (histogram[0, 0], histogram[-1, 1], histogram[:, 2].sum()) == (1, 5, 3)
    (images,) = jb.read(logdir, kind="image")["value"]
    assert [(image.width, image.height) for image in images] == [(5, 4)]
    assert jb.read(logdir, kind="hparams")["value"].tolist() == [
        {"lr": 0.5, "name": "x", "on": True}
    ]


def test_pytorch(logdir) -> None:
    """All scalars of PyTorch are read as TensorBoard reads them, in its three formats."""
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    generator = np.random.default_rng(0)
    with tensorboard.SummaryWriter(logdir) as writer:
        for step in range(100):
            writer.add_scalar("old", generator.random(), step)
            writer.add_scalar("new", generator.random(), step, new_style=True)
            writer.add_scalar(
                "double", generator.random(), step, new_style=True, double_precision=True
            )
    assert points(logdir) == tensorboard_points(logdir)
    assert sum(map(len, points(logdir).values())) == 300


def test_tf_summary(logdir) -> None:
    """All scalars of tf.summary are read as TensorBoard reads them, and its other kinds."""
    tf = pytest.importorskip("tensorflow")
    generator = np.random.default_rng(0)
    with tf.summary.create_file_writer(logdir).as_default() as writer:
        for step in range(300):
            tf.summary.scalar("loss", generator.random(), step)
            tf.summary.scalar("nested/accuracy", step, step * 1000, description="**of** all")
        tf.summary.text("text", ["a", "b"], 1)
        tf.summary.histogram("histogram", [1.0, 1.0, 5.0], 1)
        tf.summary.image("image", tf.zeros((2, 4, 5, 3)), 1)
        tf.summary.audio("audio", tf.zeros((1, 10, 1)), 44100, 1)
        tf.summary.write("raw", tf.range(3), step=1)
        writer.close()
    assert points(logdir) == tensorboard_points(logdir)
    assert sum(map(len, points(logdir).values())) == 600
    assert jb.read(logdir, kind="text")["value"].tolist() == [["a", "b"]]
    (histogram,) = jb.read(logdir, kind="histogram")["value"]
    assert (histogram[0, 0], histogram[-1, 1], histogram[:, 2].sum()) == (1, 5, 3)
    (images,) = jb.read(logdir, kind="image")["value"]
    assert [(image.width, image.height) for image in images] == 2 * [(5, 4)]
    (audio,) = jb.read(logdir, kind="audio")["value"]
    assert audio[0, 0].startswith(b"RIFF")
    assert jb.read(logdir, kind="tensor")["value"][0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "number",
    [
        np.float32(0.1),
        np.float64(0.1),
        np.float16(0.1),
        np.int32(-7),
        np.int64(2**53 + 2),
        np.uint8(200),
        np.bool_(True),
        np.float64(np.nan),
        np.float32(-np.inf),
    ],
    ids=lambda number: number.dtype.name,
)
@pytest.mark.parametrize("count", [1, 40])
def test_tensors_of_every_dtype(tmp_path, number, count) -> None:
    """A scalar may be a tensor of any real dtype, of rank 0 or of one element, packed or as bytes."""
    packed = make_tensor_proto(number)
    content = _proto.TensorProto(dtype=packed.dtype, tensor_content=number.tobytes())
    vector = make_tensor_proto(np.array([number]))
    for name, tensor in {"packed": packed, "content": content, "vector": vector}.items():
        fields = {"tag": "x", "tensor": tensor, "metadata": metadata("scalars")}
        write(tmp_path / name, *(event(step, **fields) for step in range(count)))
    table = jb.read(tmp_path)
    assert len(table) == 3 * count
    np.testing.assert_array_equal(table["value"], np.full(3 * count, np.float64(number)))


def test_metadata_in_the_first_value_only(tmp_path) -> None:
    """Writers of TensorFlow 1 store the metadata in the first value of a tag; it holds for all others."""
    first = event(0, tag="x", tensor=make_tensor_proto(np.float32(0)), metadata=metadata("scalars"))
    others = [event(i, tag="x", tensor=make_tensor_proto(np.float32(i))) for i in range(1, 20)]
    write(tmp_path / "run", first, *others)
    assert points(tmp_path, "run") == {"x": [(i, i + 0.5, i) for i in range(20)]}


def test_fields_in_any_order(tmp_path) -> None:
    """Protobuf allows any order of fields, and a field twice: the last one counts."""
    data = event(3, tag="x", simple_value=1.5).SerializeToString()
    twice = [data + b"\x10\x04", data[9:] + data[:9], b"\x10\x01" + data]
    (tmp_path / "run").mkdir()
    records = [each for each in twice for _ in range(20)]
    frames = _tfrecords.frame(Events(b"".join(records), np.array([len(each) for each in records])))
    (tmp_path / "run" / "events.out.tfevents.1").write_bytes(frames)
    assert jb.read(tmp_path, keep="all")["step"].tolist() == 20 * [4] + 20 * [3] + 20 * [3]
    assert points(tmp_path, "run") == {"x": [(3, 3.5, 1.5), (4, 3.5, 1.5)]}


def test_a_shape_that_is_too_large(tmp_path) -> None:
    """A tensor of one number with a shape of 2**60 elements is damaged; no memory is requested for it."""
    tensor = make_tensor_proto(np.float32(1))
    tensor.tensor_shape.dim.add(size=1 << 60)
    fields = {"tag": "x", "tensor": tensor, "metadata": metadata("scalars")}
    write(tmp_path / "run", *(event(step, **fields) for step in range(10)))
    with pytest.warns(jb.JaxboardWarning, match="10 damaged parts"):
        assert len(jb.read(tmp_path)) == 0
    texts = [event(0, tag=f"{i}", tensor=tensor, metadata=metadata("text")) for i in range(10)]
    write(tmp_path / "text", *texts)
    with pytest.warns(jb.JaxboardWarning, match="10 damaged parts"):
        assert len(jb.read(tmp_path, kind="text")) == 0


def test_the_restart_of_other_writers(tmp_path) -> None:
    """purge_step of tensorboardX and PyTorch replaces the points from that step on."""
    for suffix, values, first in ((".a", [1, 1, 1, 1], None), (".b", [2], 2)):
        options = {"purge_step": first, "filename_suffix": suffix}
        with tensorboardX.SummaryWriter(str(tmp_path), **options) as writer:
            for step, value in enumerate(values, first or 0):
                writer.add_scalar("loss", value, step)
    table = jb.read(tmp_path)
    assert list(zip(table["step"], table["value"], strict=True)) == [(0, 1), (1, 1), (2, 2)]


def test_a_url(tmp_path) -> None:
    """A URL is read through TensorFlow."""
    tf = pytest.importorskip("tensorflow")
    logdir = f"ram://{tmp_path}/run"
    with tf.summary.create_file_writer(f"{logdir}/below").as_default():
        tf.summary.scalar("loss", 0.5, 3)
    (file,) = tf.io.gfile.glob(f"{logdir}/below/*")
    for place, run in ((logdir, "below"), (f"{logdir}/", "below"), (file, ".")):
        table = jb.read(place)
        assert table[["run", "tag", "step", "value"]].values.tolist() == [[run, "loss", 3, 0.5]]
    with pytest.raises(jb.UsageError, match="there is no such directory"):
        jb.read(f"ram://{tmp_path}/nowhere")
    with pytest.raises(jb.RunError, match="the files cannot be listed: .*"):
        jb.read("nonesuch://bucket/run")


def test_an_object_store(logdir) -> None:
    """A URL of a store that fsspec knows is read through it, as jaxboard writes it."""
    pytest.importorskip("fsspec")
    url = f"memory:/{logdir}"
    with jb.Run(f"{url}/a", step=0) as run:
        run.scalar("loss", 0.5, step=3)
        run.child("eval").scalar("loss", 1.5, step=3)
    table = jb.read(url)
    assert table[["run", "tag", "step", "value"]].values.tolist() == [
        ["a", "loss", 3, 0.5],
        ["a/eval", "loss", 3, 1.5],
    ]
    assert verify(url).problems == []
    with pytest.raises(jb.UsageError, match="there is no such directory"):
        jb.read(f"{url}/nowhere")
