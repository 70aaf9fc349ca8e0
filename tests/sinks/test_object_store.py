"""Event files in object stores: how much is uploaded, and what happens if an upload fails."""

import logging
import pathlib
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from event_files import scalar_points
from object_stores import new_store

import jaxboard as jb
from jaxboard.records import Batch, Scalars
from jaxboard.sinks import TensorBoardSink
from jaxboard.sinks._directory import Directory

PERIOD = 15.0
"""Seconds between two flushes of a run in a remote directory."""


def batch(first: int, count: int) -> Batch:
    steps = np.arange(first, first + count)
    return [Scalars(("a",), steps, 1000.0 + steps, steps[:, None] * 0.5)]


def steps(directory: pathlib.Path) -> list[int]:
    return [step for step, _ in scalar_points(directory, "a")]


def write_an_hour(directory: Directory, counts: list[int], clock: list[float]) -> None:
    """Write and flush as the run does, with so many points in each flush."""
    first = 0
    for count in counts:
        directory.write(batch(first, count), print)
        directory.flush()
        directory.confirm()
        first += count
        clock[0] += PERIOD
    directory.close()


FLUSHES = int(3600 / PERIOD)
RATES = {
    "constant": [150] * FLUSHES,
    "slow": [45] * FLUSHES,
    "bursts": [5000 if flush % 20 == 0 else 60 for flush in range(FLUSHES)],
    "falling": [10_000 // (flush + 1) + 60 for flush in range(FLUSHES)],
    "rising": [60 + flush for flush in range(FLUSHES)],
}


@pytest.mark.parametrize("rate", RATES)
def test_an_hour_of_uploads(tmp_path, rate):
    """In an hour at most twice the written bytes are uploaded, and no finished file is uploaded again."""
    scheme, store = new_store()
    clock = [0.0]
    directory = Directory(f"{scheme}://bucket/run", None, clock=lambda: clock[0])
    write_an_hour(directory, RATES[rate], clock)
    sizes = {path: len(file.getvalue()) for path, file in store.store.items()}
    uploaded = sum(size for _, size in store.uploads)
    assert uploaded <= 2 * sum(sizes.values())
    order = [path for path, _ in store.uploads]
    assert order == sorted(order)  # A file is uploaded before the first upload of the next one.
    store.copy_to(tmp_path)
    assert steps(tmp_path / "bucket" / "run") == list(range(sum(RATES[rate])))


def test_one_file_would_cost_quadratic_uploads():
    """A file that is never finished is uploaded 120 times in an hour; files last at least 20 s."""
    scheme, store = new_store()
    clock = [0.0]
    directory = Directory(f"{scheme}://bucket/run", None, clock=lambda: 0.0)
    write_an_hour(directory, RATES["constant"], clock)
    (file,) = store.store.values()
    uploaded = sum(size for _, size in store.uploads)
    assert uploaded / len(file.getvalue()) == pytest.approx((FLUSHES + 1) / 2, rel=0.01)


def test_few_points_stay_in_one_file():
    """Files of up to 2 KiB are not finished: a point a minute does not make hundreds of files."""
    scheme, store = new_store()
    clock = [0.0]
    directory = Directory(f"{scheme}://bucket/run", None, clock=lambda: clock[0])
    write_an_hour(directory, [1] * 40, clock)
    (file,) = store.store.values()
    assert len(file.getvalue()) < 2048


FAULTS = {
    "an upload is refused": ["refuse"],
    "an answer is lost": ["interrupt"],
    "the cut fails, too": ["interrupt", "refuse"],
    "the store is down for a while": ["refuse"] * 5,
    "every second upload fails": ["interrupt", "", "refuse", ""],
}


@pytest.mark.parametrize("faults", FAULTS)
def test_a_failed_upload_loses_and_repeats_nothing(tmp_path, faults):
    """After failed uploads the caller writes again, and every point is there once, also of a run below."""
    scheme, store = new_store()
    sink = TensorBoardSink(f"{scheme}://bucket/run")
    below = [Scalars(("a",), np.arange(9), np.arange(9.0), np.zeros((9, 1)), "seed_0")]
    sink.write(batch(0, 10))
    sink.flush()
    store.faults += FAULTS[faults]
    while True:  # The contract of a sink: what is not flushed is written again.
        try:
            sink.write([*batch(10, 10), *below])
            sink.flush()
            break
        except Exception:  # A RunError if a new file cannot be opened.
            continue
    sink.write(batch(20, 10))
    sink.close()
    store.copy_to(tmp_path)
    assert steps(tmp_path / "bucket" / "run") == list(range(30))
    assert steps(tmp_path / "bucket" / "run" / "seed_0") == list(range(9))


def test_a_run_in_an_object_store(tmp_path, caplog):
    """A run writes to a URL without TensorFlow, flushes every 30 s by default, and logs that once."""
    caplog.set_level(logging.INFO, logger="jaxboard")
    scheme, store = new_store()
    for first in (0, 5):
        with jb.Run(f"{scheme}://bucket/run") as run:
            for step in range(first, first + 5):
                jb.scalar("a", 0.5 * step, step=step)
            assert run._flusher._period == PERIOD
    logged = [line for line in caplog.messages if "uploads the open event file again" in line]
    assert len(logged) == 1
    assert logged[0].startswith(f"{scheme}://bucket/run is a URL")
    store.copy_to(tmp_path)
    assert steps(tmp_path / "bucket" / "run") == list(range(10))


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_resumed_run(tmp_path, slash):
    """``Run(step=)`` hides the points from that step on, in all files, also of a run below; ``resume`` goes on."""
    scheme, store = new_store()
    parts: list[tuple[dict[str, Any], int, int]] = [
        ({}, 0, 100),
        ({"step": 50}, 50, 80),
        ({"resume": "auto"}, 80, 90),
    ]
    for options, first, last in parts:
        with jb.Run(f"{scheme}://bucket/run{slash}", max_file_bytes=1000, **options) as run:
            assert run.step == first
            for step in range(first, last):
                jb.scalar("a", 0.5 * step, step=step)
                run.child("eval").scalar("a", 0.5 * step, step=step)
                if step % 10 == 9:
                    run.flush()
    assert not [path for path in store.store if "//" in path]
    store.copy_to(tmp_path)
    assert steps(tmp_path / "bucket" / "run") == list(range(90))
    assert steps(tmp_path / "bucket" / "run" / "eval") == list(range(90))


@pytest.mark.parametrize(
    ("options", "period"), [({}, 15.0), ({"flush_secs": 2}, 1.0), ({"flush_secs": 1000}, 500.0)]
)
def test_flush_secs(options, period):
    """An explicit flush_secs wins; a sink with a URL counts, too."""
    scheme, _ = new_store()
    sinks = [TensorBoardSink(f"{scheme}://bucket/run")]
    with jb.Run(None, sinks=sinks, **options) as run:
        assert run._flusher._period == period


READ = """
import sys
sys.modules["tensorflow"] = None
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
import jaxboard as jb
events = EventAccumulator("memory://bucket/run", size_guidance={"scalars": 0})
with jb.Run("memory://bucket/run", max_file_bytes=2000) as run:
    for first in range(0, 500, 50):
        for step in range(first, first + 50):
            jb.scalar("a", 0.5 * step, step=step)
        run.flush()
        points = [(point.step, point.value) for point in events.Reload().Scalars("a")]
        assert points == [(step, 0.5 * step) for step in range(first + 50)], points
assert "tensorflow" not in {name for name, module in sys.modules.items() if module}
"""


def test_tensorboard_reads_what_fsspec_wrote():
    """TensorBoard's reader follows a growing run through fsspec, over several files, without TensorFlow."""
    command = [sys.executable, "-c", textwrap.dedent(READ)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
