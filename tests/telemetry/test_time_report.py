"""The parts of a run's time add up to the wall time, over restarts too."""

from __future__ import annotations

import threading
import time
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from timed_runs import Clock, timed_run

import jaxboard as jb
from jaxboard._read.read import read
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink

SAVE = "/jax/orbax/write/total_duration_secs"


def curves(logdir, *, keep: Literal["last", "all"] = "last") -> dict[str, dict[int, float]]:
    """Return {tag below jaxboard/time/: {step: value}}."""
    table = read(logdir, tags="jaxboard/time/*", keep=keep)
    found: dict[str, dict[int, float]] = {}
    for tag, step, value in zip(table["tag"], table["step"], table["value"], strict=True):
        found.setdefault(tag.removeprefix("jaxboard/time/"), {})[int(step)] = float(value)
    return found


def seconds(logdir) -> dict[str, float]:
    """Return the seconds of each part at the last step."""
    found = curves(logdir)
    return {
        tag.removeprefix("seconds/"): points[max(points)]
        for tag, points in found.items()
        if tag.startswith("seconds/")
    }


@pytest.fixture
def clock():
    return Clock()


def test_points(tmp_path, clock):
    """A point is written for each window and at the end: seconds in all, shares of the window, goodput."""
    compute = jax.jit(lambda x: x + 1)
    jax.block_until_ready(compute(1.0))

    @jb.instrument
    def train_step(x):
        clock.now += 0.5
        return jax.block_until_ready(compute(x))

    with timed_run(tmp_path, clock, window=4):
        clock.now += 2
        for step in range(5):
            train_step(1.0)
            clock.now += 1.5 if step < 4 else 1
    found = curves(tmp_path)
    assert found["seconds/outside"] == {0: 2, 2: 2, 4: 3}
    assert found["seconds/device"] == {0: 0.5, 2: 1.5, 4: 2.5}
    assert found["seconds/input"] == {0: 1.5, 2: 4.5, 4: 6}
    assert found["share/input"] == {0: 1.5 / 4, 2: 0.75, 4: pytest.approx(1.5 / 3.5)}
    assert found["share/device"] == {0: 0.5 / 4, 2: 0.25, 4: pytest.approx(1 / 3.5)}
    assert found["longest_wait_seconds"] == {0: 1.5, 2: 1.5, 4: 1.5}
    assert found["goodput"] == {0: 0.125, 2: 0.1875, 4: pytest.approx(2.5 / 11.5)}
    assert set(found) == {
        *(
            f"{kind}/{part}"
            for kind in ("seconds", "share")
            for part in ("outside", "device", "input")
        ),
        "longest_wait_seconds",
        "goodput",
    }


def test_summary_and_picture(tmp_path, clock):
    """The sentence and the picture are written after 4, 8, 16, … windows, and at the end."""

    @jb.instrument
    def train_step():
        clock.now += 1

    with timed_run(tmp_path, clock, window=4):
        for _ in range(40):
            train_step()
            clock.now += 3
    texts = read(tmp_path, kind="text", tags="jaxboard/time/*")
    assert texts["tag"].unique().tolist() == ["jaxboard/time/summary"]
    assert texts["step"].tolist() == [3, 7, 15, 31, 39]
    assert texts["value"].tolist()[0] == (
        "75 % of the time waits for input, 25 % dispatches steps."
    )
    pictures = read(tmp_path, kind="image", tags="jaxboard/time/*")
    assert pictures["tag"].unique().tolist() == ["jaxboard/time/picture"]
    assert pictures["step"].tolist() == [3, 7, 15, 31, 39]
    (image,) = pictures["value"].iloc[-1]
    pixels = np.array(image_of(image.data))
    colors = {tuple(color) for color in pixels.reshape(-1, 3).tolist()}
    assert {(217, 95, 14), (250, 218, 94)} <= colors  # input, dispatch
    assert (52, 128, 84) not in colors  # device


def image_of(data: bytes):
    """Return an image from the content of its file."""
    import io

    from PIL import Image

    return Image.open(io.BytesIO(data))


def test_a_long_run_has_a_bounded_picture(clock):
    """If there are many windows, several share a column; the time of all is kept."""
    from jaxboard._telemetry.time_report import TimePicture

    columns = TimePicture()
    for number in range(1000):
        columns.add({"device": 1.0, "input": float(number)} | dict.fromkeys(others(), 0.0))
    assert len(columns.values) == 250
    assert columns.values.sum(axis=0).tolist()[:2] == [1000, sum(range(1000))]
    assert columns.values[0].tolist()[:2] == [4, sum(range(4))]


def others() -> list[str]:
    from jaxboard._telemetry.time_parts import NAMES

    return [name for name in NAMES if name not in ("device", "input")]


def test_only_the_training_thread_counts(tmp_path, clock):
    """Calls on other threads, of other runs, and within calls do not disturb the account."""

    @jb.instrument(advance=False)
    def inner():
        clock.now += 1

    @jb.instrument
    def train_step():
        inner()
        clock.now += 1

    def train_in_another_run():
        with jb.Run(None, sinks=[MemorySink()], telemetry=False):
            train_step()

    with timed_run(tmp_path, clock):
        thread = threading.Thread(target=train_in_another_run)
        thread.start()
        thread.join()
        train_step()
        thread = threading.Thread(target=train_step)
        thread.start()
        thread.join()
        with jb.Run(None, sinks=[MemorySink()], telemetry=False):
            train_step()
        train_step()
    assert seconds(tmp_path) == {"outside": 2, "dispatch": 4, "input": 4}


def test_one_point_for_a_step(tmp_path, clock):
    """A long evaluation has one step, and one point."""

    @jb.instrument
    def train_step():
        clock.now += 1

    @jb.instrument(advance=False)
    def evaluate():
        clock.now += 1

    with timed_run(tmp_path, clock, window=2):
        train_step()
        for _ in range(9):
            evaluate()
            clock.now += 1
        train_step()
        train_step()
    found = curves(tmp_path, keep="all")
    assert list(read(tmp_path, tags="jaxboard/time/goodput", keep="all")["step"]) == [0, 1, 2]
    assert found["seconds/evaluation"] == {0: 2, 1: 17, 2: 17}
    assert found["seconds/input"] == {1: 1, 2: 1}
    assert found["seconds/dispatch"] == {0: 1, 1: 2, 2: 3}


def test_checkpoints(tmp_path, clock):
    """Spans that Orbax reports on the thread of the training loop are checkpoint time."""

    @jb.instrument
    def train_step():
        clock.now += 1

    with timed_run(tmp_path, clock):
        clock.now += 3
        jax.monitoring.record_event_duration_secs("/jax/orbax/read/total_duration_secs", 2.0)
        for _ in range(4):
            train_step()
            clock.now += 4
            jax.monitoring.record_event_duration_secs("/jax/orbax/write/d2h_secs", 3.0)
            jax.monitoring.record_event_duration_secs(SAVE, 3.5)
            thread = threading.Thread(
                target=jax.monitoring.record_event_duration_secs, args=(SAVE, 1.0)
            )
            thread.start()
            thread.join()
    assert seconds(tmp_path) == {"outside": 1.5, "checkpoint": 16, "dispatch": 4, "input": 1.5}


def test_a_restart(tmp_path, clock):
    """A resumed run continues the account; the time since the point that it continues from is lost."""

    @jb.instrument
    def train_step():
        clock.now += 1

    with timed_run(tmp_path, clock, window=8):
        for _ in range(20):
            train_step()
            clock.now += 1
    assert seconds(tmp_path) == {"dispatch": 20, "input": 19, "outside": 1}
    clock.now += 60
    with timed_run(tmp_path, clock, window=8, step=10):
        for _ in range(4):
            train_step()
    # The last point before step 10 is that of step 7, 16 s after the start; the run went on for 24 s.
    assert seconds(tmp_path) == {"dispatch": 8 + 4, "input": 8, "redone": 24, "stopped": 60}
    assert sum(seconds(tmp_path).values()) == clock.now - 100
    assert curves(tmp_path)["goodput"][13] == 0
    clock.now += 5
    with timed_run(tmp_path, clock, step=14):
        train_step()
    assert seconds(tmp_path) == {"dispatch": 13, "input": 8, "redone": 24, "stopped": 65}


def test_a_restart_from_a_state(tmp_path, clock):
    """The state of a run has the account up to the moment in which it was saved, without any event file."""

    @jb.instrument
    def train_step():
        clock.now += 1

    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
    with timed_run(first, clock) as monitor:
        train_step()
        train_step()
        clock.now += 2
        totals = monitor.totals()
        clock.now += 4
        train_step()
    clock.now += 50
    with timed_run(second, clock, step=2, earlier_totals=totals):
        clock.now += 1
        train_step()
    assert seconds(second) == {"dispatch": 3, "outside": 1, "stopped": 57}
    assert sum(seconds(second).values()) == clock.now - 100


def test_fresh_runs_do_not_continue(tmp_path, clock):
    """A run that begins at step 0 has an account of its own, whatever is in its directory."""

    @jb.instrument
    def train_step():
        clock.now += 1

    for _ in range(2):
        with timed_run(tmp_path, clock):
            train_step()
        clock.now += 9
    assert seconds(tmp_path) == {"dispatch": 1}


def test_the_sum_is_the_wall_time(tmp_path):
    """In a real run, the parts add up to the time from opening the run to closing it."""

    @jb.instrument
    @jax.jit
    def train_step(w):
        jb.scalar("loss", w.mean())
        return jnp.tanh(w @ w)

    sink = MemorySink()
    before = time.perf_counter()
    with jb.Run(None, sinks=[sink], telemetry=jb.Telemetry(window=0.01)):
        opened = time.perf_counter()
        w = jnp.ones((64, 64))
        for size in (64, 32):
            for _ in range(20):
                w = train_step(w)
            w = w[:size, :size]
        float(w[0, 0])
        done = time.perf_counter()
    closed = time.perf_counter()
    found = seconds_in(sink)
    assert done - opened <= sum(found.values()) <= closed - before
    assert found["compile"] > 0
    assert found["device"] > 0
    assert [t.name for t in threading.enumerate() if t.name == "jaxboard readiness"] == []


def test_the_state_of_a_real_run():
    """A run that continues from a state has the whole time since the first one was opened."""

    @jb.instrument
    def train_step():
        return np.zeros(2)

    before = time.time()
    with jb.Run(None, sinks=[MemorySink()], telemetry=True) as run:
        opened = time.time()
        train_step()
        state = run.state()
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], state=state, telemetry=True):
        train_step()
        done = time.time()
    closed = time.time()
    found = seconds_in(sink)
    assert {"stopped", "dispatch"} <= set(found)
    assert done - opened - 1e-3 <= sum(found.values()) <= closed - before + 1e-3


def seconds_in(sink: MemorySink) -> dict[str, float]:
    """Return the seconds of each part in the last point."""
    prefix = "jaxboard/time/seconds/"
    return {
        record.tag.removeprefix(prefix): float(record.value)
        for record in sink.records
        if record.kind is Kind.SCALAR and record.tag.startswith(prefix)
    }
