"""One trial: the training loop, with an evaluation in a run below."""

from __future__ import annotations

import dataclasses

import numpy as np
import optax
from flax import nnx
from tqdm import tqdm

import jaxboard as jb
from jaxboard._cli.demo.classifier import Classifier
from jaxboard._cli.demo.digits import Digits
from jaxboard._cli.demo.train_and_eval import eval_step, make_train_step

BATCH_SIZE = 128
SEED = 0


@dataclasses.dataclass(frozen=True)
class Hyperparameters:
    """The values that differ between trials."""

    hidden: int
    learning_rate: float


def train(
    run: jb.Run,
    hyperparameters: Hyperparameters,
    steps: int,
    training: Digits,
    test: Digits,
    *,
    progress: tqdm,
) -> Classifier:
    """Train a network for ``steps`` steps and return it. Its reports go to ``run``, which is open."""
    jb.hparams(hyperparameters, metrics={"final/accuracy": "max", "final/loss": "min"})

    schedule = optax.cosine_decay_schedule(hyperparameters.learning_rate, steps)
    model = Classifier(hyperparameters.hidden, rngs=nnx.Rngs(SEED))
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)
    eval_every = max(1, steps // 40)
    train_step = make_train_step(schedule, every=eval_every)

    shuffle = np.random.default_rng(SEED)
    for step in range(steps):
        batch = training.select(shuffle.choice(len(training.labels), BATCH_SIZE, replace=False))
        train_step(model, optimizer, batch.images, batch.labels)
        is_last = step == steps - 1
        if step % eval_every == 0 or is_last:
            # The same tags in another run: TensorBoard draws training and evaluation in one chart.
            with run.child("eval"):
                final = eval_step(model, test.images, test.labels)
            if is_last:
                jb.scalars("final", final)
        progress.update()
    return model
