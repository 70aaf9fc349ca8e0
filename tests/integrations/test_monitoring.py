"""``integrations.monitoring`` and ``integrations.metrax``: events of ``jax.monitoring`` become points."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.integrations import monitoring
from jaxboard.integrations.metrax import LoggingBackend
from jaxboard.sinks import MemorySink
from jaxboard.testing import capture

emit = jax.monitoring
emit_scalar = cast("Callable[..., None]", emit.record_scalar)
"""Libraries also emit arrays, which the annotation of JAX leaves out."""


def points(records):
    return sorted((record.tag, record.step, float(record.value)) for record in records)


def test_each_kind_of_event():
    """In a step, scalars are averaged, durations added and events counted, whatever their labels; a step= has its own point."""
    with jb.Run(None, sinks=[sink := MemorySink()]) as run, monitoring.reports("/lib", "train/"):
        for run.step in range(2):
            emit.record_scalar("/lib/queue", 2.0)
            emit.record_scalar("/lib/queue", jnp.float32(4.0), shard=1)
            emit.record_event_duration_secs("/lib/write_secs", 0.25, step_count=2)
            emit.record_event_duration_secs("/lib/write_secs", 0.5, seconds="label")
            emit.record_event("/lib/retry", event_id=3)
            emit.record_event("/lib/retry")
        emit_scalar("train/loss", np.full((1,), 0.5), step=7)
        emit.record_event("/lib/retry")
    emit.record_scalar("/lib/queue", 9.0)
    assert points(sink.records) == [
        ("lib/queue", 0, 3.0),
        ("lib/queue", 1, 3.0),
        ("lib/retry", 0, 2.0),
        ("lib/retry", 1, 2.0),
        ("lib/retry", 7, 1.0),
        ("lib/write_secs", 0, 0.75),
        ("lib/write_secs", 1, 0.75),
        ("train/loss", 7, 0.5),
    ]


def test_prefixes_and_runs(tmp_path):
    """Prefixes select events, with or without the leading slash; two blocks report to their own runs, from any thread."""
    with jb.Run(None, sinks=[a := MemorySink()]) as first, jb.Run(None, sinks=[b := MemorySink()]):
        with (
            monitoring.reports("lib/a", "/other", run=first.child("events")),
            monitoring.reports("/lib"),
        ):
            for event in ("/lib/a", "/lib/b", "/other/x", "/else"):
                thread = threading.Thread(target=emit.record_scalar, args=(event, 1.0))
                thread.start()
                thread.join()
        emit.record_scalar("/lib/a", 2.0)
    assert [(r.run, r.tag) for r in a.records] == [("events", "lib/a"), ("events", "other/x")]
    assert [(r.run, r.tag) for r in b.records] == [("", "lib/a"), ("", "lib/b")]


def test_each_run_has_its_steps():
    """Steps that events carried in one run do not count in the next one."""
    runs = []
    with monitoring.reports("lib"):
        for last in (5, 2):
            with jb.Run(None, sinks=[sink := MemorySink()]) as run:
                runs.append(run)
                emit.record_scalar("lib/loss", 1.0, step=last)
                emit.record_scalar("lib/loss", 1.0, step=1)
                emit.record_event("lib/save")
            assert points(sink.records)[-1] == ("lib/save", last, 1.0)


def test_while_jax_traces():
    """An event that is emitted while JAX traces is one point, and the compiled program reports nothing."""

    @jax.jit
    def f(x):
        emit.record_scalar("traced/size", 3.0)
        return 2 * x

    with capture() as records, monitoring.reports("traced/"):
        jaxpr = jax.make_jaxpr(f)(1.0)
        for _ in range(2):
            jb.instrument(f)(1.0)
    assert points(records) == [("traced/size", 0, 3.0)]
    assert not jaxpr.effects


def test_compilations():
    """JAX's own durations are reported; the times at which they began, under the same names, are not."""
    event = "jax/core/compile/backend_compile_duration"
    with capture() as records, monitoring.reports("/jax/core/compile"):
        jax.jit(lambda x: x * 12.345)(jnp.ones(7))
    values = [float(record.value) for record in records if record.tag == event]
    assert len(values) == 1
    assert 0 < values[0] < 300


def test_nothing_raises_into_the_library(caplog):
    """A value that cannot be reported is logged once for each event, and the library goes on."""
    with capture() as records, monitoring.reports("lib", "/none"):
        for _ in range(2):
            emit_scalar("/lib/vector", np.ones(3))
            emit.record_scalar("/lib/step", 1.0, step="three")
            jax.jit(lambda x: emit.record_scalar("/lib/tracer", x))(1.0)
        emit.record_scalar("/lib/number", 1.0)
    assert points(records) == [("lib/number", 0, 1.0)]
    messages = [record.getMessage() for record in caplog.records]
    assert [text.split("'")[1] for text in messages] == ["/lib/vector", "/lib/step", "/lib/tracer"]
    assert "expected a scalar, got float64[3]" in messages[0]
    assert "Use jaxboard.scalar in traced code" in messages[2]


def test_without_a_run(caplog):
    """Without an open run, and after the run was closed, events are left out without a message."""
    sink = MemorySink()
    run = jb.Run(None, sinks=[sink])
    with monitoring.reports("lib", run=run), monitoring.reports("lib"):
        emit.record_event("/lib/a")  # Both blocks report it to the run.
        run.close()
        emit.record_event("/lib/a")
    assert points(sink.records) == [("lib/a", 0, 2.0)]
    assert not caplog.records


def test_labels_with_the_names_of_parameters():
    """Labels may have the names of parameters of the listeners: nothing is raised, and the events are reported."""
    names = {"self": 1, "duration_secs": 2, "labels": 3}
    with capture() as records, monitoring.reports("lib"):
        emit.record_event("/lib/event", **names)
        emit.record_event_duration_secs("/lib/duration", 0.5, **names)
        emit.record_scalar("/lib/scalar", 4.0, **names)
    assert points(records) == [
        ("lib/duration", 0, 0.5),
        ("lib/event", 0, 1.0),
        ("lib/scalar", 0, 4.0),
    ]


def test_arguments():
    """A prefix has to be a str."""
    with (
        pytest.raises(jb.UsageError, match="monitoring.reports\\(3\\)"),
        monitoring.reports(cast("str", 3)),
    ):
        pass


def test_a_logging_backend():
    """As a listener it reports scalars with their steps, without leading slashes, and none after it was closed."""
    with capture() as records:
        backend = LoggingBackend()
        emit.register_scalar_listener(backend.log_scalar)
        try:
            emit_scalar("/actor/train/loss", np.float32(0.5), step=3)
            jax.jit(lambda x: x * 54.321)(jnp.ones(7))
            emit.record_scalar("actor/train/loss", 0.25)
            backend.close()
            emit.record_scalar("actor/train/loss", 9.0, step=9)
        finally:
            emit.unregister_scalar_listener(backend.log_scalar)
    assert points(records) == [("actor/train/loss", 3, 0.25), ("actor/train/loss", 3, 0.5)]
