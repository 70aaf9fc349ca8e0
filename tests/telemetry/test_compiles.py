"""Compile times are reported per function and phase, with hits of the persistent cache."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._host.observers import registry
from jaxboard._telemetry.compilations import CompilationListener
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink


@pytest.fixture
def listener():
    listener = CompilationListener()
    listener.start()
    yield listener
    listener.stop()


def scalars(sink):
    return {
        (record.tag.removeprefix("jaxboard/compile/"), record.step): float(record.value)
        for record in sink.records
        if record.kind is Kind.SCALAR
    }


def test_one_compilation(listener):
    """A program is reported once, by its name, with the seconds of each phase."""

    @jax.jit
    def train_step(x):
        return jax.jit(jnp.tanh)(x)

    for expected in (["train_step"], []):
        since = registry.events
        train_step(np.ones(3))
        compilations = listener.take(since)
        assert [c.name for c in compilations] == expected
        for c in compilations:
            assert min(c.trace, c.lower, c.backend) > 0
            assert c.seconds == c.trace + c.lower + c.backend
            assert not c.cached


def test_nested_calls(listener):
    """A compilation belongs to the innermost open call of its thread."""
    jax.jit(lambda x: x * 5)(np.ones(3))
    outer = registry.events
    jax.jit(lambda x: x * 2)(np.ones(3))
    inner_call = registry.events

    def inner(x):
        return x * 3

    jax.jit(inner)(np.ones(3))

    def other(x):
        return x * 4

    thread = threading.Thread(target=jax.jit(other), args=(np.ones(3),))
    thread.start()
    thread.join()
    assert [c.name for c in listener.take(inner_call)] == ["inner"]
    assert [c.name for c in listener.take(outer)] == ["<lambda>"]
    assert listener.take(outer) == []


def test_the_persistent_cache(listener, tmp_path):
    """A program that was read from the persistent cache is reported as a hit."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    from jax.experimental.compilation_cache import compilation_cache

    try:
        for name, value in settings.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()

        def train_step(x):
            return jnp.tanh(x) + 7

        cached = []
        for _ in range(2):
            since = registry.events
            jax.jit(train_step)(np.ones(3))
            cached += [c.cached for c in listener.take(since)]
            jax.clear_caches()
        assert cached == [False, True]
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_stopping(listener):
    """A listener can be stopped twice, and after the program has cleared all listeners."""
    jax.monitoring.clear_event_listeners()
    listener.stop()
    listener.stop()
    since = registry.events
    jax.jit(lambda x: x * 5)(np.ones(3))
    assert listener.take(since) == []


@pytest.mark.parametrize("telemetry", [None, True])
def test_a_closed_run_stops_observing(telemetry):
    """A closed run observes no calls and writes no telemetry."""
    sink = MemorySink()
    step = jb.instrument(jax.jit(lambda x: x + 1), name="step")
    before = registry.of_every_call, registry.of_compilations
    with jb.Run(None, sinks=[sink], telemetry=telemetry):
        step(np.ones(2))
        counts = len(registry.of_every_call), len(registry.of_compilations)
        assert counts == ((1, 0) if telemetry else (0, 1))
    written = len(sink.records)
    assert (registry.of_every_call, registry.of_compilations) == before
    with jb.Run(None, sinks=[MemorySink()], telemetry=False):
        step(np.ones(3))
    assert len(sink.records) == written


def test_scalars_and_table():
    """telemetry=True writes times and counts at the step that compiled, and one table of all compilations."""
    sink = MemorySink()

    @jb.instrument
    @jax.jit
    def train_step(x):
        return x.sum()

    with jb.Run(None, sinks=[sink], step=10, telemetry=True):
        for rows in (2, 2, 3):
            train_step(np.ones(rows))
    values = {k: v for k, v in scalars(sink).items() if k[0].startswith("train_step/")}
    assert {step for _, step in values} == {10, 12}
    for step in (10, 12):
        phases = [values[f"train_step/{p}_seconds", step] for p in ("trace", "lowering", "xla")]
        assert values["train_step/seconds", step] == pytest.approx(sum(phases))
    assert values["train_step/total_seconds", 12] == pytest.approx(
        values["train_step/seconds", 10] + values["train_step/seconds", 12]
    )
    assert [values["train_step/count", step] for step in (10, 12)] == [1, 2]
    assert [values["train_step/cache_hits", step] for step in (10, 12)] == [0, 0]
    tables = [r.value for r in sink.records if r.tag == "jaxboard/compile/train_step"]
    assert [len(table) for table in tables] == [2, 3]
    assert [(row[0], row[1], row[5], row[6]) for row in tables[-1]] == [
        ("step", "program", "persistent cache", "changed"),
        ("10", "train_step", "", ""),
        ("12", "train_step", "", "x: float32[2] -> float32[3] (shape)"),
    ]


def test_nothing_is_written_by_default():
    """Without telemetry=True, a run without recompiles writes no telemetry."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]):
        jb.instrument(jax.jit(lambda x: x + 1))(np.ones(2))
    assert sink.records == []
