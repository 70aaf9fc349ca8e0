"""TensorBoardSink, its files read with TensorBoard's own readers."""

import math
import os
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata as hparams_metadata
from with_tensorflow import needs_tensorflow

from jaxboard import _errors
from jaxboard.records import Batch, Histogram, Kind, Record, Scalars
from jaxboard.sinks import TensorBoardSink, _tensorflow


def scalars(first: int, count: int, tag: str = "a", run: str = "") -> Scalars:
    steps = np.arange(first, first + count)
    return Scalars((tag,), steps, 1000.0 + steps, steps[:, None] * 0.5, run)


def write(logdir: str | pathlib.Path, *batches: Batch, **options: Any) -> None:
    sink = TensorBoardSink(logdir, **options)
    for batch in batches:
        sink.write(batch)
        sink.flush()
    sink.close()


def files(logdir: pathlib.Path) -> list[pathlib.Path]:
    return sorted(logdir.iterdir())


def raw(logdir: pathlib.Path) -> list:
    return [event for file in files(logdir) for event in EventFileLoader(str(file)).Load()]


def read(logdir: pathlib.Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(logdir), size_guidance={"scalars": 0, "tensors": 0})
    return accumulator.Reload()


def points(logdir: pathlib.Path, tag: str = "a") -> list[tuple[int, float, float]]:
    return [(point.step, point.wall_time, point.value) for point in read(logdir).Scalars(tag)]


def python(code: str, *arguments: str | os.PathLike[str]) -> str:
    """Run a program of its own; return its standard output, followed by its standard error."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_the_repr_names_the_directory(tmp_path):
    """The repr of a sink is the call that creates it."""
    assert repr(TensorBoardSink(tmp_path)) == f"TensorBoardSink({str(tmp_path)!r})"


def test_scalars_are_bit_identical_and_in_order(tmp_path, located):
    """A reader returns the exact steps, wall times and float32 values of 5,000 points with a long Unicode tag."""
    tag, count = "µ/日本 //" + "x" * 2000, 5000
    values = np.random.default_rng(0).standard_normal((count, 1)).astype(np.float32)
    values[:6, 0] = np.nan, np.inf, -np.inf, 1e-45, -0.0, 3.4e38
    steps, walls = np.arange(count) * 2**28, 1.7e9 + np.arange(count) / 7
    write(located(tmp_path), [Scalars((tag,), steps, walls, values)])
    got = points(tmp_path, tag)
    assert [step for step, _, _ in got] == steps.tolist()
    assert [wall for _, wall, _ in got] == walls.tolist()
    stored = np.array([value for _, _, value in got], np.float32)
    np.testing.assert_array_equal(stored.view(np.uint32), values[:, 0].view(np.uint32))


def test_a_file_opens_with_its_version_and_the_mark_of_a_given_step(tmp_path, located):
    """A file begins with its version and, only if a first step was given, two restart marks at that step."""
    write(located(tmp_path / "given"), [scalars(7, 1)], start_step=7)
    version, *marks, point = raw(tmp_path / "given")
    assert version.file_version == "brain.Event:2"
    start = version.session_log.START
    assert [(mark.session_log.status, mark.step) for mark in marks] == [(start, 7), (start, 7)]
    assert point.summary.value[0].tag == "a"
    write(located(tmp_path / "not"), [scalars(7, 1)])
    version, point = raw(tmp_path / "not")
    assert version.file_version == "brain.Event:2"
    assert point.summary.value[0].tag == "a"


def test_flushed_points_are_readable_before_close(tmp_path, located):
    """A reader sees flushed points while the file is open."""
    sink = TensorBoardSink(located(tmp_path))
    sink.write([scalars(0, 3)])
    sink.flush()
    assert points(tmp_path) == [(0, 1000.0, 0.0), (1, 1001.0, 0.5), (2, 1002.0, 1.0)]
    sink.close()


def test_hparams_end_with_the_run(tmp_path, located):
    """A run with hyperparameters has a session start and end; a run without them has neither."""
    write(located(tmp_path / "with"), [Record(Kind.HPARAMS, "", 0, 5.0, {"lr": 0.1})])
    tensors = read(tmp_path / "with").Tags()["tensors"]
    assert tensors == [
        hparams_metadata.SESSION_START_INFO_TAG,
        hparams_metadata.SESSION_END_INFO_TAG,
    ]
    write(located(tmp_path / "without"), [scalars(0, 1)])
    assert read(tmp_path / "without").Tags()["tensors"] == []


def test_a_run_below_has_its_own_directory(tmp_path, located):
    """The directory of a run below appears with its first record, is readable after a flush, and closes with the sink."""
    sink = TensorBoardSink(located(tmp_path), start_step=5)
    sink.write([scalars(5, 2)])
    sink.flush()
    assert len(files(tmp_path)) == 1
    text = Record(Kind.TEXT, "note", 5, 1000.0, "**bad**", "seed_0")
    sink.write([scalars(7, 1), scalars(5, 3, run="seed_0"), text, scalars(6, 2, run="group/mean")])
    sink.flush()
    for run, steps in {"": [5, 6, 7], "seed_0": [5, 6, 7], "group/mean": [6, 7]}.items():
        directory = tmp_path / run
        assert points(directory) == [(step, 1000.0 + step, step * 0.5) for step in steps]
        (file,) = (path for path in files(directory) if path.is_file())
        _, start, *_ = EventFileLoader(str(file)).Load()
        assert start.session_log.status == start.session_log.START
        assert start.step == 5
    assert read(tmp_path / "seed_0").Tags()["tensors"] == ["note"]
    assert read(tmp_path).Tags()["tensors"] == []
    sink.write([scalars(8, 1, run="seed_0")])
    sink.close()
    assert [step for step, *_ in points(tmp_path / "seed_0")] == [5, 6, 7, 8]


def test_files_are_opened_on_first_use(tmp_path, monkeypatch):
    """An unused sink creates no file; a relative path refers to the working directory at construction."""
    monkeypatch.chdir(tmp_path)
    TensorBoardSink("unused").close()
    sink = TensorBoardSink("used")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    sink.open()
    sink.open()
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "used"]
    assert len(files(tmp_path / "used")) == 1


@needs_tensorflow
def test_it_writes_during_and_after_a_jax_trace(tmp_path):
    """TensorFlow opens and writes files while JAX's profiler records, and afterwards."""
    _tensorflow.tensorflow()
    with jax.profiler.trace(str(tmp_path / "trace")):
        write(f"file://{tmp_path}/during", [scalars(1, 1)])
    write(f"file://{tmp_path}/after", [scalars(2, 1)])
    assert [point[0] for name in ("during", "after") for point in points(tmp_path / name)] == [1, 2]


def test_the_suffix_of_files(tmp_path, located):
    """The names of all files end with the suffix, those of runs below with their mark; a restart finds these runs."""
    below = Scalars(("a",), np.arange(3), np.zeros(3), np.ones((3, 1)), "eval")
    for start in (None, 1):
        sink = TensorBoardSink(located(tmp_path), filename_suffix="_v2", start_step=start)
        sink.write([scalars(0, 1), below] if start is None else [scalars(1, 1)])
        sink.close()
    written = [file.name for file in files(tmp_path) if file.name != "eval"]
    assert [name.endswith("_v2") for name in written] == [True, True]
    assert all(file.name.endswith("_v2.child1") for file in files(tmp_path / "eval"))
    assert [step for step, _, _ in points(tmp_path / "eval")] == [0]
    with pytest.raises(_errors.UsageError, match="expected the end of a file's name"):
        TensorBoardSink(located(tmp_path), filename_suffix="/x")


def test_files_sort_in_the_order_of_opening(tmp_path, located):
    """File names sort in the order of opening, even within one second: TensorBoard reads files by name."""
    for step in range(3):
        write(located(tmp_path), [scalars(step, 1)], start_step=step)
    assert [step for step, _, _ in points(tmp_path)] == [0, 1, 2]
    seconds = [file.name.split(".")[3] for file in files(tmp_path)]
    assert len(set(seconds)) == 3


def test_a_file_from_the_future(tmp_path, caplog):
    """A new file sorts after one that a host with another clock wrote, and readers show its points."""
    (tmp_path / "events.out.tfevents.4000000000.host.1.0").touch()
    for step in range(2):
        write(tmp_path, [scalars(step, 1)])
    assert [file.name.split(".")[3] for file in files(tmp_path)] == [
        "4000000000",
        "4000000001",
        "4000000002",
    ]
    assert [step for step, _, _ in points(tmp_path)] == [0, 1]
    assert caplog.records == []


@needs_tensorflow
def test_a_remote_file_from_the_future_is_logged(tmp_path, caplog):
    """TensorFlow chooses the name of a remote file: a log message warns that TensorBoard may not show its points."""
    (tmp_path / "events.out.tfevents.4000000000.host.1.0").touch()
    for step in range(2):
        write(f"file://{tmp_path}", [scalars(step, 1)])
    (record,) = caplog.records
    assert "holds an event file from" in record.getMessage()
    assert record.levelname == "WARNING"


def test_a_write_after_close_raises(tmp_path):
    """Writing to a closed sink raises; closing it again does nothing."""
    sink = TensorBoardSink(tmp_path)
    sink.close()
    sink.close()
    with pytest.raises(_errors.RunError, match=r"^TensorBoardSink\(.*\) is closed\.$"):
        sink.write([])


def test_a_directory_that_is_a_file(tmp_path, located):
    """open() on a path below a file raises RunError with the path and the reason."""
    (tmp_path / "file").touch()
    path = located(tmp_path / "file" / "run")
    with pytest.raises(_errors.RunError, match=rf"^cannot write to '{path}': .*[Nn]ot a directory"):
        TensorBoardSink(path).open()


@needs_tensorflow
def test_a_scheme_that_tensorflow_lacks(monkeypatch):
    """A URL without a file system raises RunError with the package that provides one."""
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(_errors.RunError) as caught:
        TensorBoardSink("s3://bucket/run").write([])
    assert str(caught.value) == (
        "cannot write to 's3://bucket/run': TensorFlow has no file system for 's3://'. Install s3fs, or "
        "log to a local directory and copy it."
    )


def test_a_remote_directory_without_tensorflow(no_tensorflow, monkeypatch):
    """A URL without TensorFlow, and without fsspec's package for it, raises RunError."""
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    message = (
        "^cannot write to 'gs://b/run': without gcsfs, remote directories need TensorFlow, and "
    )
    with pytest.raises(_errors.RunError, match=message):
        TensorBoardSink("gs://b/run").open()


@needs_tensorflow
def test_without_the_private_attribute_it_uses_public_functions(tmp_path, monkeypatch):
    """If TensorFlow renames ``_resource``, points are still written, with the time of writing."""
    import tensorflow as tf

    create = tf.summary.create_file_writer

    class Renamed:
        def __init__(self, *args, **kwargs):
            writer = create(*args, **kwargs)
            self.as_default, self.flush, self.close = writer.as_default, writer.flush, writer.close

    monkeypatch.setattr(tf.summary, "create_file_writer", Renamed)
    histogram = Record(Kind.HISTOGRAM, "h", 1, 5.0, Histogram(np.array([0.0, 1.0]), np.array([2])))
    write(f"file://{tmp_path}", [scalars(0, 3), histogram])
    assert [(step, value) for step, _, value in points(tmp_path)] == [(0, 0), (1, 0.5), (2, 1)]
    assert read(tmp_path).Tags()["tensors"] == ["h"]
    assert all(math.isfinite(wall) and wall > 1.6e9 for _, wall, _ in points(tmp_path))


def test_importing_the_sinks_imports_neither_tensorflow_nor_tensorboard():
    """Importing jaxboard.sinks imports no event writer; opening the first file does."""
    python(
        """
        import sys, jaxboard.sinks
        assert not {"tensorflow", "tensorboard", "PIL"} & set(sys.modules), "too early"
        """
    )
