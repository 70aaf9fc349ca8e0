"""Step times, rates and their percentiles: exact, by a clock that the tests turn."""

from __future__ import annotations

import contextlib
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._run import channel_of
from jaxboard._telemetry.monitor import TelemetryMonitor
from jaxboard._telemetry.steps import Steps
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
def watched(clock, **settings):
    """Telemetry by the test's clock: yields {tag: {step: value}}, complete after the block."""
    sink = MemorySink()
    points: dict = {}
    with jb.Run(None, sinks=[sink], telemetry=False) as run:
        watch = TelemetryMonitor(
            channel_of(run),
            jb.Telemetry(**settings),
            logdir=None,
            flusher_seconds=lambda: 1.5,
            clock=clock,
        )
        watch.start()
        try:
            yield points
        finally:
            watch.stop()
    for record in sink.records:
        if record.kind is Kind.SCALAR:
            tag = record.tag.removeprefix("jaxboard/")
            points.setdefault(tag, {})[record.step] = float(record.value)


def test_times_of_a_window(clock):
    """Rate, percentiles, time in calls and between them, of the steps that a window holds."""

    @jb.instrument
    def train_step(seconds):
        clock.now += seconds

    with watched(clock, window=1000) as points:
        for i in range(1, 21):
            train_step(0.25)
            clock.now += i - 0.25
        train_step(0)  # ends the step before; has no end of its own
    assert {tag: value for tag, value in points.items() if tag.startswith("step/")} == {
        "step/train_step/per_second": {19: 20 / 210},
        "step/train_step/seconds_p50": {19: 10.0},
        "step/train_step/seconds_p95": {19: 19.0},
        "step/train_step/seconds_max": {19: 20.0},
        "step/train_step/call_seconds": {19: 0.25},
        "step/train_step/host_wait_seconds": {19: 205 / 20},
    }


def test_windows(clock):
    """A point is written when the window's seconds have passed, at its last step; the rest at the end."""

    @jb.instrument
    def train_step():
        clock.now += 0.5

    with watched(clock, window=2) as points:
        for _ in range(10):
            train_step()
    assert points["step/train_step/per_second"] == {3: 2.0, 7: 2.0, 8: 2.0}


def test_examples_per_second(clock):
    """What a call takes in is a number, or told by its arguments, donated ones too."""

    @jb.instrument
    def train_step(batch):
        clock.now += 0.5

    per_call = {
        "train_step": {"examples": len, "tokens": 1024},
        "another": {"examples": 1},
    }
    with watched(clock, per_call=per_call, window=100) as points:
        for rows in (3, 5, 7):
            train_step(np.ones(rows))
    assert points["step/train_step/examples_per_second"] == {1: 8.0}
    assert points["step/train_step/tokens_per_second"] == {1: 2048.0}


def test_a_count_that_fails(clock, caplog):
    """It is logged once and left out; the step and the other counts go on."""

    @jb.instrument
    def train_step(batch):
        clock.now += 0.5

    per_call = {"train_step": {"examples": lambda batch: batch.rows, "tokens": 2}}
    with watched(clock, per_call=per_call, window=100) as points:
        for _ in range(3):
            train_step(1)
    assert points["step/train_step/tokens_per_second"] == {1: 4.0}
    assert "step/train_step/examples_per_second" not in points
    (record,) = caplog.records
    assert record.getMessage() == (
        "jaxboard: Telemetry(per_call=...): counting the examples of train_step failed: AttributeError: "
        "'int' object has no attribute 'rows'. They are not shown from here on."
    )


def test_steps_that_compile_are_left_out(clock):
    """A compilation is no step time."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        clock.now += 64  # while tracing: this is how long compiling takes
        return x

    with watched(clock, window=1000) as points:
        for rows in (1, 1, 1, 2, 2):
            train_step(np.ones(rows))
            clock.now += 0.5
    assert points["step/train_step/seconds_max"] == {2: 0.5}
    assert points["step/train_step/per_second"] == {2: 2.0}


def test_a_step_ends_where_the_next_call_begins(clock):
    """An evaluation between two steps is not the step's time; a call within a call is."""

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

    with watched(clock, window=1000) as points:
        train_step()
        train_step()
        evaluate()
        train_step()
    assert points["step/train_step/seconds_max"] == {1: 2.0}
    assert points["step/evaluate/seconds_max"] == {1: 8.0}
    assert not any("inner" in tag for tag in points)


def test_nothing_is_kept_alive(clock):
    """Between calls, telemetry holds no array of the user's."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        return x + 1

    with watched(clock):
        for _ in range(2):
            x = jnp.ones(3)
            y = train_step(x)
            gone = [weakref.ref(x), weakref.ref(y)]
            del x, y
            assert [ref() for ref in gone] == [None, None]


def test_percentiles_of_the_latest(clock):
    """Of very many steps in one window the latest are sorted; the rate and the maximum are of all."""
    points = {}

    class Reporter:
        def scalars(self, step, values):
            points.update(values)

    from jaxboard._host.observers import Call

    steps = Steps(Reporter(), jb.Telemetry(window=1e9), clock, lambda *_: None)  # type: ignore[arg-type]
    for i in range(5001):
        call = Call(None, "f", i, True, (), {})
        steps.begin(call, counts=True)
        steps.end(call, compiled=False)
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
    """Each says what was passed and what is expected."""
    with pytest.raises(jb.RunError) as caught:
        jb.Telemetry(**settings)
    assert str(caught.value) == message


def test_a_bad_telemetry():
    """Run(telemetry=...) takes a bool or settings."""
    with pytest.raises(jb.RunError) as caught:
        jb.Run(None, sinks=[MemorySink()], telemetry="all")  # type: ignore[arg-type]
    assert str(caught.value) == "Run(telemetry='all'): expected a bool or a jaxboard.Telemetry."
    assert jb.current_run() is None
