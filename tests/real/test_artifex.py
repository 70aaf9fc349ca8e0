"""The callbacks of jaxboard.integrations.artifex in artifex's own trainer, beside artifex's own callbacks."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.integrations import artifex as ours

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

nnx = pytest.importorskip("flax.nnx")
training = pytest.importorskip("artifex.generative_models.training.trainer")
theirs = pytest.importorskip("artifex.generative_models.training.callbacks")
configuration = pytest.importorskip("artifex.generative_models.core.configuration")

STEPS = 6
"""Steps of an epoch."""
DATA = {"x": np.arange(48, dtype=np.float32).reshape(24, 2) / 48}


def trainer_with(directory, *callbacks, metrics=None):
    """Return a trainer of a linear model, whose loss function reports and returns metrics."""

    def loss_fn(model, batch, rng, step):
        loss = jnp.mean((model(batch["x"]) - 1) ** 2)
        jb.scalar("inside", loss)
        return loss, {"root": jnp.sqrt(loss), **(metrics or {})}

    config = configuration.TrainingConfig(
        name="training",
        optimizer=configuration.OptimizerConfig(
            name="sgd", optimizer_type="sgd", learning_rate=0.1
        ),
    )
    return training.Trainer(
        model=nnx.Linear(2, 1, rngs=nnx.Rngs(0)),
        training_config=config,
        loss_fn=loss_fn,
        rng=jax.random.key(0),
        checkpoint_dir=str(directory / "checkpoints"),
        callbacks=theirs.CallbackList([*callbacks]),
    )


def train(trainer, epochs=1):
    return trainer.train(DATA, num_epochs=epochs, batch_size=4, val_data=DATA)


def points(logdir):
    """Return the points of each tag as (step, value) pairs, without those of jaxboard itself."""
    frame = jb.read(logdir)
    frame = frame[~frame.tag.str.startswith(("jaxboard/", "profile/"))]
    return {
        str(tag): list(zip(group.step, group.value, strict=True))
        for tag, group in frame.groupby("tag")
    }


@pytest.mark.parametrize("name", ["TensorBoardLoggerConfig", "ProfilingConfig"])
def test_configurations(name):
    """The configurations have the fields and the defaults of artifex."""

    def fields(module):
        return [(field.name, field.default) for field in dataclasses.fields(getattr(module, name))]

    assert fields(ours) == fields(theirs)


@pytest.mark.parametrize("every", [1, 4])
def test_the_same_curves(tmp_path, every):
    """Both callbacks write the same points, and ours has the reports of the loss function beside them."""
    of = {"log_every_n_steps": every}
    our, their = (
        module.TensorBoardLoggerCallback(
            module.TensorBoardLoggerConfig(log_dir=str(tmp_path / name), **of)
        )
        for name, module in (("ours", ours), ("theirs", theirs))
    )
    train(trainer_with(tmp_path, our, their), epochs=2)
    found, expected = points(tmp_path / "ours"), points(tmp_path / "theirs")
    inside = found.pop("inside")
    assert found == expected
    assert sorted(expected) == [
        *("epoch/loss", "epoch/root", "epoch/val_loss", "epoch/val_root"),
        *("loss", "root", "step"),
    ]
    steps = range(1, 2 * STEPS + 1)
    assert [step for step, _ in expected["loss"]] == [step for step in steps if step % every == 0]
    assert [step for step, _ in inside] == list(steps)


def test_artifexs_own_configurations(tmp_path):
    """Our callbacks take artifex's configurations too."""
    logger = ours.TensorBoardLoggerCallback(
        theirs.TensorBoardLoggerConfig(log_dir=str(tmp_path / "logs"))
    )
    profiler = ours.JAXProfiler(theirs.ProfilingConfig(str(tmp_path / "profiles"), 2, 4))
    train(trainer_with(tmp_path, logger, profiler))
    assert len(points(tmp_path / "logs")["loss"]) == STEPS
    assert profiler.captured == (2, 3)


def test_a_metric_that_is_not_a_number(tmp_path, caplog):
    """An array of several elements does not end the training, as it does with artifex's callback. The log names it once."""
    metrics = {"vector": jnp.ones(3), "note": "text", "one": jnp.ones((1, 1))}
    logger = ours.TensorBoardLoggerCallback(ours.TensorBoardLoggerConfig(log_dir=str(tmp_path)))
    trainer = trainer_with(tmp_path, logger, metrics=metrics)
    for batch in range(3):
        if batch == 0:
            trainer.callbacks.on_train_begin(trainer)
        trainer.train_step({"x": DATA["x"][:4]})
    trainer.callbacks.on_train_end(trainer)
    assert sorted(points(tmp_path)) == ["inside", "loss", "one", "root", "step"]
    assert caplog.text.count("a metric is left out: report 'vector'") == 1


def test_a_resumed_training(tmp_path):
    """Steps that are repeated after a checkpoint appear once, with the last values."""
    config = ours.TensorBoardLoggerConfig(log_dir=str(tmp_path))
    for done, last in ((0, STEPS), (3, 3 + STEPS)):
        trainer = trainer_with(tmp_path, ours.TensorBoardLoggerCallback(config))
        trainer.step = done
        train(trainer)
        found = points(tmp_path)
        assert [step for step, _ in found["loss"]] == list(range(1, last + 1))
    assert dict(found["step"]) == {step: step for step in range(1, 4 + STEPS)}


def test_a_training_that_fails(tmp_path):
    """The error is the one of the training, and the reports before it are on disk."""
    logger = ours.TensorBoardLoggerCallback(ours.TensorBoardLoggerConfig(log_dir=str(tmp_path)))

    class Failing(theirs.BaseCallback):
        def on_batch_end(self, trainer, batch, logs):
            if batch == 3:
                raise KeyError("a fault of the program")

    with pytest.raises(KeyError, match="a fault of the program"):
        train(trainer_with(tmp_path, logger, Failing()))
    assert [step for step, _ in points(tmp_path)["loss"]] == [1, 2, 3]
    assert jb.current_run() is None


def test_a_profile_after_a_resume(tmp_path):
    """A training that resumes inside the range is profiled, which artifex's profiler is not."""
    config = {"log_dir": str(tmp_path / "profiles"), "start_step": 2, "end_step": 5}
    profiler = ours.JAXProfiler(ours.ProfilingConfig(**config))
    trainer = trainer_with(tmp_path, profiler)
    trainer.step = 3
    train(trainer)
    assert profiler.captured == (3, 4)
    assert len(list((tmp_path / "profiles").rglob("*.xplane.pb"))) == 1
