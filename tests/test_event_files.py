"""The event files of a real run, compared with plain JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

import jaxboard as jb


def test_every_point_equals_plain_jax(logdir):
    """Every point in the event files is bit-identical to the metric that an uninstrumented step returns."""
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(16, 4)
    y = np.sin(x).sum(1)

    def value(w):
        return jnp.mean((jnp.tanh(x @ w) - y) ** 2)

    @jax.jit
    def plain_step(w):
        loss, gradient = jax.value_and_grad(value)(w)
        return w - 0.1 * gradient, (loss, jnp.abs(gradient).max())

    @jb.instrument
    @jax.jit
    def reporting_step(w):
        def loss_fn(w):
            loss = value(w)
            jb.scalar("loss", loss)
            return loss

        gradient = jax.grad(loss_fn)(w)
        jb.scalar("largest", jnp.abs(gradient).max())
        jb.histogram("gradient", gradient, every=50)
        return w - 0.1 * gradient

    start = jnp.zeros(4)
    w, expected = start, []
    for _ in range(300):
        w, metrics = plain_step(w)
        expected.append(metrics)
    with jb.Run(logdir):
        actual = start
        for _ in range(300):
            actual = reporting_step(actual)
    np.testing.assert_array_equal(actual, w)

    events = EventAccumulator(logdir, size_guidance={"scalars": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    for index, tag in enumerate(["loss", "largest"]):
        points = [
            (event.step, make_ndarray(event.tensor_proto)[()])
            if hasattr(event, "tensor_proto")
            else (event.step, np.float32(event.value))
            for event in (
                events.Scalars(tag) if tag in events.Tags()["scalars"] else events.Tensors(tag)
            )
        ]
        assert points == [(i, np.asarray(m[index])[()]) for i, m in enumerate(expected)]
    histograms = events.Tensors("gradient")
    assert [event.step for event in histograms] == [0, 50, 100, 150, 200, 250]
    assert all(make_ndarray(event.tensor_proto)[:, 2].sum() == 4 for event in histograms)
