"""Compile times: told per function and phase, with hits of the persistent cache."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._host import observers
from jaxboard._telemetry.compiles import Compiles
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink


@pytest.fixture
def compiles():
    compiles = Compiles()
    compiles.start()
    yield compiles
    compiles.stop()


def scalars(sink):
    return {
        (record.tag.removeprefix("jaxboard/compile/"), record.step): float(record.value)
        for record in sink.records
        if record.kind is Kind.SCALAR
    }


def test_one_compilation(compiles):
    """A program is told by its name, with the seconds of each phase, once."""

    @jax.jit
    def train_step(x):
        return jax.jit(jnp.tanh)(x)

    for expected in (["train_step"], []):
        compiles.begin()
        train_step(np.ones(3))
        programs = compiles.end()
        assert [program.name for program in programs] == expected
        for program in programs:
            assert min(program.trace, program.lower, program.backend) > 0
            assert program.seconds == program.trace + program.lower + program.backend
            assert not program.cached


def test_calls_within_calls(compiles):
    """What is compiled in a call belongs to the innermost one around it, on the same thread."""
    compiles.begin()
    jax.jit(lambda x: x * 2)(np.ones(3))
    compiles.begin()

    def inner(x):
        return x * 3

    jax.jit(inner)(np.ones(3))

    def other(x):
        return x * 4

    thread = threading.Thread(target=jax.jit(other), args=(np.ones(3),))
    thread.start()
    thread.join()
    assert [program.name for program in compiles.end()] == ["inner"]
    assert [program.name for program in compiles.end()] == ["<lambda>"]
    assert compiles.end() == []


def test_the_persistent_cache(compiles, tmp_path):
    """A program that was read from the persistent cache is told as a hit."""
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
            compiles.begin()
            jax.jit(train_step)(np.ones(3))
            cached += [program.cached for program in compiles.end()]
            jax.clear_caches()
        assert cached == [False, True]
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def test_stopping(compiles):
    """It can be stopped again, and after somebody else has taken its listeners out."""
    jax.monitoring.unregister_event_listener(compiles._event)
    compiles.stop()
    compiles.stop()
    compiles.begin()
    jax.jit(lambda x: x * 5)(np.ones(3))
    assert compiles.end() == []


@pytest.mark.parametrize("telemetry", [None, True])
def test_a_closed_run_watches_no_longer(telemetry):
    """Nothing of a run's telemetry is called, or written, once the run is closed."""
    sink = MemorySink()
    step = jb.instrument(jax.jit(lambda x: x + 1), name="step")
    before = observers.registered()
    with jb.Run(None, sinks=[sink], telemetry=telemetry):
        step(np.ones(2))
        assert len(observers.registered()) == len(before) + 1
    written = len(sink.records)
    assert observers.registered() == before
    with jb.Run(None, sinks=[MemorySink()], telemetry=False):
        step(np.ones(3))
    assert len(sink.records) == written


def test_scalars_and_table():
    """telemetry=True: times and counts at the step that compiled, and one table of all compilations."""
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


def test_by_default_nothing_is_written():
    """Without telemetry=True a run that compiles as it should writes nothing of its own."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]):
        jb.instrument(jax.jit(lambda x: x + 1))(np.ones(2))
    assert sink.records == []
