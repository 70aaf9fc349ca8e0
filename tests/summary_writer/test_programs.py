"""Whole programs that used tensorboardX or torch.utils.tensorboard: only their import is another one.

They make the calls of guides for Trax, FairSeq, jobs of any kind and Artifex. A loop in JAX takes the place of libraries
that cannot be installed.
"""

from __future__ import annotations

import logging
import os
import random

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from flax import nnx
from matplotlib.backends.backend_agg import FigureCanvasAgg
from summary_writer.reading import by_tag, values

import jaxboard as jb
from jaxboard import SummaryWriter


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch, caplog):
    """Run a program in a directory of its own, and check that nothing was lost and no run is open."""
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING, "jaxboard"):
        yield tmp_path
    assert [record.getMessage() for record in caplog.records] == []
    assert jb.current_run() is None


def points(logdir, tag):
    """Return the steps and values of a scalar."""
    table = jb.read(logdir)
    table = table[table["tag"] == tag]
    return dict(zip(table["step"].tolist(), table["value"].tolist(), strict=True))


@jax.jit
def descend(weights, batch):
    """Take a step of linear regression; return the weights and the loss."""
    x, y = batch

    def loss_of(weights):
        return jnp.mean((x @ weights["kernel"] + weights["bias"] - y) ** 2)

    loss, gradient = jax.value_and_grad(loss_of)(weights)
    return jax.tree.map(lambda w, g: w - 0.1 * g, weights, gradient), loss


def batches(count):
    """Yield batches of a linear problem."""
    for key in jax.random.split(jax.random.key(0), count):
        x = jax.random.normal(key, (16, 3))
        yield x, x @ jnp.arange(3.0)


def test_trax():
    """Scalars every so many steps, histograms of flattened weights, and a metric of the program."""
    weights = {"kernel": jnp.zeros(3), "bias": jnp.float32(0)}
    writer = SummaryWriter("runs/my_experiment")
    losses = {}
    for step, batch in enumerate(batches(41)):
        weights, loss = descend(weights, batch)
        if step % 10 == 0:
            losses[step] = float(loss)
            writer.add_scalar("training_loss", loss, step)
            writer.add_scalar("validation_loss", loss * 2, step)
            writer.add_scalar("custom_metric", jnp.abs(weights["kernel"]).max(), step)
        if step % 20 == 0:
            for name, param in weights.items():
                writer.add_histogram(f"weights/{name}", param.reshape(-1), step)
    writer.close()
    assert points("runs/my_experiment", "training_loss") == losses
    assert len(points("runs/my_experiment", "custom_metric")) == 5
    histograms = [value for value in values("runs/my_experiment") if value.tag == "weights/kernel"]
    assert [(value.step, value.array[:, 2].sum()) for value in histograms] == [
        (0, 3),
        (20, 3),
        (40, 3),
    ]


def test_fairseq():
    """Numbers of a trainer with its own steps, by keyword, and attention heads as figures."""

    class Trainer:
        def __init__(self):
            self.weights = {"kernel": jnp.zeros(3), "bias": jnp.float32(0)}
            self.step = 0

        def train_step(self, batch):
            self.weights, loss = descend(self.weights, batch)
            self.step += 1
            return loss, jnp.exp(loss)

        def get_lr(self):
            return 0.1 / self.step

        def get_global_step(self):
            return self.step

        def get_attention_weights(self):
            return jax.nn.softmax(jnp.ones((2, 3, 4, 5)))

    trainer = Trainer()
    writer = SummaryWriter(log_dir="runs/fairseq_experiment")
    for batch in batches(5):
        loss, perplexity = trainer.train_step(batch)
        writer.add_scalar("loss", loss.item(), global_step=trainer.get_global_step())
        writer.add_scalar("perplexity", perplexity.item(), global_step=trainer.get_global_step())
        writer.add_scalar("learning_rate", trainer.get_lr(), global_step=trainer.get_global_step())
    attention = trainer.get_attention_weights()
    for head in range(attention.shape[1]):
        plt.imshow(np.asarray(attention[0, head, :, :]), cmap="viridis")
        plt.title(f"Attention Head {head + 1}")
        figure = plt.gcf()
        writer.add_figure(
            f"attention_head_{head + 1}", figure, global_step=trainer.get_global_step()
        )
        plt.close(figure)
    writer.close()
    rates = points("runs/fairseq_experiment", "learning_rate")
    assert list(rates) == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(list(rates.values()), 0.1 / np.arange(1, 6), rtol=1e-6)
    found = by_tag("runs/fairseq_experiment")
    assert [found[f"attention_head_{head}"].step for head in (1, 2, 3)] == [5, 5, 5]
    assert found["attention_head_1"].pixels.shape == (480, 640, 4)


def test_a_job_of_any_kind():
    """Scalars, a histogram of NumPy numbers and figures of a program without machine learning, which never closes its writer."""
    sink = SummaryWriter(f"runs/exp-{random.Random(0).randint(0, 1000)}")
    for i in range(20):
        sink.add_scalar("expovariate", random.expovariate(1.0), i)
    for i in range(1, 10):
        sink.add_histogram("hist-1", np.random.default_rng(i).gamma(i, 4.0, size=1000), i)
    for i in range(1, 3):
        fig = plt.figure()
        plt.hist(np.random.default_rng(i).gamma(shape=i, scale=4.0, size=1000), bins=10)
        sink.add_figure("fig-1", fig, i)
        plt.close()
    sink.run.close()  # as the end of the interpreter does
    assert len(points(sink.get_logdir(), "expovariate")) == 20
    found = values(sink.get_logdir())
    steps = {tag: [v.step for v in found if v.tag == tag] for tag in ("hist-1", "fig-1")}
    assert steps == {"hist-1": list(range(1, 10)), "fig-1": [1, 2]}
    assert {v.array[:, 2].sum() for v in found if v.tag == "hist-1"} == {1000}


class Logger:
    """A logger that counts steps of its own."""

    def __init__(self, log_dir="./runs/experiment"):
        self.writer = SummaryWriter(log_dir)
        self.step = 0

    def log_scalars(self, metrics, step=None):
        step = step if step is not None else self.step
        for name, value in metrics.items():
            number = float(value) if isinstance(value, jnp.ndarray) else value
            self.writer.add_scalar(name, number, step)
        self.step += 1

    def close(self):
        self.writer.close()


def test_artifex_scalars():
    """Metrics by the step of the caller or of the logger, and groups of losses in one chart each."""
    logger = Logger(log_dir="./runs/vae_experiment")
    for step in range(4):
        logger.log_scalars(
            {"train/loss": jnp.float32(step), "train/learning_rate": 1e-4}, step=step
        )
        logger.writer.add_scalars("gan/losses", {"generator": step, "discriminator": -step}, step)
        logger.writer.add_scalars(
            "loss_components", {"total": 3, "reconstruction": 2, "kl": 1}, step
        )
    logger.log_scalars({"val/loss": 0.5})
    logger.close()
    assert points("runs/vae_experiment", "train/loss") == {0: 0.0, 1: 1.0, 2: 2.0, 3: 3.0}
    assert points("runs/vae_experiment", "gan/losses/discriminator") == {0: 0, 1: -1, 2: -2, 3: -3}
    assert points("runs/vae_experiment", "val/loss") == {4: 0.5}
    assert os.listdir("runs") == ["vae_experiment"]
    assert not any(
        os.path.isdir(f"runs/vae_experiment/{name}") for name in os.listdir("runs/vae_experiment")
    )


def test_artifex_images():
    """Batches with channels last that the program moves, a grid drawn by matplotlib, and its own scaling to bytes."""
    writer = SummaryWriter("./runs/images")
    samples = jax.random.uniform(jax.random.key(0), (16, 8, 8, 3), minval=-1, maxval=1)
    images = np.clip((np.array(samples[:16]) + 1) / 2, 0, 1)
    writer.add_images("comparison/generated", np.transpose(images, (0, 3, 1, 2)), 7)
    writer.add_images("comparison/device", jnp.transpose((samples + 1) / 2, (0, 3, 1, 2)), 7)

    fig, axes = plt.subplots(2, 8, figsize=(16, 4))
    for ax, image in zip(axes.flatten(), images, strict=True):
        ax.imshow(image)
        ax.axis("off")
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    grid = np.asarray(canvas.buffer_rgba())[..., :3]
    plt.close(fig)
    writer.add_image("samples/generated", grid, 7, dataformats="HWC")
    writer.close()
    found = by_tag("./runs/images")
    assert found["comparison/generated"].pixels.shape == (2 * 8 + 2, 8 * 8 + 14, 3)
    np.testing.assert_array_equal(
        found["comparison/device"].pixels, found["comparison/generated"].pixels
    )
    np.testing.assert_array_equal(found["samples/generated"].pixels, grid)


def test_artifex_parameters_and_latents():
    """Histograms of the parameters of an nnx module and of gradients, and an embedding with labels and thumbnails."""
    model = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    writer = SummaryWriter("./runs/latent")
    for name, param in nnx.state(model).items():
        writer.add_histogram(f"parameters/{name}", np.array(param[...]), 3)
        writer.add_histogram(f"parameters/{name}/variable", param, 3)
    gradients = jax.grad(lambda kernel: jnp.sum(kernel**2))(model.kernel[...])
    writer.add_histogram("gradients/kernel", np.array(gradients), 3)
    latents = np.random.default_rng(0).normal(size=(6, 4))
    writer.add_embedding(
        latents,
        metadata=[0, 1, 2, 0, 1, 2],
        label_img=jnp.zeros((6, 28, 28, 1)),
        global_step=3,
        tag="latent_space",
    )
    writer.close()
    found = by_tag("./runs/latent")
    assert found["parameters/kernel"].array[:, 2].sum() == 12
    np.testing.assert_array_equal(
        found["parameters/kernel/variable"].array[:, 2], found["parameters/kernel"].array[:, 2]
    )
    assert found["gradients/kernel"].array[:, 2].sum() == 12
    folder = "runs/latent/projector/latent_space/step_3"
    assert sorted(os.listdir(folder)) == ["images.png", "labels.tsv", "vectors.bytes"]
