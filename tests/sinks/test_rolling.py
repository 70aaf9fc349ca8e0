"""Event files of limited size: TensorBoard shows every point of all of them."""

import pathlib

import numpy as np
import pytest
from event_files import scalar_points
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import jaxboard as jb
from jaxboard import UsageError
from jaxboard.records import Batch, Scalars
from jaxboard.sinks import TensorBoardSink
from jaxboard.sinks._rolling import Rolling

LIMIT = 3000


def report(steps: range) -> None:
    for step in steps:
        jb.scalar("loss", 0.5 * step, step=step)


def points(steps: range) -> list[tuple[int, float]]:
    return [(step, 0.5 * step) for step in steps]


def event_files(logdir: pathlib.Path) -> list[pathlib.Path]:
    return sorted(logdir.glob("*.tfevents.*"))


def batch(first: int, count: int, run: str = "") -> Batch:
    steps = np.arange(first, first + count)
    return [Scalars(("loss",), steps, 1000.0 + steps, steps[:, None] * 0.5, run)]


def deliver(sink: TensorBoardSink, records: Batch) -> None:
    sink.write(records)
    sink.flush()


@pytest.mark.parametrize("loader", ["rust", "python"])
def test_both_loaders_follow_a_run_over_several_files(shared_tensorboard, loader):
    """A running TensorBoard shows all points, of every kind and of runs below, while files are finished."""
    server = shared_tensorboard(loader)
    logdir = server.logdir / "rolled"
    count = 0
    with jb.Run(logdir, max_file_bytes=LIMIT, hparams={"lr": 0.1}) as run:
        for part in range(4):
            report(range(count, count + 200))
            with run.child("eval"):
                report(range(count, count + 200))
            jb.histogram("weights", np.arange(5.0) * part, step=part)
            jb.text("note", f"part {part}", step=part)
            jb.image("frame", np.full((2, 2, 3), part / 4, np.float32), step=part)
            run.flush()
            count += 200
            if part in (1, 3):  # The loader has read a file that grows no more.
                for name in ("rolled", "rolled/eval"):
                    shown = server.scalars(name, "loss", count=count)
                    assert [(step, value) for _, step, value in shown] == points(range(count))
    assert len(event_files(logdir)) == len(event_files(logdir / "eval")) == 4
    assert [row[1] for row in server.histograms("rolled", "weights", count=4)] == [0, 1, 2, 3]
    assert [row["step"] for row in server.images("rolled", "frame", count=4)] == [0, 1, 2, 3]
    notes = server.text("rolled", "note", count=4)
    assert [row["text"] for row in notes] == [f"<p>part {part}</p>" for part in range(4)]
    assert server.session_group("rolled", metrics=0)["hparams"] == {"lr": 0.1}


def test_a_resumed_run_over_several_files(tmp_path):
    """``Run(step=)`` drops the points from its step on in all files of the earlier run, and none of its own."""
    for first in (None, 250):
        with jb.Run(tmp_path, step=first, max_file_bytes=LIMIT) as run:
            for part in range(first or 0, 500, 50):
                report(range(part, part + 50))
                run.flush()
    assert len(event_files(tmp_path)) == 8
    assert scalar_points(tmp_path, "loss") == points(range(500))


def test_one_restart_mark(tmp_path):
    """Only the first file of a resumed run marks the restart, so steps may go back later."""
    sink = TensorBoardSink(tmp_path, start_step=100, max_file_bytes=LIMIT)
    for first in (400, 300, 200, 100):
        deliver(sink, batch(first, 100))
    sink.close()
    marks = [
        sum(event.session_log.status == 1 for event in EventFileLoader(str(file)).Load())
        for file in event_files(tmp_path)
    ]
    assert marks == [2, 0, 0, 0]
    assert len(scalar_points(tmp_path, "loss")) == 400


def test_a_fault_after_a_finished_file(tmp_path):
    """Writing again after a fault drops no point of a finished file."""
    sink = TensorBoardSink(tmp_path / "run", max_file_bytes=LIMIT)
    deliver(sink, batch(0, 100))
    deliver(sink, batch(100, 10))
    event_files(tmp_path / "run")[-1].unlink()
    with pytest.raises(FileNotFoundError):
        deliver(sink, batch(110, 10))
    deliver(sink, batch(110, 10))
    deliver(sink, batch(120, 100))
    deliver(sink, batch(220, 10))
    sink.close()
    assert scalar_points(tmp_path / "run", "loss") == points(range(100)) + points(range(110, 230))


def test_each_directory_counts_its_own_file(located, tmp_path):
    """A file is finished by its own size, at the first write after a flush; a URL that TensorFlow writes to, too."""
    sink = TensorBoardSink(located(str(tmp_path)), max_file_bytes=LIMIT)
    for part in range(3):
        sink.write(batch(100 * part, 50, run="big"))
        sink.write(batch(100 * part + 50, 50, run="big"))  # Not flushed: the same file.
        sink.write(batch(part, 1))
        sink.flush()
    sink.close()
    assert len(event_files(tmp_path)) == 1
    assert len(event_files(tmp_path / "big")) == 3
    assert scalar_points(tmp_path, "loss") == points(range(3))
    assert scalar_points(tmp_path / "big", "loss") == points(range(300))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: jb.Run(path, max_file_bytes=0),
            "Run(max_file_bytes=0): expected a number above 0.",
        ),
        (
            lambda path: TensorBoardSink(path, max_file_bytes=-1),
            "TensorBoardSink(max_file_bytes=-1): expected a number above 0.",
        ),
        (
            lambda path: jb.Run(path, max_file_bytes=10, sinks=[TensorBoardSink(path)]),
            "Run(max_file_bytes=10, sinks=[...]): pass max_file_bytes to the TensorBoardSink.",
        ),
    ],
)
def test_invalid_sizes(tmp_path, make, message):
    """A size of zero, and one that no sink would get, raise."""
    with pytest.raises(UsageError) as caught:
        make(tmp_path)
    assert str(caught.value) == message


def test_sizes():
    """Without a limit a local file is never finished, and a remote one at 64 MiB."""
    local, remote = Rolling(None, is_remote=False), Rolling(None, is_remote=True)
    for rolling, expected in ((local, False), (remote, True)):
        rolling.begin()
        rolling.flushed(2**26)
        assert rolling.is_finished() == expected
