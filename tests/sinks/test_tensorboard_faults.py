"""TensorBoardSink where the machine fails it. Every fault here is a real one."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard_server import tensorboard

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the faults are made with POSIX calls")

PRELUDE = """
import os, resource, shutil, sys
if sys.argv[2] == "own":
    sys.modules["tensorflow"] = None
import numpy as np
from jaxboard.records import Kind, Record, Scalars
from jaxboard.sinks import TensorBoardSink

def batch(first, count, tag="a", run=""):
    steps = np.arange(first, first + count)
    return [Scalars((tag,), steps, 1000.0 + steps, steps[:, None] * 0.5, run)]

def limit(size):
    # A file that may not grow beyond this fails like a disk that is full (EFBIG for ENOSPC).
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def deliver(sink, batch):
    sink.write(batch)
    sink.flush()

def raises(call, *args):
    try:
        call(*args)
    except Exception as error:
        return error
    raise AssertionError("it did not raise")

sink = TensorBoardSink(sys.argv[1])
"""


def python(code: str, logdir: pathlib.Path, writer: str) -> str:
    program = PRELUDE + textwrap.dedent(code)
    command = [sys.executable, "-c", program, str(logdir), writer]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def steps(logdir: pathlib.Path) -> list[int]:
    accumulator = EventAccumulator(str(logdir), size_guidance={"scalars": 0}).Reload()
    return [point.step for point in accumulator.Scalars("a")]


@pytest.mark.parametrize("writer", ["tensorflow", "own"])
def test_a_full_disk_costs_nothing_once_there_is_room(tmp_path, writer):
    """After faults in mid-record, and again and again, both readers show every point just once."""
    logdir = tmp_path / "run"
    python(
        """
        deliver(sink, batch(0, 100))
        for fault in range(2):
            (newest,) = sorted(os.scandir(sys.argv[1]), key=lambda f: f.name)[-1:]
            first = 100 + 3000 * fault
            limit(newest.stat().st_size + 1001)
            raises(deliver, sink, batch(first, 2000))
            limit(1001)
            raises(deliver, sink, batch(first, 2000))
            limit(10)
            raises(deliver, sink, batch(first, 2000))
            limit(resource.RLIM_INFINITY)
            deliver(sink, batch(first, 2000))
            deliver(sink, batch(first + 2000, 1000))
        sink.close()
        """,
        logdir,
        writer,
    )
    assert len(list(logdir.iterdir())) == 3
    assert steps(logdir) == list(range(6100))
    for loader in ("rust", "python") if writer == "tensorflow" else ():
        with tensorboard(tmp_path, loader=loader) as server:
            shown = server.scalars("run", "a", count=6100)
        assert shown == [(1000.0 + step, step, step * 0.5) for step in range(6100)]


@pytest.mark.parametrize("writer", ["tensorflow", "own"])
def test_a_restart_mark_after_a_fault_drops_nothing_that_was_confirmed(tmp_path, writer):
    """Points of another tag that lie behind the batch written again stay."""
    logdir = tmp_path / "run"
    python(
        """
        deliver(sink, batch(500, 10))
        sink.write(batch(100, 2000, tag="b"))
        limit(1000)
        raises(deliver, sink, batch(100, 2000, tag="b"))
        limit(resource.RLIM_INFINITY)
        deliver(sink, batch(100, 2000, tag="b"))
        sink.close()
        """,
        logdir,
        writer,
    )
    assert steps(logdir) == list(range(500, 510))


@pytest.mark.parametrize("writer", ["tensorflow", "own"])
@pytest.mark.parametrize("failing", ["write", "flush"])
def test_a_fault_in_one_run_beneath_costs_none_of_them_a_point(tmp_path, writer, failing):
    """The same batch comes again: what some of the directories have of it already is there once."""
    logdir = tmp_path / "run"
    python(
        f"""
        def all_of(first, count):
            return [
                *batch(first, 10),
                *batch(first, 10, run="seed_0"),
                *batch(first, count, run="seed_1"),
                *batch(first, 10, run="seed_2"),
            ]
        deliver(sink, all_of(0, 10))
        sink.write(batch(0, 10, run="idle"))
        sink.flush()
        if {failing!r} == "write":
            limit(20000)
            raises(deliver, sink, all_of(10, 2000))
            limit(resource.RLIM_INFINITY)
        else:
            sink.write(all_of(10, 2000))
            shutil.move(sys.argv[1] + "/seed_1", sys.argv[1] + "/away")
            raises(sink.flush)
            shutil.move(sys.argv[1] + "/away", sys.argv[1] + "/seed_1")
        deliver(sink, all_of(10, 2000))
        sink.close()
        """,
        logdir,
        writer,
    )
    assert steps(logdir) == steps(logdir / "seed_0") == steps(logdir / "seed_2") == list(range(20))
    assert steps(logdir / "seed_1") == list(range(2010))
    assert steps(logdir / "idle") == list(range(10))
    assert len(list((logdir / "idle").iterdir())) == 1


@pytest.mark.parametrize("writer", ["tensorflow", "own"])
def test_a_directory_that_went_away_comes_back(tmp_path, writer):
    """The flush notices, though the system does not; writing again makes the directory anew."""
    logdir = tmp_path / "run"
    said = python(
        """
        deliver(sink, batch(0, 10))
        shutil.rmtree(sys.argv[1])
        print(raises(deliver, sink, batch(10, 10)))
        deliver(sink, batch(10, 10))
        sink.close()
        """,
        logdir,
        writer,
    )
    assert steps(logdir) == list(range(10, 20))
    assert "was removed while it was written to" in said


@pytest.mark.parametrize("writer", ["tensorflow", "own"])
def test_a_failing_close_raises(tmp_path, writer):
    """What close could not write is not passed over in silence."""
    python(
        """
        sink.write([Record(Kind.HPARAMS, "", 0, 1.0, {"lr": 0.1})])
        sink.flush()
        limit(1)
        raises(sink.close)
        raises(sink.flush)
        """,
        tmp_path / "run",
        writer,
    )


@pytest.mark.parametrize("writer", ["tensorflow", "own"])
def test_a_fork_writes_nothing_twice(tmp_path, writer):
    """The child's exit writes nothing of the parent's, and its own use of the sink is refused."""
    said = python(
        """
        sink.write(batch(0, 10))
        child = os.fork()
        if not child:
            print(raises(sink.write, batch(10, 1)), flush=True)
            sink.close()
            del sink
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        deliver(sink, batch(10, 10))
        sink.close()
        """,
        tmp_path / "run",
        writer,
    )
    assert steps(tmp_path / "run") == list(range(20))
    assert "of which this one is a fork: two processes cannot write to one run directory" in said
