"""Complete programs of common kinds, and what TensorBoard reads from their files."""

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


class EventFiles:
    """The contents of the event files of a log directory."""

    def __init__(self, logdir):
        sizes = {"scalars": 0, "tensors": 0}
        self.events = EventAccumulator(str(logdir), size_guidance=sizes).Reload()

    def tags(self):
        tags = self.events.Tags()
        return set(tags["scalars"]) | set(tags["tensors"])

    def steps(self, tag):
        return list(self.values(tag))

    def values(self, tag):
        """Return the values of a tag by step; each step has one point."""
        if tag in self.events.Tags()["scalars"]:
            points = [(point.step, point.value) for point in self.events.Scalars(tag)]
        else:
            points = [(p.step, make_ndarray(p.tensor_proto)) for p in self.events.Tensors(tag)]
        values = dict(points)
        assert len(values) == len(points)
        return values

    def elements(self, tag):
        """Return the number of elements in the histogram of each step."""
        return {step: int(table[:, 2].sum()) for step, table in self.values(tag).items()}

    def images(self, tag):
        """Return the decoded images of each step, and check their size against the stored one."""
        images = {}
        for step, (width, height, *files) in self.values(tag).items():
            opened = [Image.open(io.BytesIO(file)) for file in files]
            assert all(image.size == (int(width), int(height)) for image in opened)
            images[step] = [np.asarray(image) for image in opened]
        return images


def assert_close(values, expected, rtol=1e-5):
    """Assert the same steps in the same order, and values within ``rtol``."""
    assert list(values) == list(expected)
    np.testing.assert_allclose(list(values.values()), list(expected.values()), rtol)


def line(n=32):
    """Return points on a line: inputs [n, 3], targets [n, 1]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 3)).astype(np.float32)
    return x, (x @ np.float32([[1], [-2], [3]]) + 0.5).astype(np.float32)


def squared_error(params, x, y):
    return jnp.mean((x @ params["w"] + params["b"][None, :] - y) ** 2)


def test_functional_loop(logdir):
    """A loop of pure functions reports the training loss of every step, weights and validation loss of every 5th."""
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
    files = EventFiles(logdir)
    assert files.tags() == {"training_loss", "validation_loss", "weights/w", "weights/b"}
    assert_close(files.values("training_loss"), training)
    assert_close(files.values("validation_loss"), validation)
    assert files.elements("weights/w") == {0: 3, 5: 3, 10: 3}
    assert files.elements("weights/b") == {0: 1, 5: 1, 10: 1}
    for step, table in files.values("weights/w").items():
        np.testing.assert_allclose(table[0, 0], weights[step].min(), rtol=1e-5)
        np.testing.assert_allclose(table[-1, 1], weights[step].max(), rtol=1e-5)


def test_sequence_model(logdir):
    """A sequence model reports metrics from the step, attention heads as figures, and its settings as text."""
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

    files = EventFiles(logdir)
    heads = ["attention/head_0", "attention/head_1"]
    train = ["train/loss", "train/perplexity", "train/learning_rate"]
    assert files.tags() == {"settings", *heads, *train}
    # With equal scores, attention is uniform over the four positions.
    assert_close(files.values("train/loss"), dict.fromkeys(range(5), np.log(4)))
    assert_close(files.values("train/perplexity"), dict.fromkeys(range(5), 4.0))
    assert_close(files.values("train/learning_rate"), dict(enumerate([0.5, 0.4, 0.3, 0.2, 0.1])))
    table = files.values("settings")[0]
    rows = [line.strip("| ").split(" | ") for line in table.item().decode().splitlines()]
    del rows[1]  # the rule under the header
    assert rows == [["name", "value"], ["heads", "2"], ["learning_rate", "0.5"]]
    for head in heads:
        images = files.images(head)
        assert {step: [p.shape for p in some] for step, some in images.items()} == {
            0: [(60, 80, 4)],
            4: [(60, 80, 4)],
        }


def test_number_crunching(logdir):
    """A program without JAX reports random numbers, their histogram, and a plot."""
    python_rng, rng = random.Random(0), np.random.default_rng(0)
    observed = [python_rng.expovariate(1.0) for _ in range(120)]
    samples = {i: rng.gamma(shape=i, scale=4.0, size=1000) for i in range(1, 10)}
    with jb.Run(logdir):
        for i, value in enumerate(observed):
            jb.scalar("expovariate", value, step=i)
        for i, data in samples.items():
            jb.histogram("gamma", data, step=i)
            if i % 4 == 1:
                figure = matplotlib.figure.Figure(figsize=(2, 2), dpi=30)
                figure.subplots().hist(data, bins=10)
                jb.figure("bars", figure, step=i)

    files = EventFiles(logdir)
    assert files.tags() == {"expovariate", "gamma", "bars"}
    assert_close(files.values("expovariate"), dict(enumerate(observed)), rtol=1e-7)
    tables = files.values("gamma")
    assert list(tables) == list(samples)
    for step, table in tables.items():
        edges = [*table[:, 0], table[-1, 1]]
        assert (edges[0], edges[-1]) == (samples[step].min(), samples[step].max())
        np.testing.assert_array_equal(table[:, 2], np.histogram(samples[step], edges)[0])
    assert {step: [p.shape for p in some] for step, some in files.images("bars").items()} == {
        1: [(60, 60, 4)],
        5: [(60, 60, 4)],
        9: [(60, 60, 4)],
    }


def test_generative_trainer(logdir):
    """A trainer object reports loss components, images, every parameter, and validation by epoch."""
    target = jnp.linspace(-1, 1, 2 * 4 * 4 * 3).reshape(2, 4, 4, 3)

    class Trainer:
        def __init__(self):
            self.params = {"decoder": {"mean": jnp.zeros((2, 4, 4, 3))}, "scale": jnp.float32(2)}

        @jb.instrument
        @jax.jit
        def step(params):  # noqa: N805 (a function, so that the trainer holds no tracers)
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
                jb.image("samples", (samples + 1) / 2, layout="NHWC", step=epoch)

    with jb.Run(logdir):
        Trainer().train(epochs=2, steps=3)

    files = EventFiles(logdir)
    losses = {"losses/reconstruction", "losses/kl", "losses/total"}
    parameters = {"parameters/decoder/mean", "parameters/scale"}
    assert files.tags() == losses | parameters | {"validation/scale", "samples"}
    # Each step reduces the scale by a quarter and the distance of the mean by 1/96.
    start = float((target**2).mean())
    kl = {i: (0.75**i) ** 2 for i in range(6)}
    reconstruction = {i: start * (1 - 1 / 96) ** (2 * i) for i in range(6)}
    assert_close(files.values("losses/kl"), kl)
    assert_close(files.values("losses/reconstruction"), reconstruction)
    assert_close(files.values("losses/total"), {i: kl[i] + reconstruction[i] for i in range(6)})
    assert_close(files.values("validation/scale"), {0: 2 * 0.75**3, 1: 2 * 0.75**6})
    assert files.elements("parameters/decoder/mean") == {0: 96, 3: 96}
    assert files.elements("parameters/scale") == {0: 1, 3: 1}
    for step in (0, 1):
        black, white, sample = files.images("samples")[step]
        assert (black.min(), black.max(), white.min(), white.max()) == (0, 0, 255, 255)
        exact = (np.asarray(target[0]) + 1) / 2 * 255
        assert sample.shape == (4, 4, 3)
        assert np.abs(sample - exact).max() <= 0.501


class Classifier(nnx.Module):
    """A classifier of images [N, 8, 8] to logits [N, 10]."""

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
    """NNX on handwritten digits: the loss of every step, the accuracy of every 5th, one figure of predictions."""
    digits = load_digits()
    images, labels = np.float32(digits.images[:300]) / 16, digits.target[:300]
    held_out, answers = np.float32(digits.images[300:400]) / 16, digits.target[300:400]

    def train(train_step, evaluate):
        model = Classifier(nnx.Rngs(0))
        optimizer = nnx.Optimizer(model, optax.sgd(0.05), wrt=nnx.Param)
        losses = {}
        for i in range(12):
            losses[i + 1] = float(train_step(model, optimizer, images, labels))
            if i % 5 == 0:
                evaluate(model, i + 1)
        return losses

    accuracies = {}

    def evaluate(model, step):
        predicted = model(held_out).argmax(axis=1)
        accuracies[step] = float((predicted == answers).mean())
        jb.scalar("accuracy", (predicted == answers).mean())

        def draw_test_sheet():
            figure = matplotlib.figure.Figure(figsize=(2, 2), dpi=50)
            axes = figure.subplots(2, 2, subplot_kw={"xticks": [], "yticks": []})
            for j, cell in enumerate(axes.flat):
                cell.imshow(held_out[j], cmap="binary")
                color = "green" if predicted[j] == answers[j] else "red"
                cell.text(0, 0, str(predicted[j]), color=color)
            return figure

        jb.figure("test_sheet", draw_test_sheet, every=11)

    with jb.Run(logdir, step=1):
        losses = train(jb.instrument(nnx.jit(digits_step)), evaluate)

    files = EventFiles(logdir)
    assert files.tags() == {"loss", "accuracy", "test_sheet"}
    assert_close(files.values("loss"), losses, rtol=1e-7)
    assert_close(files.values("accuracy"), accuracies, rtol=1e-7)
    assert list(accuracies) == [1, 6, 11]
    assert {s: [p.shape for p in some] for s, some in files.images("test_sheet").items()} == {
        11: [(100, 100, 4)]
    }
    assert losses[12] < losses[1]
    # Reports do not change the training.
    plain = train(nnx.jit(digits_step), lambda model, step: None)
    np.testing.assert_allclose(list(plain.values()), list(losses.values()), rtol=1e-5)
