"""The callbacks for artifex, called as its trainer calls them. tests/real has the trainer itself."""

from __future__ import annotations

import types

import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.integrations.artifex import (
    JAXProfiler,
    ProfilingConfig,
    TensorBoardLoggerCallback,
    TensorBoardLoggerConfig,
)


def logger(logdir, **options):
    return TensorBoardLoggerCallback(TensorBoardLoggerConfig(log_dir=str(logdir), **options))


def train(callback, steps, trainer=None, logs=None):
    """Call the hooks of an epoch."""
    trainer = trainer or types.SimpleNamespace(step=0)
    callback.on_train_begin(trainer)
    callback.on_epoch_begin(trainer, 0)
    for _ in range(steps):
        callback.on_batch_begin(trainer, trainer.step)
        jb.scalar("inside", trainer.step)
        trainer.step += 1
        metrics = {"loss": jnp.float32(trainer.step), **(logs or {})}
        callback.on_batch_end(trainer, trainer.step, metrics)
    callback.on_validation_begin(trainer)
    callback.on_validation_end(trainer, {"loss": 0.0})
    callback.on_epoch_end(trainer, 0, {"loss": 7.0})
    callback.on_train_end(trainer)


def points(logdir):
    frame = jb.read(logdir)
    return {
        str(tag): list(zip(group.step, group.value, strict=True))
        for tag, group in frame.groupby("tag")
    }


def test_curves(tmp_path):
    """Metrics have the step of the trainer, and reports of the loss function the step of their batch."""
    train(logger(tmp_path), 3)
    assert points(tmp_path) == {
        "epoch/loss": [(0, 7.0)],
        "inside": [(1, 0.0), (2, 1.0), (3, 2.0)],
        "loss": [(1, 1.0), (2, 2.0), (3, 3.0)],
    }


def test_options(tmp_path):
    """The configuration selects the steps that are reported, and leaves out the metrics of epochs."""
    train(logger(tmp_path, log_every_n_steps=2, log_on_epoch_end=False), 5)
    assert points(tmp_path)["loss"] == [(2, 2.0), (4, 4.0)]
    assert "epoch/loss" not in points(tmp_path)
    with pytest.raises(jb.UsageError, match=r"log_every_n_steps=0\): expected an integer above 0"):
        logger(tmp_path, log_every_n_steps=0)


def test_metrics_that_are_not_numbers(tmp_path, caplog):
    """Arrays with one element are numbers; other arrays are left out with one line, and other objects without."""
    logs = {"one": np.ones((1, 1)), "vector": jnp.ones(2), "flag": True, "note": "x", "none": None}
    train(logger(tmp_path), 2, logs=logs)
    assert points(tmp_path)["one"] == points(tmp_path)["flag"] == [(1, 1.0), (2, 1.0)]
    assert set(points(tmp_path)) == {"epoch/loss", "flag", "inside", "loss", "one"}
    assert caplog.text.count("a metric is left out") == 1
    assert "report 'vector'" in caplog.text


def test_a_trainer_that_resumes(tmp_path):
    """Steps after those of the trainer are hidden; a new training hides all of an earlier one."""
    train(logger(tmp_path), 5)
    train(logger(tmp_path), 2, types.SimpleNamespace(step=3))
    assert points(tmp_path)["loss"] == [(step, float(step)) for step in range(1, 6)]
    train(logger(tmp_path), 1)
    assert points(tmp_path)["loss"] == [(1, 1.0)]


def test_the_run_is_closed(tmp_path):
    """The run ends with the training, also if an exception ends it, and a callback serves several trainings."""
    callback = logger(tmp_path / "a")

    def failing():
        try:
            callback.on_train_begin(types.SimpleNamespace(step=0))
            callback.on_batch_end(None, 1, {"loss": 1.0})
            raise KeyError
        finally:
            callback.on_train_end(None)

    with pytest.raises(KeyError):
        failing()
    assert jb.current_run() is None
    assert points(tmp_path / "a")["loss"] == [(1, 1.0)]
    callback.on_batch_begin(None, 0)
    callback.on_batch_end(None, 1, {"loss": 1.0})  # outside of a training
    train(callback, 2, types.SimpleNamespace(step=1))
    assert points(tmp_path / "a")["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_the_profiler():
    """The profiler is jaxboard's, with the configuration of artifex."""
    assert JAXProfiler is jb.JAXProfiler
    assert ProfilingConfig() == ProfilingConfig("logs/profiles", 10, 20)
