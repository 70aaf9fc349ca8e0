"""The contract of a sink, checked for every sink, including the example in CONTRIBUTING.md."""

import json
import os
import pathlib
import re
import warnings
from typing import Any

import numpy as np
import pytest
from fork_server import run_in_fork
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from with_tensorflow import needs_tensorflow

import jaxboard as jb
from jaxboard import sinks
from jaxboard.sinks import (
    Batch,
    EncodedImage,
    Histogram,
    Kind,
    MemorySink,
    Record,
    Scalars,
    Sink,
    TensorBoardSink,
)

CONTRIBUTING = pathlib.Path(__file__).parents[2] / "CONTRIBUTING.md"

Points = dict[tuple[str, str], list[tuple[int, float]]]
"""The (step, value) pairs of each (run, tag), in the order in which a reader gets them."""


def example_code() -> str:
    """Return the first code block of the section "Adding a sink" in CONTRIBUTING.md."""
    section = CONTRIBUTING.read_text().partition("\n## Adding a sink\n")[2].partition("\n## ")[0]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    return block[1]


def group(rows: list[tuple[str, str, int, float]]) -> Points:
    points: Points = {}
    for run, tag, step, value in rows:
        points.setdefault((run, tag), []).append((step, value))
    return points


class MemoryCase:
    """MemorySink."""

    def make(self, directory: pathlib.Path) -> Sink:
        self.sink = MemorySink()
        return self.sink

    def read(self, directory: pathlib.Path) -> Points:
        scalars = [record for record in self.sink.records if record.kind is Kind.SCALAR]
        return group([(r.run, r.tag, r.step, float(r.value)) for r in scalars])


class TensorBoardCase:
    """TensorBoardSink on a local directory."""

    def make(self, directory: pathlib.Path) -> Sink:
        return TensorBoardSink(directory)

    def read(self, directory: pathlib.Path) -> Points:
        rows = []
        for folder in sorted({file.parent for file in directory.rglob("*.tfevents.*")}):
            name = folder.relative_to(directory).as_posix()
            run = "" if name == "." else name
            events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
            for tag in events.Tags()["scalars"]:
                rows += [(run, tag, point.step, point.value) for point in events.Scalars(tag)]
        return group(rows)


class RemoteCase(TensorBoardCase):
    """TensorBoardSink on a URL."""

    def make(self, directory: pathlib.Path) -> Sink:
        return TensorBoardSink(f"file://{directory}")


class ExampleCase:
    """The sink of CONTRIBUTING.md."""

    def make(self, directory: pathlib.Path) -> Sink:
        namespace: dict[str, Any] = {}
        exec(example_code(), namespace)
        return namespace["JSONLinesSink"](str(directory / "scalars.jsonl"))

    def read(self, directory: pathlib.Path) -> Points:
        path = directory / "scalars.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return group([tuple(json.loads(line)) for line in lines])


SINKS = {
    "MemorySink": MemoryCase,
    "TensorBoardSink": TensorBoardCase,
    "TensorBoardSink on a URL": RemoteCase,
    "example": ExampleCase,
}


MARKS = {"TensorBoardSink on a URL": needs_tensorflow}
EACH_SINK = [pytest.param(name, marks=MARKS.get(name, ())) for name in SINKS]


@pytest.fixture(params=EACH_SINK)
def case(request):
    """Run a test with every sink."""
    return SINKS[request.param]()


@pytest.fixture
def directory(tmp_path):
    """Create the directory that a sink writes to."""
    path = tmp_path / "run"
    path.mkdir()
    return path


def scalar(step: int, tag: str = "loss", run: str = "") -> Record:
    return Record(Kind.SCALAR, tag, step, 1000.0 + step, np.float32(step / 2), run)


def points(*steps: int) -> list[tuple[int, float]]:
    return [(step, step / 2) for step in steps]


def test_public_names():
    """jaxboard.sinks exports the sinks and every type that a sink receives, all documented."""
    own = {"MLflowSink", "MemorySink", "Sink", "TensorBoardSink", "TrackioSink", "WandbSink"}
    assert sinks.__all__ == sorted({*jb.records.__all__, *own})
    for name in sinks.__all__:
        assert getattr(sinks, name).__doc__


def test_it_is_a_sink(case, directory):
    """A sink has the methods of the protocol."""
    assert isinstance(case.make(directory), Sink)


def test_flushed_records_are_readable(case, directory):
    """After flush() a reader gets all records, single or in columns, exactly and in order; close() keeps them."""
    steps = np.arange(1, 4)
    columns = np.stack([steps / 2, steps / 2 + 10], axis=1)
    block = Scalars(("loss", "other"), steps, 1000.0 + steps, columns)
    sink = case.make(directory)
    sink.write([scalar(0), block])
    sink.write([scalar(4)])
    sink.flush()
    expected = {
        ("", "loss"): points(0, 1, 2, 3, 4),
        ("", "other"): [(1, 10.5), (2, 11.0), (3, 11.5)],
    }
    assert case.read(directory) == expected
    sink.write([scalar(5)])
    sink.close()
    expected["", "loss"] += points(5)
    assert case.read(directory) == expected


def test_an_empty_batch(case, directory):
    """An empty batch writes no record."""
    sink = case.make(directory)
    sink.write([])
    sink.flush()
    sink.close()
    assert case.read(directory) == {}


def test_runs_below_are_separate(case, directory):
    """Records of runs below keep their run, with equal tags and steps."""
    sink = case.make(directory)
    below = Scalars(("loss",), np.array([1]), np.array([1001.0]), np.array([[0.5]]), "group/mean")
    sink.write([scalar(0), scalar(0, run="seed_0"), scalar(1), below, scalar(1, run="seed_0")])
    sink.flush()
    sink.close()
    assert case.read(directory) == {
        ("", "loss"): points(0, 1),
        ("seed_0", "loss"): points(0, 1),
        ("group/mean", "loss"): points(1),
    }


def test_values_that_it_cannot_show(case, directory):
    """A record of any kind, and a value that cannot be encoded, raise nothing and leave the others intact."""

    def record(kind: Kind, value: object) -> Record:
        return Record(kind, kind.value, 1, 1001.0, value)

    others: Batch = [
        record(Kind.HISTOGRAM, Histogram(np.array([0.0, 1.0]), np.array([3]))),
        record(Kind.IMAGE, EncodedImage(b"not an image", 2, 2)),
        record(Kind.IMAGE, np.zeros((1, 2, 2, 3), np.float32)),
        record(Kind.TEXT, [["name", "value"], ["a"]]),
        record(Kind.HPARAMS, {"lr": 0.1, "model": {"depth": None}}),
        Record(Kind.SCALAR, "nan", 1, 1001.0, np.float32("nan")),
    ]
    sink = case.make(directory)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jb.JaxboardWarning)
        sink.write([scalar(0), *others, scalar(1)])
    sink.flush()
    sink.close()
    assert case.read(directory)["", "loss"] == points(0, 1)


class Flaky(MemorySink):
    """A sink whose first write and first flush fail."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Batch = []
        self.faults = {"write", "flush"}

    def fail_once(self, method: str) -> None:
        if method in self.faults:
            self.faults.remove(method)
            self.queue.clear()
            raise OSError(f"a fault of {method}")

    def write(self, batch: Batch) -> None:
        self.fail_once("write")
        self.queue += batch

    def flush(self) -> None:
        self.fail_once("flush")
        super().write(self.queue)
        self.queue.clear()


def test_a_fault_of_another_sink(case, directory):
    """If another sink of the run fails, each sink still gets every record exactly once, in order."""
    flaky = Flaky()
    with jb.Run(None, sinks=[case.make(directory), flaky], flush_secs=1000) as run:
        for step, fault in enumerate(["write", "flush"]):
            jb.scalar("loss", np.float32(step / 2), step=step)
            with pytest.raises(jb.RunError):
                run.flush()
            assert fault not in flaky.faults
        jb.scalar("loss", np.float32(1), step=2)
        run.flush()
        assert case.read(directory)["", "loss"] == points(0, 1, 2)
    assert case.read(directory)["", "loss"] == points(0, 1, 2)
    assert [record.step for record in flaky.records] == [0, 1, 2]


FULL_DISK = """
import pathlib, resource, sys
name, directory, example = sys.argv[1:]
if name == "TensorBoardSink without TensorFlow":
    sys.modules["tensorflow"] = None
import numpy as np
import jaxboard as jb
from jaxboard import sinks
from jaxboard.sinks import TensorBoardSink

if name == "example":
    namespace = {}
    exec(example, namespace)
    sink = namespace["JSONLinesSink"](directory + "/scalars.jsonl")
else:
    sink = TensorBoardSink(directory)

def limit(size):
    # A file at its size limit fails like a full disk (EFBIG instead of ENOSPC).
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def report(first, count):
    for step in range(first, first + count):
        jb.scalar("loss", np.float32(step / 2), step=step)

with jb.Run(None, sinks=[sink], flush_secs=1000) as run:
    report(0, 100)
    run.flush()
    limit(1001 + max(file.stat().st_size for file in pathlib.Path(directory).iterdir()))
    report(100, 1000)
    for _ in range(2):
        try:
            run.flush()
        except jb.RunError:
            print("raised")
    limit(resource.RLIM_INFINITY)
    report(1100, 100)
    run.flush()
    report(1200, 100)
"""


@pytest.mark.skipif(os.name != "posix", reason="the fault needs POSIX calls")
@pytest.mark.parametrize("name", EACH_SINK[1:])  # all but MemorySink
def test_its_own_fault(name, directory):
    """After a full disk that cuts a record, the run writes again, and every record appears exactly once."""
    done = run_in_fork(FULL_DISK, name, str(directory), example_code())
    assert done.returncode == 0, done.stderr
    assert done.stdout == "raised\nraised\n"
    assert SINKS[name]().read(directory) == {("", "loss"): points(*range(1300))}
