"""TensorBoardSink under machine faults. Every fault here is real."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard_server import tensorboard

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the faults need POSIX calls")

# Importing TensorFlow takes longer than the scenarios, so one process per writer runs all of them.
RUNNER = """
import json, os, pathlib, resource, shutil, sys, traceback
scenarios, directory, writer = json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
if writer == "tensorboard":
    sys.modules["tensorflow"] = None
import numpy as np
from jaxboard.records import Kind, Record, Scalars
from jaxboard.sinks import TensorBoardSink

def batch(first, count, tag="a", run=""):
    steps = np.arange(first, first + count)
    return [Scalars((tag,), steps, 1000.0 + steps, steps[:, None] * 0.5, run)]

def limit(size):
    # A file at its size limit fails like a full disk (EFBIG instead of ENOSPC).
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def deliver(sink, batch):
    sink.write(batch)
    sink.flush()

def raises(call, *args):
    try:
        call(*args)
    except Exception as error:
        return error
    raise AssertionError("no exception was raised")

failed = {}
for name, code in scenarios.items():
    logdir = directory / name / "run"
    try:
        exec(compile(code, name, "exec"), globals() | {"logdir": logdir, "sink": TensorBoardSink(logdir)})
    except Exception:
        limit(resource.RLIM_INFINITY)
        failed[name] = traceback.format_exc()
(directory / "failed.json").write_text(json.dumps(failed))
"""

SCENARIOS = {
    "a full disk": """
        deliver(sink, batch(0, 100))
        for fault in range(2):
            (newest,) = sorted(os.scandir(logdir), key=lambda f: f.name)[-1:]
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
    "a restart mark": """
        deliver(sink, batch(500, 10))
        sink.write(batch(100, 2000, tag="b"))
        limit(1000)
        raises(deliver, sink, batch(100, 2000, tag="b"))
        limit(resource.RLIM_INFINITY)
        deliver(sink, batch(100, 2000, tag="b"))
        sink.close()
        """,
    "an earlier run": """
        deliver(sink, batch(1000, 10))
        sink.close()
        sink = TensorBoardSink(logdir)
        deliver(sink, batch(0, 100, tag="b"))
        (*_, newest) = sorted(os.scandir(logdir), key=lambda f: f.name)
        limit(newest.stat().st_size + 1001)
        raises(deliver, sink, batch(100, 2000, tag="b"))
        limit(resource.RLIM_INFINITY)
        deliver(sink, batch(100, 2000, tag="b"))
        sink.close()
        """,
    "a removed directory": """
        deliver(sink, batch(0, 10))
        shutil.rmtree(logdir)
        error = raises(deliver, sink, batch(10, 10))
        assert "was removed while it was written to" in str(error), error
        deliver(sink, batch(10, 10))
        sink.close()
        """,
    "a failing close": """
        sink.write([Record(Kind.HPARAMS, "", 0, 1.0, {"lr": 0.1})])
        sink.flush()
        limit(1)
        raises(sink.close)
        raises(sink.flush)
        limit(resource.RLIM_INFINITY)
        """,
    "a fork": """
        sink.write(batch(0, 10))
        child = os.fork()
        if not child:
            (logdir.parent / "error").write_text(str(raises(sink.write, batch(10, 1))))
            sink.close()
            del sink
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        deliver(sink, batch(10, 10))
        sink.close()
        """,
}
for failing in ("write", "flush"):
    SCENARIOS[f"a failing {failing} of a run below"] = f"""
        def all_runs(first, count):
            return [
                *batch(first, 10),
                *batch(first, 10, run="seed_0"),
                *batch(first, count, run="seed_1"),
                *batch(first, 10, run="seed_2"),
            ]
        deliver(sink, all_runs(0, 10))
        sink.write(batch(0, 10, run="idle"))
        sink.flush()
        if {failing!r} == "write":
            limit(20000)
            raises(deliver, sink, all_runs(10, 2000))
            limit(resource.RLIM_INFINITY)
        else:
            sink.write(all_runs(10, 2000))
            shutil.move(logdir / "seed_1", logdir / "away")
            raises(sink.flush)
            shutil.move(logdir / "away", logdir / "seed_1")
        deliver(sink, all_runs(10, 2000))
        sink.close()
        """


@pytest.fixture(scope="module", params=["tensorflow", "tensorboard"])
def writer(request):
    """Run a test with both writers."""
    return request.param


@pytest.fixture(scope="module")
def finished(writer, tmp_path_factory):
    """Run all scenarios with a writer, each in a directory of its name; return the parent of these directories."""
    directory = tmp_path_factory.mktemp("faults")
    scenarios = {name: textwrap.dedent(code) for name, code in SCENARIOS.items()}
    command = [sys.executable, "-c", RUNNER, json.dumps(scenarios), str(directory), writer]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return directory


@pytest.fixture
def scenario(finished):
    """Return a function that returns the directory of a scenario, in which no exception was raised."""

    def directory_of(name: str) -> pathlib.Path:
        failed = json.loads((finished / "failed.json").read_text())
        assert name not in failed, failed[name]
        return finished / name / "run"

    return directory_of


def steps(logdir: pathlib.Path, tag: str = "a") -> list[int]:
    accumulator = EventAccumulator(str(logdir), size_guidance={"scalars": 0}).Reload()
    return [point.step for point in accumulator.Scalars(tag)]


def test_a_full_disk_loses_and_repeats_nothing(scenario, writer):
    """After repeated faults within a record, both readers show every point exactly once."""
    logdir = scenario("a full disk")
    assert len(list(logdir.iterdir())) == 3
    assert steps(logdir) == list(range(6100))
    for loader in ("rust", "python") if writer == "tensorflow" else ():
        with tensorboard(logdir.parent, loader=loader) as server:
            shown = server.scalars("run", "a", count=6100)
        assert shown == [(1000.0 + step, step, step * 0.5) for step in range(6100)]


def test_a_restart_mark_after_a_fault_keeps_confirmed_points(scenario):
    """Confirmed points stay, even with steps after those of the batch that is written again."""
    assert steps(scenario("a restart mark")) == list(range(500, 510))


def test_a_fault_in_the_directory_of_an_earlier_run(scenario):
    """The later points of the earlier run stay, and no point of this one appears twice."""
    logdir = scenario("an earlier run")
    assert steps(logdir) == list(range(1000, 1010))
    assert steps(logdir, "b") == list(range(2100))


@pytest.mark.parametrize("failing", ["write", "flush"])
def test_a_fault_in_one_run_below_loses_and_repeats_nothing(scenario, failing):
    """After a fault in one directory the batch is written again, and every directory has each point once."""
    logdir = scenario(f"a failing {failing} of a run below")
    assert steps(logdir) == steps(logdir / "seed_0") == steps(logdir / "seed_2") == list(range(20))
    assert steps(logdir / "seed_1") == list(range(2010))
    assert steps(logdir / "idle") == list(range(10))
    assert len(list((logdir / "idle").iterdir())) == 1


def test_a_removed_directory_is_created_again(scenario):
    """flush() raises if the file was removed, and the next write creates the directory again."""
    assert steps(scenario("a removed directory")) == list(range(10, 20))


def test_a_failing_close_raises(scenario):
    """close() raises if it cannot write."""
    scenario("a failing close")


def test_a_fork_writes_nothing_twice(scenario):
    """A forked child writes nothing of its parent's at exit, and its own use of the sink raises."""
    logdir = scenario("a fork")
    assert steps(logdir) == list(range(20))
    assert (
        "and this process is a fork of it: two processes cannot write to one run directory"
        in (logdir.parent / "error").read_text()
    )
