"""Telemetry keeps listening to ``jax.monitoring``, and takes its events whatever labels they have."""

from __future__ import annotations

import jax
import jax.monitoring
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._telemetry.jax_listener import JaxListener
from jaxboard.sinks import MemorySink


class Recorder(JaxListener):
    """A listener that keeps what it receives."""

    def __init__(self):
        super().__init__()
        self.received = []

    def on_event(self, event):
        self.received.append(event)

    def on_duration(self, event, seconds, labels):
        self.received.append((event, seconds, labels))


@pytest.fixture
def recorder():
    recorder = Recorder()
    recorder.start()
    yield recorder
    recorder.stop()


def emit():
    jax.monitoring.record_event("/test/event")
    jax.monitoring.record_event_duration_secs("/test/duration", 0.5)


ONCE = ["/test/event", ("/test/duration", 0.5, {})]


@pytest.mark.parametrize("clear", [True, False])
def test_listeners_are_restored_once(recorder, clear):
    """After ``clear_event_listeners()`` a listener is registered again, and never twice."""
    if clear:
        jax.monitoring.clear_event_listeners()
        emit()
        assert recorder.received == []
    for _ in range(3):
        recorder.restore()
    emit()
    assert recorder.received == ONCE


def test_a_stopped_listener_stays_stopped(recorder):
    """Nothing is registered after ``stop``."""
    recorder.stop()
    recorder.restore()
    emit()
    assert recorder.received == []


def test_a_listener_of_the_user_raises(recorder):
    """If another listener raises before the probe arrives, nothing is registered twice, and nothing is raised."""

    def refuse(*_, **__):
        raise RuntimeError("not for me")

    recorder.stop()
    jax.monitoring.register_event_time_span_listener(refuse)
    try:
        recorder.start()
        recorder.restore()
    finally:
        jax.monitoring.unregister_event_time_span_listener(refuse)
    emit()
    assert recorder.received == ONCE


@pytest.mark.parametrize("telemetry", [None, True])
def test_labels_with_the_names_of_parameters(telemetry):
    """Labels named ``self``, ``event`` and ``seconds`` do not raise into the program that emits them."""
    names = {"self": 1, "seconds": 2, "labels": 3, "duration_secs": 4, "_": 5}
    with jb.Run(None, sinks=[MemorySink()], telemetry=telemetry):
        jax.monitoring.record_event("/test/event", **names)
        jax.monitoring.record_event_duration_secs("/test/duration", 0.5, **names)
        jax.monitoring.record_event_time_span("/test/span", 0.0, 1.0, **names)


def test_a_run_notices_that_its_listeners_are_gone():
    """After ``clear_event_listeners()``, recompilations have alarms, and compilations are a part of the time."""
    sink = MemorySink()

    @jb.instrument
    @jax.jit
    def step(x):
        return x * 2

    with jb.Run(None, sinks=[sink], telemetry=True) as run:
        jax.monitoring.clear_event_listeners()
        for _ in range(2):  # Between two flushes, the flusher polls.
            run.flush()
        step(np.ones(3, np.float32))
        step(np.ones(4, np.float32))
    (alarm,) = [r for r in sink.records if r.tag.startswith("jaxboard/recompiles/")]
    assert "- `x: float32[3] -> float32[4] (shape)`" in alarm.value
    assert "jaxboard/time/compile/xla" in {r.tag for r in sink.records}
