"""Step times, rates and percentiles are exact, measured with a clock that the tests set."""

from __future__ import annotations

import contextlib
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._run import channel_of
from jaxboard._telemetry.monitor import start_monitor
from jaxboard._telemetry.step_times import StepTimes
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@contextlib.contextmanager
def telemetry_of(clock, **settings):
    """Yield {tag: {step: value}} of the block's telemetry by the test's clock; filled after the block."""
    sink = MemorySink()
    points: dict = {}
    with jb.Run(None, sinks=[sink], telemetry=False) as run:
        monitor = start_monitor(
            jb.Telemetry(**settings),
            channel_of(run),
            logdir=None,
            flusher_seconds=lambda: 1.5,
            clock=clock,
        )
        assert monitor is not None
        try:
            yield points
        finally:
            monitor.stop()
    for record in sink.records:
        if record.kind is Kind.SCALAR:
            tag = record.tag.removeprefix("jaxboard/")
            points.setdefault(tag, {})[record.step] = float(record.value)


def test_times_of_a_window(clock):
    """A window has the rate, percentiles, and time in and between calls of its steps."""

    @jb.instrument
    def train_step(seconds):
        clock.now += seconds

    with telemetry_of(clock, window=1000) as points:
        for i in range(1, 21):
            train_step(0.25)
            clock.now += i - 0.25
        train_step(0)  # ends the previous step; its own step has no end
    assert {tag: value for tag, value in points.items() if tag.startswith("step/")} == {
        "step/train_step/per_second": {19: 20 / 210},
        "step/train_step/seconds_p50": {19: 10.0},
        "step/train_step/seconds_p95": {19: 19.0},
        "step/train_step/seconds_max": {19: 20.0},
        "step/train_step/call_seconds": {19: 0.25},
        "step/train_step/host_wait_seconds": {19: 205 / 20},
    }


def test_windows(clock):
    """A point is written at the last step of each full window, and at the end of the run."""

    @jb.instrument
    def train_step():
        clock.now += 0.5

    with telemetry_of(clock, window=2) as points:
        for _ in range(10):
            train_step()
    assert points["step/train_step/per_second"] == {3: 2.0, 7: 2.0, 8: 2.0}


def test_examples_per_second(clock):
    """The units of a call are a number, or a function of its arguments."""

    @jb.instrument
    def train_step(batch):
        clock.now += 0.5

    per_call = {
        "train_step": {"examples": len, "tokens": 1024},
        "another": {"examples": 1},
    }
    with telemetry_of(clock, per_call=per_call, window=100) as points:
        for rows in (3, 5, 7):
            train_step(np.ones(rows))
    assert points["step/train_step/examples_per_second"] == {1: 8.0}
    assert points["step/train_step/tokens_per_second"] == {1: 2048.0}


def test_a_count_that_fails(clock, caplog):
    """A count that raises is logged once and left out; the step and the other counts continue."""

    @jb.instrument
    def train_step(batch):
        clock.now += 0.5

    per_call = {"train_step": {"examples": lambda batch: batch.rows, "tokens": 2}}
    with telemetry_of(clock, per_call=per_call, window=100) as points:
        for _ in range(3):
            train_step(1)
    assert points["step/train_step/tokens_per_second"] == {1: 4.0}
    assert "step/train_step/examples_per_second" not in points
    (record,) = caplog.records
    assert record.getMessage() == (
        "jaxboard: Telemetry(per_call=...): counting the examples of train_step failed: AttributeError: "
        "'int' object has no attribute 'rows'. They are not reported any more."
    )


def test_steps_that_compile_are_left_out(clock):
    """Steps that compile do not count as step times."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        clock.now += 64  # while tracing: this is how long compiling takes
        return x

    with telemetry_of(clock, window=1000) as points:
        for rows in (1, 1, 1, 2, 2):
            train_step(np.ones(rows))
            clock.now += 0.5
    assert points["step/train_step/seconds_max"] == {2: 0.5}
    assert points["step/train_step/per_second"] == {2: 2.0}


def test_a_step_ends_where_the_next_call_begins(clock):
    """A step time includes calls within the call, but not the evaluation that follows."""

    @jb.instrument(advance=False)
    def inner():
        clock.now += 1

    @jb.instrument
    def train_step():
        inner()
        clock.now += 1

    @jb.instrument(advance=False)
    def evaluate():
        clock.now += 8

    with telemetry_of(clock, window=1000) as points:
        train_step()
        train_step()
        evaluate()
        train_step()
    assert points["step/train_step/seconds_max"] == {1: 2.0}
    assert points["step/evaluate/seconds_max"] == {1: 8.0}
    assert not any("inner" in tag for tag in points)


def test_no_array_is_kept_alive(clock):
    """Between calls, telemetry holds no array of the user."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        return x + 1

    with telemetry_of(clock):
        for _ in range(2):
            x = jnp.ones(3)
            y = train_step(x)
            gone = [weakref.ref(x), weakref.ref(y)]
            del x, y
            assert [ref() for ref in gone] == [None, None]


def test_percentiles_of_the_latest(clock):
    """In a long window, percentiles cover the latest steps; the rate and the maximum cover all."""
    points = {}

    class Reporter:
        def is_active(self):
            return True

        def scalars(self, step, values):
            points.update(values)

    from jaxboard._host.observers import Call

    steps = StepTimes(Reporter(), jb.Telemetry(window=1e9), clock)  # type: ignore[arg-type]
    function: Any = None
    for i in range(5001):
        call = Call(function, "f", i, True, (), {})
        steps.begin_call(call)
        steps.end_call(call, compiled=False)
        clock.now += 4 if i < 500 else 1
    steps.finish()
    assert points["step/f/seconds_p50"] == points["step/f/seconds_p95"] == 1
    assert points["step/f/seconds_max"] == 4
    assert points["step/f/per_second"] == 5000 / (500 * 4 + 4500)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "Telemetry(window=0): expected a number above 0."),
        ({"peak_flops": True}, "Telemetry(peak_flops=True): expected a number above 0."),
        (
            {"per_call": {"examples": 3}},
            (
                "Telemetry(per_call={'examples': 3}): expected counts by function, as in "
                "{'train_step': {'examples': 32}}."
            ),
        ),
        (
            {"per_call": {"f": {"examples": "3"}}},
            "Telemetry(per_call['f']['examples']='3'): expected a number above 0.",
        ),
    ],
)
def test_bad_settings(settings, message):
    """The error names the argument, its value and what is expected."""
    with pytest.raises(jb.UsageError) as caught:
        jb.Telemetry(**settings)
    assert str(caught.value) == message


def test_a_bad_telemetry_argument():
    """Run(telemetry=...) raises unless it gets a bool or settings."""
    with pytest.raises(jb.UsageError) as caught:
        jb.Run(None, sinks=[MemorySink()], telemetry="all")  # type: ignore[arg-type]
    assert str(caught.value) == "Run(telemetry='all'): expected a bool or a jaxboard.Telemetry."
    assert jb.current_run() is None
