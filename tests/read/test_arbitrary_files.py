"""Reading and verification survive any file: they raise nothing, end soon and need memory in proportion to the file."""

from __future__ import annotations

import functools
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import jaxboard as jb
from jaxboard._cli.main import main
from jaxboard._read.framing import Block, read_blocks
from jaxboard.sinks import _proto, _tfrecords
from jaxboard.sinks._encoding import Events

FUZZ = settings(
    max_examples=int(os.environ.get("JAXBOARD_TEST_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@functools.cache
def real_files() -> list[bytes]:
    """Return the contents of event files with every kind of report."""
    with tempfile.TemporaryDirectory() as logdir:
        write_real_files(logdir)
        return [path.read_bytes() for path in sorted(pathlib.Path(logdir).rglob("*tfevents*"))]


def write_real_files(logdir: str) -> None:
    """Write a run with a child, and resume it."""
    with jb.Run(logdir, hparams={"lr": 0.1, "name": "x"}) as run:
        for run.step in range(12):
            jb.scalars("many", {str(i): i for i in range(5)})
            jb.scalar("loss", 0.5)
            jb.histogram("histogram", np.arange(10.0))
            jb.text("text", [["a", "b"], ["c", "d"]])
            jb.image("image", np.zeros((2, 2, 3)))
            run.child("eval").scalar("loss", 1.0)
    with jb.Run(logdir, step=6) as run:
        jb.scalar("loss", 0.5)


def records_of(content: bytes) -> list[bytes]:
    """Return the records of an intact file."""
    (block,) = read_blocks(io.BytesIO(content), len(content))
    assert isinstance(block, Block)
    bounds = zip(block.starts.tolist(), block.sizes.tolist(), strict=True)
    return [content[start : start + size] for start, size in bounds]


def check(*contents: bytes) -> None:
    """Read and verify files."""
    with tempfile.TemporaryDirectory() as logdir:
        for number, content in enumerate(contents):
            pathlib.Path(logdir, f"events.out.tfevents.{number}").write_bytes(content)
        assert main(["verify", logdir, "--json"]) in (0, 1)
        assert main(["verify", logdir]) in (0, 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", jb.JaxboardWarning)
            for kind in ("scalar", "histogram", "image", "text", "hparams", "tensor"):
                jb.read(logdir, kind=kind, frame="polars")
            jb.read(logdir, keep="all")


def framed(records: list[bytes]) -> bytes:
    """Return records with correct checksums."""
    return _tfrecords.frame(
        Events(b"".join(records), np.array([len(r) for r in records], np.int64))
    )


@FUZZ
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=3))
def test_arbitrary_bytes(contents: list[bytes]) -> None:
    """Any bytes are a file."""
    check(*contents)


@FUZZ
@given(st.data())
def test_changed_files(data) -> None:
    """Real files with some bytes changed, removed, inserted or repeated."""
    changed = bytearray(data.draw(st.sampled_from(real_files())))
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(changed)))
        end = data.draw(st.integers(start, min(len(changed), start + 100)))
        replacement = data.draw(st.binary(max_size=20) | st.just(bytes(changed[start:end]) * 2))
        changed[start:end] = replacement
    check(bytes(changed), data.draw(st.sampled_from(real_files())))


@FUZZ
@given(st.data())
def test_changed_records(data) -> None:
    """Records with correct checksums whose bytes are changed: every value of a message may be anything."""
    records = records_of(data.draw(st.sampled_from(real_files())))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(records) - 1))
        record = bytearray(records[place])
        for _ in range(data.draw(st.integers(1, 3))):
            record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
        records[place : place + 1] = [bytes(record)] * data.draw(st.sampled_from([1, 1, 7]))
    check(framed(records))


values = st.builds(
    dict,
    tag=st.sampled_from(["", "a", "b", "_hparams_/session_start_info"]),
    plugin=st.sampled_from(["", "scalars", "images", "text", "hparams", "histograms", "x"]),
    content=st.binary(max_size=8),
    dtype=st.integers(0, 30),
    shape=st.lists(st.sampled_from([-1, 0, 1, 2, 3, 1 << 62]), max_size=3),
    fields=st.dictionaries(
        st.sampled_from(["float_val", "double_val", "int_val", "half_val", "bool_val"]),
        st.lists(st.sampled_from([0, 1, 7]), max_size=6),
        max_size=2,
    ),
    strings=st.lists(st.binary(max_size=4), max_size=6),
    tensor_content=st.binary(max_size=16),
)


def message(value: dict) -> bytes:
    """Return an event with a tensor that may contradict itself."""
    event = _proto.Event(wall_time=1.0, step=1)
    entry = event.summary.value.add(tag=value["tag"])
    entry.metadata.plugin_data.plugin_name = value["plugin"]
    entry.metadata.plugin_data.content = value["content"]
    entry.tensor.dtype = value["dtype"]
    for size in value["shape"]:
        entry.tensor.tensor_shape.dim.add(size=size)
    for name, numbers in value["fields"].items():
        getattr(entry.tensor, name).extend(numbers)
    entry.tensor.string_val.extend(value["strings"])
    entry.tensor.tensor_content = value["tensor_content"]
    return event.SerializeToString()


@FUZZ
@given(st.lists(st.tuples(values, st.sampled_from([1, 1, 6])), min_size=1, max_size=4))
def test_tensors_that_contradict_themselves(entries) -> None:
    """Tensors of any dtype, with any shape and any content, under any plugin."""
    check(framed([message(value) for value, count in entries for _ in range(count)]))


@pytest.mark.parametrize("size", [1 << 40, 1 << 60, (1 << 64) - 1])
def test_memory(tmp_path, size) -> None:
    """A length of 2**60 with a correct checksum requests no memory."""
    file = tmp_path / "events.out.tfevents.1"
    file.write_bytes(_tfrecords.header(size).tobytes() + bytes(1000))
    assert main(["verify", str(tmp_path)]) == 1
    tracemalloc.start()
    assert main(["verify", str(tmp_path)]) == 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20


def test_memory_of_a_large_file(tmp_path) -> None:
    """Only a part of a file with large values is in memory."""
    event = _proto.Event(wall_time=1.0)
    value = event.summary.value.add(tag="x")
    value.tensor.tensor_content = bytes(1 << 20)
    (tmp_path / "events.out.tfevents.1").write_bytes(framed([event.SerializeToString()] * 100))
    tracemalloc.start()
    assert len(jb.read(tmp_path)) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 << 20


def test_a_shape_of_a_million_dimensions(tmp_path) -> None:
    """The size of a tensor is not computed further than needed."""
    event = _proto.Event(wall_time=1.0)
    value = event.summary.value.add(tag="x")
    value.metadata.plugin_data.plugin_name = "scalars"
    for _ in range(100_000):
        value.tensor.tensor_shape.dim.add(size=1 << 62)
    (tmp_path / "events.out.tfevents.1").write_bytes(framed([event.SerializeToString()]))
    start = time.process_time()
    assert main(["verify", str(tmp_path)]) == 1
    assert time.process_time() - start < 10


def test_names_that_are_not_text(tmp_path) -> None:
    """Names of files and directories may hold any bytes, and the output is printed in any encoding."""
    directory = os.fsencode(tmp_path) + b"/run\xff\n\x1b[2J"
    os.mkdir(directory)
    with open(directory + b"/events.out.tfevents.\xff", "wb") as file:
        file.write(b"damaged")
    for options in ([], ["--json"]):
        command = [sys.executable, "-m", "jaxboard", "verify", str(tmp_path), *options]
        environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
        done = subprocess.run(
            command, capture_output=True, env=environment, timeout=100, check=False
        )
        assert (done.returncode, done.stderr) == (1, b"")
        assert b"\x1b" not in done.stdout
