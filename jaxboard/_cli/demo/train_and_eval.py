"""The two jitted steps: one trains, one evaluates. Each reports values where it computes them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from flax import nnx

import jaxboard as jb
from jaxboard._cli.demo.classifier import loss_fn

HARDEST = 30
"""The number of test images in the image ``hardest``."""

SIZE = 48
"""The width of these images in pixels."""


def make_train_step(schedule: optax.Schedule, every: int):
    """Return the training step. It reports numbers at every step, and arrays at every ``every`` steps."""

    @jb.instrument
    @nnx.jit
    def train_step(model, optimizer, images, labels):
        with jb.trace("gradients"):
            grads, logits = nnx.grad(loss_fn, has_aux=True)(model, images, labels)
        jb.scalar("learning_rate", schedule(optimizer.step[...]))
        jb.histogram("logits", logits, every=every)
        jb.watch("gradients", grads, what=("norm", "histogram"), every=every)
        jb.image("inputs", enlarged(images[:30]), layout="NHW", grid=10, every=every)

        before = jax.tree.map(jnp.copy, nnx.state(model, nnx.Param))
        with jb.trace("update"):
            optimizer.update(model, grads)
        updates = jax.tree.map(jnp.subtract, nnx.state(model, nnx.Param), before)
        jb.health(before, grads, updates, every=every)

    return train_step


@jb.instrument(advance=False)  # Its reports belong to the training step before it.
@nnx.jit
def eval_step(model, images, labels):
    """Return the loss and the accuracy on test data."""
    loss, logits = loss_fn(model, images, labels)
    predictions = logits.argmax(axis=-1)
    accuracy = (predictions == labels).mean()
    jb.confusion_matrix("confusion", labels, predictions, classes=10)
    jb.pr_curve("digit", labels, jax.nn.softmax(logits), classes=list("0123456789"))
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    hardest = jnp.argsort(-losses)[:HARDEST]
    report_predictions(images[hardest], labels[hardest], predictions[hardest])
    return {"loss": loss, "accuracy": accuracy}


def report_predictions(images, labels, predictions):
    """Report images of digits as one image, with a box and the prediction around those that are wrong."""
    is_wrong = predictions != labels
    corners = jnp.array([1, 1, SIZE - 2, SIZE - 2])
    boxes = jnp.where(is_wrong[:, None, None], corners, 0)  # A box without an area is not drawn.
    jb.image(
        "hardest",
        1 - enlarged(images),
        layout="NHW",
        grid=6,
        boxes=boxes,
        labels=predictions[:, None],
        class_names=list("0123456789"),
    )


def enlarged(images):
    """Return images of digits [N, 8, 8] in the size in which TensorBoard is to show them."""
    return jax.image.resize(images, (len(images), SIZE, SIZE), "cubic").clip(0, 1)
