"""TensorBoardSink, read back with TensorBoard's own readers."""

import math
import os
import pathlib
import subprocess
import sys
import textwrap

import jax
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata as hparams_metadata

from jaxboard import _errors
from jaxboard.records import Batch, Histogram, Kind, Record, Scalars
from jaxboard.sinks import Sink, TensorBoardSink, _writers


def scalars(first: int, count: int, tag: str = "a", run: str = "") -> Scalars:
    steps = np.arange(first, first + count)
    return Scalars((tag,), steps, 1000.0 + steps, steps[:, None] * 0.5, run)


def write(logdir: pathlib.Path, *batches: Batch, **options: int) -> None:
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


@pytest.fixture
def no_tensorflow(monkeypatch):
    """As where no TensorFlow can be imported."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    _writers.tensorflow.cache_clear()
    with pytest.warns(_errors.JaxboardWarning, match="^TensorFlow cannot be imported, so events"):
        _writers.tensorflow()
    yield
    _writers.tensorflow.cache_clear()


@pytest.fixture(params=["tensorflow", "own"])
def backend(request):
    """Both writers."""
    if request.param == "own":
        request.getfixturevalue("no_tensorflow")
    return request.param


def python(code: str, *arguments: str | os.PathLike[str]) -> str:
    """Runs a program of its own; returns what it printed, and what it said on stderr."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout + result.stderr


def test_it_is_a_sink(tmp_path):
    """It has what the protocol asks for, and its repr names the directory."""
    assert isinstance(TensorBoardSink(tmp_path), Sink)
    assert repr(TensorBoardSink(tmp_path)) == f"TensorBoardSink({str(tmp_path)!r})"


def test_scalars_come_back_to_the_bit_in_order(tmp_path, backend):
    """Each step, wall time and float32 of 5,000 points, under a long tag that is not ASCII."""
    tag, count = "µ/日本 //" + "x" * 2000, 5000
    values = np.random.default_rng(0).standard_normal((count, 1)).astype(np.float32)
    values[:6, 0] = np.nan, np.inf, -np.inf, 1e-45, -0.0, 3.4e38
    steps, walls = np.arange(count) * 2**28, 1.7e9 + np.arange(count) / 7
    write(tmp_path, [Scalars((tag,), steps, walls, values)])
    got = points(tmp_path, tag)
    assert [step for step, _, _ in got] == steps.tolist()
    assert [wall for _, wall, _ in got] == walls.tolist()
    stored = np.array([value for _, _, value in got], np.float32)
    np.testing.assert_array_equal(stored.view(np.uint32), values[:, 0].view(np.uint32))


def test_a_file_opens_with_its_version_and_its_start(tmp_path, backend):
    """A reader learns from the first two events how to read on and from which step."""
    write(tmp_path, [scalars(7, 1)], start_step=7)
    version, start, point = raw(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.session_log.status, start.step) == (start.session_log.START, 7)
    assert point.summary.value[0].tag == "a"


def test_what_is_flushed_is_readable_before_the_file_is_closed(tmp_path, backend):
    """Nothing waits for close."""
    sink = TensorBoardSink(tmp_path)
    sink.write([scalars(0, 3)])
    sink.flush()
    assert points(tmp_path) == [(0, 1000.0, 0.0), (1, 1001.0, 0.5), (2, 1002.0, 1.0)]
    sink.close()


def test_hparams_end_with_the_run(tmp_path, backend):
    """A run with hyperparameters has a start and an end, one without has neither."""
    write(tmp_path / "with", [Record(Kind.HPARAMS, "", 0, 5.0, {"lr": 0.1})])
    tensors = read(tmp_path / "with").Tags()["tensors"]
    assert tensors == [
        hparams_metadata.SESSION_START_INFO_TAG,
        hparams_metadata.SESSION_END_INFO_TAG,
    ]
    write(tmp_path / "without", [scalars(0, 1)])
    assert read(tmp_path / "without").Tags()["tensors"] == []


def test_a_run_beneath_has_a_directory_of_its_own(tmp_path, backend):
    """It is made when the first value of that run comes, readable after a flush, and closed with the sink."""
    sink = TensorBoardSink(tmp_path, start_step=5)
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
        _, begin, *_ = EventFileLoader(str(file)).Load()
        assert begin.session_log.status == begin.session_log.START
        assert begin.step == 5
    assert read(tmp_path / "seed_0").Tags()["tensors"] == ["note"]
    assert read(tmp_path).Tags()["tensors"] == []
    sink.write([scalars(8, 1, run="seed_0")])
    sink.close()
    assert [step for step, *_ in points(tmp_path / "seed_0")] == [5, 6, 7, 8]


def test_nothing_is_opened_before_it_is_needed(tmp_path, monkeypatch):
    """A sink that is never used makes no file; the directory is that of construction."""
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


def test_it_writes_while_jax_records_a_trace_and_afterwards(tmp_path):
    """JAX's profiler does not keep TensorFlow from opening files, nor from writing them."""
    _writers.tensorflow()
    with jax.profiler.trace(str(tmp_path / "trace")):
        write(tmp_path / "during", [scalars(1, 1)])
    write(tmp_path / "after", [scalars(2, 1)])
    assert [point[0] for name in ("during", "after") for point in points(tmp_path / name)] == [1, 2]


def test_files_sort_in_the_order_of_their_opening(tmp_path, backend):
    """Also those of one process within one second: TensorBoard reads them by name, forwards."""
    for step in range(3):
        write(tmp_path, [scalars(step, 1)], start_step=step)
    assert [step for step, _, _ in points(tmp_path)] == [0, 1, 2]
    seconds = [file.name.split(".")[3] for file in files(tmp_path)]
    assert len(set(seconds)) == 3


def test_a_file_from_the_future_is_spoken_of(tmp_path, backend):
    """Waiting for it would take forever; TensorBoard may not show what is written now."""
    (tmp_path / "events.out.tfevents.4000000000.host.1.0").touch()
    with pytest.warns(_errors.JaxboardWarning, match="holds an event file from .* s in the future"):
        write(tmp_path, [scalars(0, 1)])


def test_a_write_after_close_is_refused(tmp_path):
    """A closed sink says that it is closed; closing it again does nothing."""
    sink = TensorBoardSink(tmp_path)
    sink.close()
    sink.close()
    with pytest.raises(_errors.RunError, match=r"^TensorBoardSink\(.*\) is closed\.$"):
        sink.write([])


def test_a_directory_that_is_a_file_is_an_error_that_says_so(tmp_path, backend):
    """The path and the reason, in one line, at open."""
    (tmp_path / "file").touch()
    path = str(tmp_path / "file" / "run")
    with pytest.raises(_errors.RunError, match=rf"^cannot write to '{path}': .*[Nn]ot a directory"):
        TensorBoardSink(path).open()


def test_a_scheme_that_tensorflow_lacks_is_an_error_that_says_what_to_do():
    """The scheme and the packages that bring it."""
    with pytest.raises(_errors.RunError) as caught:
        TensorBoardSink("s3://bucket/run").write([])
    assert str(caught.value) == (
        "cannot write to 's3://bucket/run': TensorFlow has no file system for 's3://'. Import a "
        "package that brings it before the run is opened (tensorflow-io for s3, hdfs and az), or "
        "log to a local directory and copy that."
    )


def test_a_remote_directory_without_tensorflow_is_an_error_that_says_what_to_do(no_tensorflow):
    """TensorBoard's writer would need packages of its own for each scheme."""
    with pytest.raises(_errors.RunError, match="^cannot write to 'gs://b/run': remote directories"):
        TensorBoardSink("gs://b/run").open()


def test_without_the_private_handle_it_writes_by_public_api(tmp_path, monkeypatch):
    """Should TensorFlow rename ``_resource``, points are still written, with the time of writing."""
    import tensorflow as tf

    create = tf.summary.create_file_writer

    class Renamed:
        def __init__(self, *args, **kwargs):
            writer = create(*args, **kwargs)
            self.as_default, self.flush, self.close = writer.as_default, writer.flush, writer.close

    monkeypatch.setattr(tf.summary, "create_file_writer", Renamed)
    histogram = Record(Kind.HISTOGRAM, "h", 1, 5.0, Histogram(np.array([0.0, 1.0]), np.array([2])))
    write(tmp_path, [scalars(0, 3), histogram])
    assert [(step, value) for step, _, value in points(tmp_path)] == [(0, 0), (1, 0.5), (2, 1)]
    assert read(tmp_path).Tags()["tensors"] == ["h"]
    assert all(math.isfinite(wall) and wall > 1.6e9 for _, wall, _ in points(tmp_path))


def test_importing_the_sinks_imports_neither_tensorflow_nor_tensorboard():
    """They are imported when the first file is opened."""
    python(
        """
        import sys, jaxboard.sinks
        assert not {"tensorflow", "tensorboard", "PIL"} & set(sys.modules), "too early"
        """
    )


def test_without_tensorflow_it_says_so_once_and_writes(tmp_path):
    """One warning for a process, however many runs it has, and complete files."""
    said = python(
        """
        import sys
        class Block:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "tensorflow":
                    raise ModuleNotFoundError("No module named 'tensorflow'")
        sys.meta_path.insert(0, Block())
        import numpy as np
        from jaxboard.records import Kind, Record
        from jaxboard.sinks import TensorBoardSink
        for run in "one", "two":
            sink = TensorBoardSink(sys.argv[1] + "/" + run)
            sink.write([
                Record(Kind.SCALAR, "a", 3, 1000.0, np.float32(0.5)),
                Record(Kind.IMAGE, "i", 3, 1000.0, np.zeros((1, 4, 4, 3), np.uint8)),
                Record(Kind.HPARAMS, "", 0, 1000.0, {"lr": 0.1}),
            ])
            sink.flush()
            sink.close()
        assert "tensorflow" not in sys.modules
        """,
        tmp_path,
    )
    assert said.count("JaxboardWarning: TensorFlow cannot be imported, so events are written") == 1
    for run in "one", "two":
        assert points(tmp_path / run) == [(3, 1000.0, 0.5)]
        assert read(tmp_path / run).Tags()["tensors"][0] == "i"


def test_importing_tensorflow_leaves_the_environment_as_it_was(tmp_path):
    """The variable that keeps it quiet is gone afterwards; what the user set stays."""
    said = python(
        """
        import os, sys
        from jaxboard.sinks import TensorBoardSink
        before = dict(os.environ)
        sink = TensorBoardSink(sys.argv[1])
        sink.open()
        # TensorFlow sets some of its own.
        names = ["TF_CPP_MIN_LOG_LEVEL", *before]
        assert [os.environ.get(name) for name in names] == [before.get(name) for name in names]
        sink.close()
        """,
        tmp_path,
    )
    assert "This TensorFlow binary is optimized" not in said
