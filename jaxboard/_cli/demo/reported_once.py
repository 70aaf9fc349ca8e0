"""The reports that a run makes once: a description, charts of several curves, the graph of the network, the test images."""

from __future__ import annotations

from flax import nnx

import jaxboard as jb
from jaxboard._cli.demo.classifier import Classifier
from jaxboard._cli.demo.digits import Digits

ABOUT = """\
### Handwritten digits

A network with three layers learns to classify the ten digits. Its training step reports values where
they are computed: the loss inside the differentiated function, the gradients and the learning rate
before the optimizer's update. The evaluation reports to a run below this one, so that the curves of
training and evaluation share a chart.

The other trials have other hyperparameters and report only their curves.
"""

CHARTS = {
    "norms of the gradients": {
        "kernels": ["^gradients/norm/.*/kernel$"],
        "biases": ["^gradients/norm/.*/bias$"],
    },
}


def report(model: Classifier, test: Digits) -> None:
    """Report what does not change from step to step."""
    jb.text("about", ABOUT)
    jb.layout(CHARTS)
    jb.graph(model, test.images)

    # A point for each test image: the projector shows which ones the network finds alike.
    features, predictions = embed(model, test.images)
    jb.embedding(
        "test_images",
        features,
        labels={"digit": test.labels, "prediction": predictions},
        images=1 - test.images,
        layout="NHW",
    )


@nnx.jit
def embed(model, images):
    """Return the last hidden layer of images, and the predictions."""
    return model.features(images), model(images).argmax(axis=-1)
