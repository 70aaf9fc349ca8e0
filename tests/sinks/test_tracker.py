"""The base class of the sinks of experiment trackers, with a small library in place of wandb, MLflow or Trackio."""

from __future__ import annotations

import sys
import threading
import types

import numpy as np
import pytest

import jaxboard as jb
from jaxboard.sinks import (
    Batch,
    EncodedImage,
    Kind,
    MemorySink,
    MLflowSink,
    Record,
    Scalars,
    TrackioSink,
    WandbSink,
    _files,
)
from jaxboard.sinks._tracker import TrackerSink
from jaxboard.sinks._tracker_values import files


class LibraryRun:
    """A run of the library: it keeps what it gets, and may hang or fail."""

    def __init__(self) -> None:
        self.points: list[tuple[str, int, object]] = []
        self.works = threading.Event()
        self.works.set()
        self.faults: dict[int, Exception] = {}

    def log(self, name: str, step: int, value: object) -> None:
        self.works.wait()
        if step in self.faults:
            raise self.faults.pop(step)
        self.points.append((name, step, value))


class LibrarySink(TrackerSink):
    """The sink of the library."""

    library = "some_tracker"
    run_type = "Run"
    kinds = frozenset({Kind.TEXT, Kind.IMAGE})

    def _log_scalars(self, names, rows):
        for step, _, values in rows:
            for name, value in zip(names, values, strict=True):
                self._run.log(name, step, value)

    def _log(self, name, record, paths):
        self._run.log(name, record.step, record.value)


@pytest.fixture
def library_run(monkeypatch):
    """Install the library, and return a run of it that does not hang when the test ends."""
    library = types.ModuleType("some_tracker")
    library.__dict__["Run"] = LibraryRun
    monkeypatch.setitem(sys.modules, "some_tracker", library)
    run = LibraryRun()
    yield run
    run.works.set()


def text(step: int) -> Record:
    return Record(Kind.TEXT, "note", step, 1000.0, str(step))


def notes(*steps: int) -> list[tuple[str, int, object]]:
    return [("note", step, str(step)) for step in steps]


@pytest.mark.parametrize("sink", [MLflowSink, TrackioSink, WandbSink])
def test_a_missing_library(sink, monkeypatch):
    """The error names the package and the extra that installs it."""
    monkeypatch.setitem(sys.modules, sink.library, None)
    with pytest.raises(jb.UsageError) as caught:
        sink(None)
    assert str(caught.value) == (
        f"{sink.__name__} needs {sink.library}, which is not installed. "
        f"Install it with: pip install 'jaxboard-tb[{sink.library}]'"
    )


def test_a_folder_with_the_name_of_the_library(tmp_path, monkeypatch):
    """A program that uses wandb has a folder ``wandb``, which Python imports as an empty package."""
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(jb.UsageError, match="WandbSink needs wandb, which is not installed"):
        WandbSink(None)
    sys.modules.pop("wandb", None)


def test_wrong_arguments(library_run):
    """A run of something else, and a timeout that is not above 0, are errors."""
    with pytest.raises(jb.UsageError, match=r"LibrarySink\(3\): expected a run of some_tracker"):
        LibrarySink(3, timeout=1.0)
    with pytest.raises(jb.UsageError, match=r"LibrarySink\(timeout=0\)"):
        LibrarySink(library_run, timeout=0)


def test_scalars(library_run):
    """Single scalars and blocks arrive in order. The name of a child run is a part of their names."""
    sink = LibrarySink(library_run, timeout=60.0)
    block = Scalars(("a", "b"), np.array([2, 1]), np.zeros(2), np.array([[1, 2], [3, 4]]), "seed_0")
    sink.write([block, Record(Kind.SCALAR, "loss", 3, 0.0, np.float32(0.5))])
    sink.flush()
    assert library_run.points == [
        ("seed_0/a", 2, 1.0),
        ("seed_0/b", 2, 2.0),
        ("seed_0/a", 1, 3.0),
        ("seed_0/b", 1, 4.0),
        ("loss", 3, 0.5),
    ]


def test_a_library_that_hangs(library_run):
    """A flush ends after its timeout. Each record reaches the library once, although it is written again."""
    sink = LibrarySink(library_run, timeout=0.05)
    library_run.works.clear()
    first: Batch = [text(0), text(1)]
    sink.write(first)
    for _ in range(2):
        with pytest.raises(TimeoutError, match=r"some_tracker .* within 0.05 s"):
            sink.flush()
        sink.write(first)
    library_run.works.set()
    sink._timeout = 60.0
    sink.flush()
    assert library_run.points == notes(0, 1)
    sink.write([text(2)])
    sink.close()
    assert library_run.points == notes(0, 1, 2)


def test_other_sinks_do_not_wait(library_run):
    """While the library hangs, the other sinks of the run get their records."""
    library_run.works.clear()
    memory = MemorySink()
    sink = LibrarySink(library_run, timeout=0.05)
    with jb.Run(None, sinks=[sink, memory], flush_secs=1000) as run:
        for step in range(2):
            jb.text("note", str(step), step=step)
            with pytest.raises(jb.RunError, match="LibrarySink failed: TimeoutError"):
                run.flush()
            assert len(memory.records) == step + 1
        library_run.works.set()
        sink._timeout = 60.0
        run.flush()
    assert library_run.points == notes(0, 1)


def test_a_machine_fault(library_run):
    """A machine fault raises. Records that were sent before it are not sent again."""
    sink = LibrarySink(library_run, timeout=60.0)
    library_run.faults[1] = ConnectionError("no route to host")
    batches: list[Batch] = [[text(0)], [text(1)], [text(2)]]
    for batch in batches:
        sink.write(batch)
    with pytest.raises(ConnectionError):
        sink.flush()
    for batch in batches:  # After a fault, the run flushes each batch separately.
        sink.write(batch)
        sink.flush()
    assert library_run.points == notes(0, 1, 2)
    assert sink._sent == {}


def test_a_record_that_the_library_refuses(library_run, caplog):
    """A record that the library refuses is lost and counted, and no other record is."""
    sink = LibrarySink(library_run, timeout=60.0)
    library_run.faults[1] = ValueError("no such value")
    sink.write([text(0), text(1), text(2)])
    sink.flush()
    assert library_run.points == notes(0, 2)
    assert sink.take_lost() == {"report 'note': ValueError: no such value": 1}
    assert sink.take_lost() == {}
    assert "report 'note' is lost: ValueError: no such value." in caplog.text


def test_a_tag_that_the_library_refuses(library_run):
    """Other tags of the same steps are written."""

    class Strict(LibrarySink):
        def _log_scalars(self, names, rows):
            if "a*b" in names:
                raise ValueError("no name")
            super()._log_scalars(names, rows)

    sink = Strict(library_run, timeout=60.0)
    values = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    sink.write([Scalars(("a", "a*b", "c"), np.arange(2), np.zeros(2), values)])
    sink.flush()
    assert library_run.points == [("a", 0, 1.0), ("a", 1, 4.0), ("c", 0, 3.0), ("c", 1, 6.0)]
    assert sum(sink.take_lost().values()) == 2


def test_a_hyperparameter_that_mlflow_refuses(monkeypatch):
    """MLflow gets the other hyperparameters, and the report counts as lost."""
    library = types.ModuleType("mlflow")
    stored = {}

    class Run:
        info = types.SimpleNamespace(run_id="1")

    class MlflowClient:
        def log_param(self, run_id, name, value):
            if len(str(value)) > 6000:
                raise ValueError("too long")
            stored[name] = value

    vars(library).update(MlflowClient=MlflowClient, entities=types.SimpleNamespace(Run=Run))
    monkeypatch.setitem(sys.modules, "mlflow", library)
    sink = MLflowSink(Run())
    values = {"a": 1, "long": "x" * 6001, "c": 3}
    sink.write([Record(Kind.HPARAMS, "hparams", 0, 0.0, values)])
    sink.flush()
    assert stored == {"a": 1, "c": 3}
    assert sum(sink.take_lost().values()) == 1


@pytest.mark.parametrize("data", [b"no image", _files.png(np.zeros((64, 64, 3), np.uint8))[:-40]])
def test_an_image_that_cannot_be_read(data, tmp_path):
    """A damaged image is a fault of the record, although Pillow raises an OSError, as a machine fault does."""
    record = Record(Kind.IMAGE, "figure", 0, 1000.0, EncodedImage(data, 64, 64))
    with pytest.raises(ValueError, match="the image cannot be read"):
        files(record, str(tmp_path))


def test_kinds_without_a_place(library_run, caplog):
    """Records of other kinds are left out, with one line in the log for each kind."""
    sink = LibrarySink(library_run, timeout=60.0)
    image = EncodedImage(b"", 1, 1)
    sink.write([Record(Kind.MESH, f"mesh {i}", i, 0.0, image) for i in range(3)])
    sink.write([text(0)])
    sink.flush()
    assert library_run.points == notes(0)
    assert [record.getMessage() for record in caplog.records] == [
        "jaxboard: LibrarySink leaves out mesh reports, such as 'mesh 0': only event files can hold them."
    ]
    assert sink.take_lost() == {}
