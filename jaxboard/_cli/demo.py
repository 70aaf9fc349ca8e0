"""``python -m jaxboard demo``: a small Flax network on handwritten digits, with many kinds of reports.

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
from jaxboard._cli.terminal_text import counted

BATCH_SIZE = 128
HIDDEN = 100
LEARNING_RATE = 3e-3
PROFILED_STEPS = 5
SEED = 0

ABOUT = """\
### Handwritten digits

A network with three layers learns to classify the ten digits. Its training step reports values where
they are computed: the loss inside the differentiated function, the gradients and the learning rate
before the optimizer's update. The evaluation reports to a child of the run, so that the curves of
training and evaluation share a chart.

| dashboard | content |
| --- | --- |
| **Scalars** | loss and accuracy of training and evaluation, learning rate, norms of the gradients |
| **Scalars**, `jaxboard/` | telemetry: where the time goes, step times, compile times, memory, the cost of reporting |
| **Histograms**, **Distributions** | the logits, and the gradient of every parameter, every {every} steps |
| **Images** | input images and the test sheet, with wrong predictions in red |
| **Text** | this page, the verdict on the profile, its slowest operations |
| **HParams** | the hyperparameters of this run |
| **Profile** | the time line of {profiled} training steps; it needs xprof |
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


def loss_fn(model: Classifier, images: jax.Array, labels: jax.Array):
    """Return the loss and the logits. In training, the reports are inside ``grad``."""
    logits = model(images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    jb.scalar("loss", loss)
    jb.scalar("accuracy", (logits.argmax(axis=-1) == labels).mean())
    return loss, logits


def make_train_step(schedule: optax.Schedule, every: int):
    """Return the training step, which reports arrays every ``every`` steps."""

    @jb.instrument
    @nnx.jit
    def train_step(model, optimizer, images, labels):
        with jb.trace("gradients"):
            grads, logits = nnx.grad(loss_fn, has_aux=True)(model, images, labels)
        jb.histogram("logits", logits, every=every)
        jb.watch("gradients", grads, what=("norm", "histogram"), every=every)
        jb.scalar("learning_rate", schedule(optimizer.step[...]))
        jb.image("inputs", images[..., None], every=every, max_images=4)
        with jb.trace("update"):
            optimizer.update(model, grads)

    return train_step


@jb.instrument(advance=False)
@nnx.jit
def eval_step(model, images, labels):
    """Return the predictions on test data."""
    _, logits = loss_fn(model, images, labels)
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
    pixels, labels = map(np.asarray, load_digits(return_X_y=True))
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

    middle = steps // 2
    profiled = range(middle, min(middle + PROFILED_STEPS, steps))
    telemetry = jb.Telemetry(per_call={"train_step": {"images": BATCH_SIZE}})

    started = time.time()
    path = os.path.join(logdir, time.strftime("%Y%m%d-%H%M%S"))
    with (
        jb.Run(path, hparams=hparams, telemetry=telemetry) as run,
        jb.profile(profiled),
    ):
        jb.text("about", ABOUT.format(every=eval_every, profiled=len(profiled)))
        for step in tqdm(range(steps), desc="training", unit="step"):
            batch = shuffle.choice(train, BATCH_SIZE, replace=False)
            train_step(model, optimizer, images[batch], labels[batch])
            is_last = step == steps - 1
            if step % eval_every == 0 or is_last:
                with run.child("eval"):
                    predictions = eval_step(model, images[test], labels[test])
                    if step % sheet_every == 0 or is_last:
                        sheet = draw_test_sheet(images[test], np.asarray(predictions), labels[test])
                        jb.figure("test_sheet", sheet)
    print(f"\nTrained for {steps} steps in {time.time() - started:.1f} s.\n")
    print(list_tags(path), list_tags(os.path.join(path, "eval")), sep="\n\n")
    print(f"\nSee where its time went:\n\n  {_paths.python()} -m jaxboard why {shlex.quote(path)}")
    print(f"\nView it:\n\n  {_paths.python()} -m tensorboard.main --logdir {shlex.quote(logdir)}\n")


def list_tags(path: str) -> str:
    """Return a table of the event files in ``path``: the tags with their numbers of points and last values."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    from jaxboard.sinks._tensorflow import tensorflow

    tensorflow()  # TensorBoard's loader would import it with messages on standard error.
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
        rows = {}
        for tag in sorted(tag for tag in points if kinds[tag] == kind):
            rows[tag] = len(points[tag]), show(points[tag][-1])
        for group in _GROUPS:  # one line for what the demo does not report itself
            tags = [tag for tag in rows if tag.startswith(group)]
            if tags:
                rows[f"{group}…"] = sum(rows.pop(tag)[0] for tag in tags), counted(len(tags), "tag")
        if rows:
            lines += ["", f"  {kind:{width}}  points  last"]
        for tag, (count, last) in rows.items():
            lines.append(f"    {tag:{width - 2}}  {count:6}  {last}")
    return "\n".join(lines)


_GROUPS = ("gradients/histogram/", "gradients/norm/", "jaxboard/", "profile/")


_SHOW_VALUE = {
    "scalars": lambda value: str(value[()]),  # the shortest text that is this float32
    "histograms": lambda table: f"{len(table)} buckets, {table[0, 0]:.3g} to {table[-1, 1]:.3g}",
    "images": lambda texts: f"{int(texts[0])} x {int(texts[1])} pixels, {len(texts) - 2} of them",
    "text": lambda text: text.flat[0].decode().partition("\n")[0] + (", …" if text.ndim else ""),
}
