"""Whole programs of the kinds people write, and what TensorBoard reads of each."""

# pyright: reportAttributeAccessIssue=false, reportIndexIssue=false, reportArgumentType=false

import io
import random

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import optax
import pytest
from flax import nnx
from matplotlib import pyplot as plt
from PIL import Image
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

import jaxboard as jb


class Written:
    """What the event files of a log directory hold."""

    def __init__(self, logdir):
        sizes = {"scalars": 0, "tensors": 0}
        self.events = EventAccumulator(str(logdir), size_guidance=sizes).Reload()

    def tags(self):
        tags = self.events.Tags()
        return set(tags["scalars"]) | set(tags["tensors"])

    def steps(self, tag):
        return list(self.values(tag))

    def values(self, tag):
        """By step, which each point must have to itself."""
        if tag in self.events.Tags()["scalars"]:
            points = [(point.step, point.value) for point in self.events.Scalars(tag)]
        else:
            points = [(p.step, make_ndarray(p.tensor_proto)) for p in self.events.Tensors(tag)]
        values = dict(points)
        assert len(values) == len(points)
        return values

    def elements(self, tag):
        """How many elements each step's histogram counts."""
        return {step: int(table[:, 2].sum()) for step, table in self.values(tag).items()}

    def pictures(self, tag):
        """The decoded pictures of each step; their size is the one that is said."""
        pictures = {}
        for step, (width, height, *files) in self.values(tag).items():
            opened = [Image.open(io.BytesIO(file)) for file in files]
            assert all(picture.size == (int(width), int(height)) for picture in opened)
            pictures[step] = [np.asarray(picture) for picture in opened]
        return pictures


def close(values, expected, rtol=1e-5):
    """The same steps in the same order, and about the same numbers."""
    assert list(values) == list(expected)
    np.testing.assert_allclose(list(values.values()), list(expected.values()), rtol)


def line(n=32):
    """Points on a line with some noise: inputs [n, 3], targets [n, 1]."""
    noise = np.random.default_rng(0)
    x = noise.normal(size=(n, 3)).astype(np.float32)
    return x, (x @ np.float32([[1], [-2], [3]]) + 0.5).astype(np.float32)


def squared_error(params, x, y):
    return jnp.mean((x @ params["w"] + params["b"][None, :] - y) ** 2)


def test_functional_loop(logdir):
    """A loop of pure functions: training loss of every step, weights and validation loss of every 5th."""
    x, y = line()

    def update(params):
        loss, grads = jax.value_and_grad(squared_error)(params, x, y)
        return loss, jax.tree.map(lambda p, g: p - 0.1 * g, params, grads)

    @jb.instrument
    @jax.jit
    def train_step(params):
        loss, params = update(params)
        jb.scalar("training_loss", loss)
        jb.histogram("weights", params, every=5)
        return params

    start = {"w": jnp.zeros((3, 1)), "b": jnp.zeros(1)}
    validate = jax.jit(lambda params: squared_error(params, x[:8], y[:8]))
    with jb.Run(logdir):
        params = start
        for i in range(12):
            params = train_step(params)
            if i % 5 == 0:
                jb.scalar("validation_loss", validate(params))

    training, validation, weights = {}, {}, {}
    params = start
    for i in range(12):
        loss, params = jax.jit(update)(params)
        training[i] = float(loss)
        if i % 5 == 0:
            validation[i] = float(validate(params))
            weights[i] = params["w"]
    written = Written(logdir)
    assert written.tags() == {"training_loss", "validation_loss", "weights/w", "weights/b"}
    close(written.values("training_loss"), training)
    close(written.values("validation_loss"), validation)
    assert written.elements("weights/w") == {0: 3, 5: 3, 10: 3}
    assert written.elements("weights/b") == {0: 1, 5: 1, 10: 1}
    for step, table in written.values("weights/w").items():
        np.testing.assert_allclose(table[0, 0], weights[step].min(), rtol=1e-5)
        np.testing.assert_allclose(table[-1, 1], weights[step].max(), rtol=1e-5)


def test_sequence_model(logdir):
    """Loss, perplexity and learning rate from the step; attention of each head as figures; settings as text."""
    schedule = optax.linear_schedule(0.5, 0.1, 4)
    settings = [("name", "value"), ("heads", 2), ("learning_rate", 0.5)]

    @jb.instrument
    @jax.jit
    def train_step(queries, count):
        scores = jnp.einsum("hqd,hkd->hqk", queries, queries)
        attention = jax.nn.softmax(scores)
        loss = -jnp.log(attention).mean()
        with jb.scope("train"):
            jb.scalar("loss", loss)
            jb.scalar("perplexity", jnp.exp(loss))
            jb.scalar("learning_rate", schedule(count))
        return attention

    with jb.Run(logdir):
        jb.text("settings", settings)
        for i in range(5):
            attention = train_step(jnp.zeros((2, 4, 3)), i)
            if i % 4 == 0:
                for head, weights in enumerate(np.asarray(attention)):
                    figure, axes = plt.subplots(figsize=(2, 1.5), dpi=40)
                    axes.imshow(weights, cmap="viridis")
                    jb.figure(f"attention/head_{head}", figure)
    assert plt.get_fignums() == []

    written = Written(logdir)
    heads = ["attention/head_0", "attention/head_1"]
    train = ["train/loss", "train/perplexity", "train/learning_rate"]
    assert written.tags() == {"settings", *heads, *train}
    # Equal scores attend to each of four places alike.
    close(written.values("train/loss"), dict.fromkeys(range(5), np.log(4)))
    close(written.values("train/perplexity"), dict.fromkeys(range(5), 4.0))
    close(written.values("train/learning_rate"), dict(enumerate([0.5, 0.4, 0.3, 0.2, 0.1])))
    table = written.values("settings")[0]
    assert table.tolist() == [
        [b"name", b"value"],
        [b"heads", b"2"],
        [b"learning_rate", b"0.5"],
    ]
    for head in heads:
        pictures = written.pictures(head)
        assert {step: [p.shape for p in some] for step, some in pictures.items()} == {
            0: [(60, 80, 4)],
            4: [(60, 80, 4)],
        }


def test_number_crunching(logdir):
    """A job that has nothing to do with JAX: random numbers, their distribution, their plot."""
    dice, noise = random.Random(0), np.random.default_rng(0)
    observed = [dice.expovariate(1.0) for _ in range(120)]
    samples = {i: noise.gamma(shape=i, scale=4.0, size=1000) for i in range(1, 10)}
    with jb.Run(logdir):
        for i, value in enumerate(observed):
            jb.scalar("expovariate", value, step=i)
        for i, data in samples.items():
            jb.histogram("gamma", data, step=i)
            if i % 4 == 1:
                figure = matplotlib.figure.Figure(figsize=(2, 2), dpi=30)
                figure.subplots().hist(data, bins=10)
                jb.figure("bars", figure, step=i)

    written = Written(logdir)
    assert written.tags() == {"expovariate", "gamma", "bars"}
    close(written.values("expovariate"), dict(enumerate(observed)), rtol=1e-7)
    tables = written.values("gamma")
    assert list(tables) == list(samples)
    for step, table in tables.items():
        edges = [*table[:, 0], table[-1, 1]]
        assert (edges[0], edges[-1]) == (samples[step].min(), samples[step].max())
        np.testing.assert_array_equal(table[:, 2], np.histogram(samples[step], edges)[0])
    assert {step: [p.shape for p in some] for step, some in written.pictures("bars").items()} == {
        1: [(60, 60, 4)],
        5: [(60, 60, 4)],
        9: [(60, 60, 4)],
    }


def test_generative_trainer(logdir):
    """A trainer object: loss components, samples out of [-1, 1], every parameter, validation by epoch."""
    target = jnp.linspace(-1, 1, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)

    class Trainer:
        def __init__(self):
            self.params = {"decoder": {"mean": jnp.zeros((2, 4, 4, 3))}, "scale": jnp.float32(2)}

        @jb.instrument
        @jax.jit
        def step(params):  # noqa: N805 (no method: the trainer holds no arrays while tracing)
            def loss(params):
                reconstruction = ((params["decoder"]["mean"] - target) ** 2).mean()
                kl = params["scale"] ** 2 / 4
                parts = {"reconstruction": reconstruction, "kl": kl}
                jb.scalars("losses", parts | {"total": reconstruction + kl})
                return reconstruction + kl

            grads = jax.grad(loss)(params)
            jb.histogram("parameters", params, every=3)
            return jax.tree.map(lambda p, g: p - 0.5 * g, params, grads)

        def train(self, epochs, steps):
            for epoch in range(epochs):
                for _ in range(steps):
                    self.params = type(self).step(self.params)
                jb.scalar("validation/scale", self.params["scale"], step=epoch)
                samples = jnp.stack(
                    [jnp.full((4, 4, 3), -1.0), jnp.full((4, 4, 3), 1.0), target[0]]
                )
                jb.image("samples", (samples + 1) / 2, step=epoch)

    with jb.Run(logdir):
        Trainer().train(epochs=2, steps=3)

    written = Written(logdir)
    losses = {"losses/reconstruction", "losses/kl", "losses/total"}
    parameters = {"parameters/decoder/mean", "parameters/scale"}
    assert written.tags() == losses | parameters | {"validation/scale", "samples"}
    # Gradient descent takes a quarter off the scale, and 1/96 off the distance of the mean, a step.
    start = float((target**2).mean())
    kl = {i: (0.75**i) ** 2 for i in range(6)}
    reconstruction = {i: start * (1 - 1 / 96) ** (2 * i) for i in range(6)}
    close(written.values("losses/kl"), kl)
    close(written.values("losses/reconstruction"), reconstruction)
    close(written.values("losses/total"), {i: kl[i] + reconstruction[i] for i in range(6)})
    close(written.values("validation/scale"), {0: 2 * 0.75**3, 1: 2 * 0.75**6})
    assert written.elements("parameters/decoder/mean") == {0: 96, 3: 96}
    assert written.elements("parameters/scale") == {0: 1, 3: 1}
    for step in (0, 1):
        black, white, sample = written.pictures("samples")[step]
        assert (black.min(), black.max(), white.min(), white.max()) == (0, 0, 255, 255)
        exact = (np.asarray(target[0]) + 1) / 2 * 255
        assert sample.shape == (4, 4, 3)
        assert np.abs(sample - exact).max() <= 0.501


class Classifier(nnx.Module):
    """Images [N, 8, 8] to logits [N, 10]."""

    def __init__(self, rngs):
        self.hidden = nnx.Linear(64, 32, rngs=rngs)
        self.out = nnx.Linear(32, 10, rngs=rngs)

    def __call__(self, images):
        return self.out(nnx.selu(self.hidden(images.reshape(len(images), 64))))


def digits_loss(model, images, labels):
    logits = model(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def digits_step(model, optimizer, images, labels):
    loss, grads = nnx.value_and_grad(digits_loss)(model, images, labels)
    jb.scalar("loss", loss)
    optimizer.update(model, grads)
    return loss


@pytest.mark.filterwarnings("ignore:.*no run is open:jaxboard.JaxboardWarning")
def test_digits_tutorial(logdir):
    """NNX on handwritten digits: loss of every step, accuracy of every 5th, test sheets of two."""
    digits = load_digits()
    images, labels = np.float32(digits.images[:300]) / 16, digits.target[:300]
    held_out, answers = np.float32(digits.images[300:400]) / 16, digits.target[300:400]

    def train(train_step, look):
        model = Classifier(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.sgd(0.05), wrt=nnx.Param)
        losses = {}
        for i in range(12):
            losses[i + 1] = float(train_step(model, optimizer, images, labels))
            if i % 5 == 0:
                look(model, i + 1)
        return losses

    accuracies = {}

    def look(model, step):
        predicted = model(held_out).argmax(axis=1)
        accuracies[step] = float((predicted == answers).mean())
        jb.scalar("accuracy", (predicted == answers).mean())

        def draw_test_sheet():
            figure = matplotlib.figure.Figure(figsize=(2, 2), dpi=50)
            axes = figure.subplots(2, 2, subplot_kw={"xticks": [], "yticks": []})
            for j, place in enumerate(axes.flat):
                place.imshow(held_out[j], cmap="binary")
                color = "green" if predicted[j] == answers[j] else "red"
                place.text(0, 0, str(predicted[j]), color=color)
            return figure

        jb.figure("test_sheet", draw_test_sheet, every=11)

    with jb.Run(logdir, step=1):
        losses = train(jb.instrument(nnx.jit(digits_step)), look)

    written = Written(logdir)
    assert written.tags() == {"loss", "accuracy", "test_sheet"}
    close(written.values("loss"), losses, rtol=1e-7)
    close(written.values("accuracy"), accuracies, rtol=1e-7)
    assert list(accuracies) == [1, 6, 11]
    assert {s: [p.shape for p in some] for s, some in written.pictures("test_sheet").items()} == {
        11: [(100, 100, 4)]
    }
    assert losses[12] < losses[1]
    # Reports change nothing about the training.
    plain = train(nnx.jit(digits_step), lambda model, step: None)
    np.testing.assert_allclose(list(plain.values()), list(losses.values()), rtol=1e-5)
