"""Opening the directory of an earlier run hides none of its points, in either of TensorBoard's loaders."""

import jax
import jax.numpy as jnp
import pytest
from event_files import scalar_points

import jaxboard as jb


def report(tag, steps):
    for step in steps:
        jb.scalar(tag, float(step), step=step)


def expected(steps):
    return [(step, float(step)) for step in steps]


def test_an_empty_run_hides_nothing(logdir):
    """Opening and closing a run writes nothing that TensorBoard takes for a restart."""
    with jb.Run(logdir):
        report("loss", range(100))
    with jb.Run(logdir):
        pass
    assert scalar_points(logdir, "loss") == expected(range(100))


def test_another_program_adds_a_tag(logdir):
    """A later run with other tags leaves the curves of the first one whole."""
    with jb.Run(logdir):
        report("train/loss", range(100))
    with jb.Run(logdir):
        report("test/accuracy", [100])
    assert scalar_points(logdir, "train/loss") == expected(range(100))
    assert scalar_points(logdir, "test/accuracy") == expected([100])


@pytest.mark.parametrize("how", ["instrument(step=)", "run.step", "scalar(step=)"])
def test_a_resumed_loop(logdir, how):
    """A job that restores its state and goes on at its own step shows one whole curve."""

    def step(state):
        jb.scalar("x", state["step"].astype(jnp.float32))
        return {"step": state["step"] + 1}

    def train(run, state, steps):
        function = jax.jit(step)
        if how == "instrument(step=)":
            function = jb.instrument(function, step=lambda state: state["step"])
        elif how == "run.step":
            function = jb.instrument(function)
            run.step = int(state["step"])
        for _ in range(steps):
            if how == "scalar(step=)":
                jb.scalar("x", state["step"].astype(jnp.float32), step=int(state["step"]))
                state = {"step": state["step"] + 1}
            else:
                state = function(state)
        return state

    with jb.Run(logdir) as run:
        state = train(run, {"step": jnp.int32(0)}, 40)
    state = jax.tree.map(jnp.asarray, jax.device_get(state))
    with jb.Run(logdir) as run:
        train(run, state, 10)
    assert scalar_points(logdir, "x") == expected(range(50))


def test_a_step_restarts_the_curve_there(logdir):
    """``Run(step=)`` still drops what an earlier run wrote at and after that step."""
    with jb.Run(logdir):
        report("x", range(10))
    with jb.Run(logdir, step=6):
        report("x", range(6, 8))
    assert scalar_points(logdir, "x") == expected(range(8))


@pytest.mark.parametrize("loader", ["rust", "python"])
def test_both_loaders_show_every_point(tmp_path, shared_tensorboard, loader):
    """TensorBoard shows the curves of a finished run that others have opened again, and of runs below it."""
    with jb.Run(tmp_path / "run"):
        report("loss", range(100))
    with jb.Run(tmp_path / "run"):
        report("accuracy", [3])
    with jb.Run(tmp_path / "run"):
        pass
    server = shared_tensorboard(loader)
    run = f"{server.show(tmp_path)}run"
    shown = server.scalars(run, "loss", count=100)
    assert [(step, value) for _, step, value in shown] == expected(range(100))
    shown = server.scalars(run, "accuracy", count=1)
    assert [(step, value) for _, step, value in shown] == expected([3])
