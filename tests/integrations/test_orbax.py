"""``integrations.orbax``: the state of a run beside the state of the training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest

import jaxboard as jb
from jaxboard.integrations import monitoring, orbax
from jaxboard.sinks import MemorySink


def points(records):
    return [(record.tag, record.step, float(record.value)) for record in records]


def test_a_run_goes_on(tmp_path):
    """A job that is stopped between two points goes on with the same points; the first start has no state."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=4, reduce="sum")))
    found = []
    for until in (6, 10):
        sink = MemorySink()
        with ocp.CheckpointManager(tmp_path / "checkpoints") as manager:
            with jb.Run(None, sinks=[sink], state=orbax.restore_state(manager)) as run:
                while run.step < until:
                    step(1.0)
                    if run.step == 6:
                        train = ocp.args.StandardSave({"w": jnp.ones(3)})
                        args = ocp.args.Composite(train=train, jaxboard=orbax.save_args(run))
                        manager.save(run.step, args=args)
            manager.wait_until_finished()
        found.append(points(sink.records))
    assert found == [
        [("x", 0, 1.0), ("x", 4, 4.0), ("x", 5, 1.0)],
        [("x", 8, 4.0), ("x", 9, 1.0)],
    ]


def test_a_checkpoint_without_the_state(tmp_path):
    """A checkpoint that was made before the program saved the state has none; a missing step raises."""
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(3, args=ocp.args.Composite(train=ocp.args.StandardSave({"w": jnp.ones(3)})))
        manager.wait_until_finished()
        assert orbax.restore_state(manager) is None
        assert orbax.restore_state(manager, 3, item="train") is not None
        with pytest.raises(FileNotFoundError):
            orbax.restore_state(manager, 4)


def test_the_times_of_checkpoints(tmp_path):
    """The bridge of ``jax.monitoring`` reports how long Orbax saves and restores, at the step of the run."""
    sink, prefixes = MemorySink(), ("/jax/checkpoint/write/async/total", "/jax/orbax/read/total")
    with jb.Run(None, sinks=[sink]) as run, monitoring.reports(*prefixes):
        run.step = 5
        with ocp.CheckpointManager(tmp_path) as manager:
            manager.save(5, args=ocp.args.StandardSave({"w": jnp.ones(3)}))
            manager.wait_until_finished()
            manager.restore(5, args=ocp.args.StandardRestore({"w": jnp.ones(3)}))
    assert sorted((tag, step) for tag, step, _ in points(sink.records)) == [
        ("jax/checkpoint/write/async/total_duration_secs", 5),
        ("jax/orbax/read/total_duration_secs", 5),
    ]
