"""A trainer of Tunix, whose metrics arrive through ``jax.monitoring``, or through a backend of metrax."""

# pyright: reportMissingImports=false

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxboard as jb
from jaxboard.integrations import monitoring
from jaxboard.integrations.metrax import LoggingBackend
from jaxboard.sinks import MemorySink

# Its imports warn of what its own dependencies will drop.
pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore")]

STEPS = 4


@pytest.fixture
def train():
    """Return a function that trains with an option of the metrics logger and returns the losses that Tunix kept."""
    sft = pytest.importorskip("tunix.sft.peft_trainer", exc_type=ImportError)

    def run(options, folder=None):
        config = sft.TrainingConfig(
            eval_every_n_steps=2,
            max_steps=STEPS,
            metrics_prefix="actor",
            metrics_logging_options=options,
            checkpoint_root_directory=folder,
        )
        model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
        trainer = sft.PeftTrainer(model, optax.sgd(0.1), config)
        trainer = trainer.with_loss_fn(lambda model, x: jnp.mean((model(x) - 1) ** 2))
        trainer = trainer.with_gen_model_input_fn(lambda x: {"x": x})
        batches = [np.full((4, 2), 1 + i, np.float32) / STEPS for i in range(STEPS)]
        mesh = jax.make_mesh((1,), ("fsdp",), devices=jax.devices()[:1])
        with mesh:
            trainer.train(batches, batches[:1])
        return trainer.metrics_logger.get_metric_history("actor", "loss", "train")

    return run


def curve(records, tag):
    return [(record.step, float(record.value)) for record in records if record.tag == tag]


def test_the_backend(train, tmp_path):
    """The losses of the trainer are the points of the run, and no time of a compilation is among its tags."""
    logger = pytest.importorskip("tunix.sft.metrics_logger", exc_type=ImportError)
    options = logger.MetricsLoggerOptions(
        str(tmp_path), backend_kwargs={"custom_backend": [LoggingBackend]}
    )
    with jb.Run(None, sinks=[sink := MemorySink()]):
        losses = train(options)
    found = curve(sink.records, "actor/train/loss")
    assert [value for _, value in found] == [float(loss) for loss in losses]
    assert len({step for step, _ in found}) == STEPS
    tags = {record.tag for record in sink.records}
    assert tags >= {"actor/eval/loss", "actor/train/perplexity"}
    assert {tag.split("/")[0] for tag in tags} == {"actor"}


def test_the_bridge(train, tmp_path):
    """Without a logger, the bridge reports the same losses, and the checkpoints of Orbax at the steps of the trainer."""
    with (
        jb.Run(None, sinks=[sink := MemorySink()]),
        monitoring.reports("actor/", "/jax/orbax/write"),
    ):
        losses = train(None, str(tmp_path))
    found = curve(sink.records, "actor/train/loss")
    assert [value for _, value in found] == [float(loss) for loss in losses]
    saves = curve(sink.records, "jax/orbax/write/async/total_duration_secs")
    assert saves
    assert all(0 < step <= STEPS and seconds > 0 for step, seconds in saves)


def test_the_protocol_of_metrax():
    """The backend has the methods of metrax's ``LoggingBackend``, with their parameters."""
    protocol = pytest.importorskip("metrax.logging").LoggingBackend
    for name in ("log_scalar", "close"):
        theirs = inspect.signature(getattr(protocol, name)).parameters.values()
        ours = inspect.signature(getattr(LoggingBackend, name)).parameters.values()
        assert [p.kind for p in ours] == [p.kind for p in theirs]
        named = [p.name for p in theirs if p.kind is not p.VAR_KEYWORD]
        assert [p.name for p in ours][: len(named)] == named
