"""``python -m jaxboard demo``: a small Flax network on handwritten digits, with every kind of report.

The model is that of the JAX AI stack's TensorBoard tutorial. The data are scikit-learn's digits: 1797
images of 8 by 8 pixels that come with the package.
"""

from __future__ import annotations

import os
import shlex
import time

import jax
import matplotlib.figure
import numpy as np
import optax
from flax import nnx
from sklearn.datasets import load_digits
from tqdm import tqdm

import jaxboard as jb
from jaxboard import _paths

BATCH_SIZE = 128
HIDDEN = 100
LEARNING_RATE = 3e-3
SEED = 0

ABOUT = """\
### Handwritten digits

A network with three layers learns to classify the ten digits. Its training step reports values where
they are computed: the loss inside the differentiated function, the gradients and the learning rate
before the optimizer's update.

| dashboard | content |
| --- | --- |
| **Scalars** | loss and accuracy of both steps, learning rate, gradient norm |
| **Histograms**, **Distributions** | the gradient of every parameter, every {every} steps |
| **Images** | input images and the test sheet, with wrong predictions in red |
| **HParams** | the hyperparameters of this run |
"""


class Classifier(nnx.Module):
    """A network from images [N, 8, 8] to logits [N, 10]."""

    def __init__(self, hidden: int, *, rngs: nnx.Rngs):
        self.layer1 = nnx.Linear(64, hidden, rngs=rngs)
        self.layer2 = nnx.Linear(hidden, hidden, rngs=rngs)
        self.layer3 = nnx.Linear(hidden, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = images.reshape(len(images), -1)
        x = nnx.selu(self.layer1(x))
        x = nnx.selu(self.layer2(x))
        return self.layer3(x)


def loss_and_logits(model: Classifier, images: jax.Array, labels: jax.Array):
    """Compute the loss and the logits, and report the loss and the accuracy."""
    logits = model(images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    jb.scalar("loss", loss)
    jb.scalar("accuracy", (logits.argmax(axis=-1) == labels).mean())
    return loss, logits


def make_train_step(schedule: optax.Schedule, every: int):
    """Return the training step, which reports histograms and images every ``every`` steps."""

    @jb.instrument
    @nnx.jit
    def train_step(model, optimizer, images, labels):
        with jb.scope("train"):
            grads, _ = nnx.grad(loss_and_logits, has_aux=True)(model, images, labels)
            jb.scalar("gradient_norm", optax.tree.norm(grads))
            jb.scalar("learning_rate", schedule(optimizer.step[...]))
            jb.histogram("gradients", grads, every=every)
            jb.image("inputs", images[..., None], every=every, max_images=4)
            optimizer.update(model, grads)

    return train_step


@jb.instrument(advance=False)  # belongs to the training step before it
@nnx.jit
def eval_step(model, images, labels):
    """Report the loss and the accuracy on test data, and return the predictions."""
    with jb.scope("eval"):
        _, logits = loss_and_logits(model, images, labels)
    return logits.argmax(axis=-1)


def draw_test_sheet(images: np.ndarray, predictions: np.ndarray, labels: np.ndarray):
    """Draw a hundred test images with the predictions next to them, green if right, red if wrong."""
    figure = matplotlib.figure.Figure(figsize=(6, 6), layout="tight")
    axes = figure.subplots()
    # One mosaic instead of a hundred axes, which would take a second to draw.
    mosaic = np.pad(images[:100], ((0, 0), (1, 1), (1, 1))).reshape(10, 10, 10, 10)
    axes.imshow(mosaic.swapaxes(1, 2).reshape(100, 100), cmap="binary", interpolation="gaussian")
    axes.set_axis_off()
    for i, (prediction, label) in enumerate(zip(predictions[:100], labels[:100], strict=True)):
        row, column = divmod(i, 10)
        color = "green" if prediction == label else "red"
        axes.text(10 * column, 10 * row + 9, str(prediction), color=color, weight="bold")
    return figure


def main(logdir: str, steps: int) -> None:
    """Train for ``steps`` steps in a new run under ``logdir``, and print what was written."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.float32(pixels).reshape(-1, 8, 8) / 16
    shuffle = np.random.default_rng(SEED)
    test, train = np.split(shuffle.permutation(len(images)), [450])

    schedule = optax.cosine_decay_schedule(LEARNING_RATE, steps)
    model = Classifier(HIDDEN, rngs=nnx.Rngs(SEED))
    optimizer = nnx.Optimizer(model, optax.adam(schedule), wrt=nnx.Param)

    eval_every, sheet_every = max(1, steps // 40), max(1, steps // 4)
    train_step = make_train_step(schedule, every=eval_every)
    hparams = {
        "learning_rate": LEARNING_RATE,
        "batch_size": BATCH_SIZE,
        "hidden": HIDDEN,
        "steps": steps,
        "optimizer": "adam",
        "seed": SEED,
    }

    started = time.time()
    path = os.path.join(logdir, time.strftime("%Y%m%d-%H%M%S"))
    with jb.Run(path, hparams=hparams):
        jb.text("about", ABOUT.format(every=eval_every))
        for step in tqdm(range(steps), desc="training", unit="step"):
            batch = shuffle.choice(train, BATCH_SIZE, replace=False)
            train_step(model, optimizer, images[batch], labels[batch])
            is_last = step == steps - 1
            if step % eval_every == 0 or is_last:
                predictions = eval_step(model, images[test], labels[test])
                if step % sheet_every == 0 or is_last:
                    sheet = draw_test_sheet(images[test], np.asarray(predictions), labels[test])
                    jb.figure("test_sheet", sheet)
    print(f"\nTrained for {steps} steps in {time.time() - started:.1f} s.\n")
    print(list_tags(path))
    print(f"\nView it:\n\n  {_paths.python()} -m tensorboard.main --logdir {shlex.quote(logdir)}\n")


def list_tags(path: str) -> str:
    """Return a table of the event files in ``path``: each tag with its number of points and last value."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    files = [os.path.join(path, name) for name in sorted(os.listdir(path)) if "tfevents" in name]
    kinds: dict[str, str] = {}  # by tag; only the first value of a tag has its kind
    points: dict[str, list[np.ndarray]] = {}
    for file in files:
        for event in EventFileLoader(file).Load():
            for value in event.summary.value:
                kinds.setdefault(value.tag, value.metadata.plugin_data.plugin_name)
                points.setdefault(value.tag, []).append(make_ndarray(value.tensor))

    width = max(map(len, points)) + 2
    size = sum(map(os.path.getsize, files)) / 1000
    lines = [f"In {path} ({size:.0f} kB):"]
    for kind, show in _SHOW_VALUE.items():
        lines += ["", f"  {kind:{width}}  points  last"]
        for tag in sorted(tag for tag in points if kinds[tag] == kind):
            lines.append(f"    {tag:{width - 2}}  {len(points[tag]):6}  {show(points[tag][-1])}")
    return "\n".join(lines)


_SHOW_VALUE = {
    "scalars": lambda value: str(value[()]),  # the shortest text that is this float32
    "histograms": lambda table: f"{len(table)} buckets, {table[0, 0]:.3g} to {table[-1, 1]:.3g}",
    "images": lambda texts: f"{int(texts[0])} x {int(texts[1])} pixels, {len(texts) - 2} of them",
    "text": lambda text: text.item().decode().partition("\n")[0],
}
