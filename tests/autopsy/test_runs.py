"""Runs with ``on_nonfinite="autopsy"``."""

from __future__ import annotations

import logging
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard._host import observers
from jaxboard.sinks import MemorySink


@jax.jit
def descend(w, batch):
    """Return the next parameter. It is NaN after a batch that is greater than it."""
    w = w - jnp.log(w - batch)
    jb.scalar("w", w)
    return w


def entry_of(step: Any, batches: list[float]) -> str:
    """Return the text entry of a run that takes a step with each of the batches."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], on_nonfinite="autopsy", telemetry=False):
        w = jnp.float32(10)
        for batch in batches:
            w = step(w, np.float32(batch))
    assert observers.registry.of_every_call == ()
    (record,) = [record for record in sink.records if record.tag == "jaxboard/autopsy"]
    assert record.step == 2
    return record.value


def test_the_step_is_examined(caplog: pytest.LogCaptureFixture) -> None:
    """The finding is that of the first step that is not finite, not of those after it. It is logged, too."""
    caplog.set_level(logging.WARNING)
    text = entry_of(jb.instrument(descend), [1, 1, 20, 1, 1])
    assert text.startswith("`descend`, step 2:\n\n```\nNaN first came from log at ")
    assert "test_runs.py" in text
    assert "operand 1: float32[]: -" in text
    assert text.endswith("not finite afterwards: result, report 'w'\n```")
    assert text in caplog.text


def test_one_compilation_examines_several_calls() -> None:
    """If a step had NaN in its arguments, the step before is examined, by the same compiled program."""
    programs = []

    def listen(event: str, duration_secs: float, **names: Any) -> None:
        if event.endswith("/backend_compile_duration"):
            programs.append((threading.current_thread().name, names.get("fun_name")))

    @jb.instrument
    @jax.jit
    def step(w, batch):
        jb.scalar("w", w)
        return jnp.log(batch)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        text = entry_of(step, [1, -1, 1, 1])
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert text.startswith("`step`, step 1:\n\n```\nNaN first came from log at ")
    examined = [name for thread, name in programs if thread == "jaxboard autopsy"]
    assert sum("_examined" in str(name) for name in examined) == 1, examined


def test_the_mesh_of_the_program() -> None:
    """The step is examined under the mesh that the program has set."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    @jb.instrument
    @jax.jit
    def step(w, batch):
        @jax.shard_map(in_specs=P("d"), out_specs=P("d"))
        def on_shards(x):
            return jnp.log(x)

        w = w - on_shards(jnp.full(8, w) - batch).mean()
        jb.scalar("w", w)
        return w

    with jax.set_mesh(mesh):
        text = entry_of(step, [1, 1, 20, 1])
    assert text.startswith("`step`, step 2:\n\n```\nNaN first came from log at ")


def test_donated_arguments() -> None:
    """After a step that donates its arguments, the entry explains how to find the operation."""
    text = entry_of(jb.instrument(jax.jit(descend, donate_argnums=0)), [1, 1, 20, 1])
    assert text == (
        "The arguments of step 2 no longer exist: they were donated, or memory did not allow to keep them. Call "
        "`jaxboard.autopsy(step, state, batch)` with the arguments of that step: those before the call."
    )


def test_finite_runs_keep_little() -> None:
    """Arguments are released once their reports are known to be finite, and no entry is written."""
    sink = MemorySink()
    step = jb.instrument(descend)
    with jb.Run(None, sinks=[sink], on_nonfinite="autopsy", telemetry=False) as run:
        (observer,) = observers.registry.of_every_call
        w = jnp.float32(100)
        for _ in range(5):
            w = step(w, np.float32(1))
            run.flush()
        assert [call.step for call in observer.until(100)] == [4, 3]  # pyright: ignore[reportAttributeAccessIssue]
    assert [record.tag for record in sink.records] == ["w"] * 5
