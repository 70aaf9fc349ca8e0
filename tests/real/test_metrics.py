"""Metrics of CLU and metrax, against what they compute by themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxboard as jb
from jaxboard.testing import capture

pytestmark = pytest.mark.real

BATCHES = 5


def batches():
    keys = jax.random.split(jax.random.key(0), BATCHES)
    logits = jax.vmap(lambda key: jax.random.normal(key, (16, 3)))(keys)
    labels = jnp.arange(BATCHES * 16).reshape(BATCHES, 16) % 3
    return logits, labels


def leaves(prefix, result):
    return {f"{prefix}/{name}": float(value) for name, value in result.items()}


def test_a_clu_collection():
    """Batches of an evaluation, steps of a window, and iterations of a scan merge as CLU merges them."""
    clu = pytest.importorskip("clu.metrics")
    Metrics = clu.Collection.create(
        accuracy=clu.Accuracy,
        loss=clu.Average.from_output("loss"),
        last=clu.LastValue.from_output("size"),
    )

    def of(logits, labels):
        loss = (logits**2).mean()
        return Metrics.single_from_model_output(
            logits=logits, labels=labels, loss=loss, size=logits.max()
        )

    @jb.instrument
    @jax.jit
    def step(logits, labels):
        jb.metric("window", of(logits, labels), every=BATCHES)

    @jb.instrument(advance=False)
    @jax.jit
    def evaluate(logits, labels):
        jb.metric("eval", of(logits, labels))

    @jb.instrument(advance=False)
    @jax.jit
    def scan(logits, labels):
        jax.lax.scan(lambda c, x: (c, jb.metric("scan", of(*x))), 0, (logits, labels))

    logits, labels = batches()
    total = Metrics.empty()
    with capture(step=1) as records:
        for batch in zip(logits, labels, strict=True):
            total = total.merge(of(*batch))
            step(*batch)
        for batch in zip(logits, labels, strict=True):
            evaluate(*batch)
        scan(logits, labels)
    expected = total.compute()
    assert {record.tag: float(record.value) for record in records} == pytest.approx(
        leaves("window", expected) | leaves("eval", expected) | leaves("scan", expected), rel=1e-5
    )


def test_metrax():
    """Metrics with curves of thresholds merge like those with sums; a MultiMetric needs no change of the step."""
    metrax = pytest.importorskip("metrax")
    wrapped = pytest.importorskip("metrax.nnx")
    metrics = nnx.MultiMetric(auc=wrapped.AUCROC(), mse=wrapped.MSE())

    def one(scores, truth):
        return {
            "auc": metrax.AUCROC.from_model_output(predictions=scores, labels=truth),
            "mse": metrax.MSE.from_model_output(predictions=scores, labels=truth),
        }

    @jb.instrument(advance=False)
    @nnx.jit
    def evaluate(metrics, scores, truth):
        metrics.update(predictions=scores, labels=truth)
        jb.metric("nnx", metrics)
        jb.metric("clu", one(scores, truth))

    scores = jax.nn.sigmoid(batches()[0][..., 0])
    truth = jnp.asarray(np.arange(scores.size).reshape(scores.shape) % 2, jnp.float32)
    with capture(step=0) as records, jax.numpy_rank_promotion("allow"):
        for batch in zip(scores, truth, strict=True):
            evaluate(metrics, *batch)
    expected = metrics.compute()
    assert {record.tag: float(record.value) for record in records} == pytest.approx(
        leaves("nnx", expected) | leaves("clu", expected), rel=1e-5
    )
