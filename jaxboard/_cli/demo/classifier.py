"""The model, that of the JAX AI stack's TensorBoard tutorial, and its loss."""

from __future__ import annotations

import jax
import optax
from flax import nnx

import jaxboard as jb


class Classifier(nnx.Module):
    """A network of three layers."""

    def __init__(self, hidden: int, *, rngs: nnx.Rngs):
        self.layer1 = nnx.Linear(64, hidden, rngs=rngs)
        self.layer2 = nnx.Linear(hidden, hidden, rngs=rngs)
        self.layer3 = nnx.Linear(hidden, 10, rngs=rngs)

    def features(self, images: jax.Array) -> jax.Array:
        """Return the last hidden layer, [N, hidden], of images [N, 8, 8]."""
        x = images.reshape(len(images), -1)
        x = nnx.selu(self.layer1(x))
        return nnx.selu(self.layer2(x))

    def __call__(self, images: jax.Array) -> jax.Array:
        """Return the logits, [N, 10], of images [N, 8, 8]."""
        return self.layer3(self.features(images))


def loss_fn(model: Classifier, images: jax.Array, labels: jax.Array):
    """Return the loss and the logits. In training, the reports are inside ``grad``."""
    logits = model(images)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
    jb.scalar("loss", loss)
    jb.scalar("accuracy", (logits.argmax(axis=-1) == labels).mean())
    return loss, logits
