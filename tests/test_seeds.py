"""Training over seeds as TensorBoard shows it: a run for each seed, and mean, min and max."""

from __future__ import annotations

import functools
import os
import pathlib
import signal
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from event_files import scalar_points
from fork_server import run_in_fork
from jax import lax

import jaxboard as jb

SEEDS, UPDATES = 3, 20


def train(key, *, report):
    """Train a bandit, in the style of training loops that are one function of a key."""
    means = jnp.array([0.1, 0.5, 0.9])

    def update(state, number):
        values, key = state
        key, choice, noise = jax.random.split(key, 3)
        arm = jax.random.categorical(choice, 5 * values)
        rewards = means[arm] + jax.random.normal(noise, (8,))
        regret = means.max() - means[arm]
        if report:
            jb.scalar("regret", regret)
            jb.scalar("update", number)
            jax.vmap(lambda reward: jb.scalar("reward", reward, reduce="max"))(rewards)
            jb.scalar("first arm", rewards.mean(), where=arm == 0, step=10 * number)
        values = values.at[arm].add(0.5 * (rewards.mean() - values[arm]))
        return (values, key), (regret, rewards.max(), rewards.mean(), arm)

    (values, _), history = lax.scan(update, (jnp.zeros(3), key), jnp.arange(UPDATES))
    return values, history


def tags_below(server, prefix):
    """Return run -> tags of the scalars of the runs whose names start with a prefix."""
    tags = server.get("data/plugin/scalars/tags")
    return {run: set(of) for run, of in tags.items() if run.startswith(prefix)}


def test_tensorboard_shows_a_run_for_each_seed(tmp_path, shared_tensorboard):
    """TensorBoard shows the runs, tags and exact points of the values that the plain function returns."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    expected = jax.jit(jax.vmap(functools.partial(train, report=False)))(keys)
    train_many = jax.jit(jax.vmap(functools.partial(train, report=True)))
    with jb.Run(tmp_path / "exp"):
        actual = jb.instrument(train_many, stream=8, runs="vmap")(keys)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)

    regret, largest, means, arm = map(np.asarray, expected[1])
    rewards = np.ma.masked_array(means, arm != 0)
    assert 0 < rewards.count() < rewards.size
    series = {"regret": (1, regret), "reward": (1, largest), "first arm": (10, rewards)}
    expected_runs: dict[str, Any] = {"exp": {"update": [(step, step) for step in range(UPDATES)]}}
    for tag, (stride, values) in series.items():
        mean = values.mean(0, dtype=np.float64).astype(np.float32)
        over_all = {"mean": mean, "min": values.min(0), "max": values.max(0)}
        runs = {f"seed_{seed}": row for seed, row in enumerate(values)} | over_all
        for run, row in runs.items():
            points = [
                (stride * step, row[step])
                for step in range(UPDATES)
                if row[step] is not np.ma.masked
            ]
            if points:  # A seed that never pulled that arm has no such tag.
                expected_runs.setdefault(f"exp/{run}", {})[tag] = points

    server = shared_tensorboard("rust")
    prefix = server.show(tmp_path)
    expected_tags = {f"{prefix}{run}": set(tags) for run, tags in expected_runs.items()}
    server.until(lambda: tags_below(server, prefix), lambda tags: tags == expected_tags)
    for run, tags in expected_runs.items():
        for tag, points in tags.items():
            shown = server.scalars(f"{prefix}{run}", tag, count=len(points))
            assert [(step, value) for _, step, value in shown] == points


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL is POSIX-only")
def test_sigkill_loses_nothing_that_was_flushed(tmp_path: pathlib.Path) -> None:
    """After SIGKILL, the files of all seeds hold every report that flush() covered."""
    program = """
        import os, signal, sys
        import jax, jax.numpy as jnp, jaxboard as jb

        @jb.instrument(runs="vmap")
        @jax.jit
        @jax.vmap
        def step(x):
            jb.scalar("x", x)
            return x + 1

        with jb.Run(sys.argv[1]) as run:
            xs = jnp.arange(4.0)
            for _ in range(5):
                xs = step(xs)
            run.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        """
    assert run_in_fork(program, str(tmp_path / "run")).returncode == -signal.SIGKILL
    for seed in range(4):
        points = scalar_points(tmp_path / "run" / f"seed_{seed}", "x")
        assert points == [(step, seed + step) for step in range(5)]


def test_tensorboard_shows_training_and_evaluation_in_one_chart(tmp_path, shared_tensorboard):
    """TensorBoard lists a child as a run of its own, with the tags, the steps and the seeds of the run."""

    def step(x):
        jb.scalar("loss", x)
        return x

    train_step = jb.instrument(jax.jit(step))
    eval_step = jb.instrument(jax.jit(jax.vmap(step)), advance=False, runs="vmap")
    with jb.Run(tmp_path / "exp") as run:
        for i in range(6):
            train_step(float(i))
            run.child("eval/ood").scalar("loss", i + 10)
            with run.child("eval"):
                eval_step(jnp.array([i + 1.0, i + 3.0]))
                jb.scalar("loss", i + 2.0)
        assert run.child("eval").logdir == tmp_path / "exp" / "eval"
    offsets = {"": 0, "/eval": 2, "/eval/ood": 10}
    offsets |= {"/eval/seed_0": 1, "/eval/seed_1": 3}
    offsets |= {"/eval/mean": 2, "/eval/min": 1, "/eval/max": 3}
    server = shared_tensorboard("rust")
    prefix = server.show(tmp_path)
    server.until(
        lambda: tags_below(server, prefix),
        lambda tags: set(tags) == {f"{prefix}exp{run}" for run in offsets},
    )
    for run_name, offset in offsets.items():
        shown = server.scalars(f"{prefix}exp{run_name}", "loss", count=6)
        assert [(at, value) for _, at, value in shown] == [(i, i + offset) for i in range(6)]
