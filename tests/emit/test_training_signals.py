"""``noise_scale``, ``attention_entropy`` and ``max_logit``: numbers that warn of unstable or wasteful training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard.testing import capture


def points(records):
    return [(r.tag, r.step, float(r.value)) for r in records]


def test_the_noise_scale_of_gradients_with_known_noise():
    """The scale of many steps is the trace of the covariance divided by the squared norm of the gradient."""
    size, small, large, steps = 50, 4, 64, 400
    gradient = np.full(
        size, 0.2, np.float32
    )  # its squared norm is 2, the trace of the covariance 50 * 0.3^2
    noise = np.random.default_rng(0).normal(scale=0.3, size=(steps, large, size)).astype(np.float32)

    @jb.instrument
    @jax.jit
    def step(examples):
        each = gradient[None] + examples
        jb.noise_scale(
            "noise", {"w": each[:small].mean(0)}, {"w": each.mean(0)}, small, large, every=steps - 1
        )

    with capture() as records:
        for examples in noise:
            step(examples)
    estimates = {tag: value for tag, at, value in points(records) if at == steps - 1}
    assert estimates["noise/signal"] == pytest.approx(2, rel=0.02)
    assert estimates["noise/noise"] == pytest.approx(4.5, rel=0.05)
    assert estimates["noise/scale"] == pytest.approx(2.25, rel=0.06)


def test_estimates_are_averaged_before_the_division():
    """Lanes, iterations and steps of a window are averaged as squared norms; without a signal there is no scale."""
    norms = [(5.0, 2.0), (9.0, 6.0), (1.0, 0.5), (5.0, 1.5)]
    small, large = np.sqrt(np.array(norms, np.float32)).T

    def lanes(small, large):
        jax.vmap(lambda a, b: jb.noise_scale("x", a, b, 1, 4))(small, large)

    def iterations(small, large):
        lax.scan(lambda c, ab: (c, jb.noise_scale("x", *ab, 1, 4)), 0, (small, large))

    for function in (lanes, iterations):
        with capture() as records:
            jb.instrument(jax.jit(function))(small, large)
        found = {tag: value for tag, _, value in points(records)}
        # The means are 5 and 2.5.
        assert found == pytest.approx({"x/scale": 2, "x/signal": 5 / 3, "x/noise": 10 / 3})
    with capture() as records:
        jb.noise_scale("x", small[3], large[3] / 2, 1, 4)
    assert [tag for tag, _, _ in points(records)] == ["x/signal", "x/noise"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"n": 1}, 2.0, 1, 4), "expected small= to contain arrays of floats, got {'n': 1}"),
        ((1.0, {}, 1, 4), "expected large= to contain arrays of floats, got {}"),
        (
            ({"w": np.ones(2)}, {"w": np.ones(3)}, 1, 4),
            r"The leaf 'w' of small= is float32\[2\], that of large= float32\[3\]",
        ),
        (
            ({"w": np.ones(2)}, {"w": np.ones(2), "b": np.ones(2)}, 1, 4),
            r"The leaf 'b' of small= is missing, that of large= float32\[2\]",
        ),
        ((1.0, 2.0, 4, 4), "expected large_batch= to be greater than small_batch=4, got 4"),
        ((1.0, 2.0, 0, 4), "expected small_batch= to be a positive integer, got 0"),
    ],
)
def test_errors_of_the_noise_scale(arguments, message):
    """Arguments that do not fit raise."""
    with capture(), pytest.raises(jb.ReportError, match=message):
        jb.noise_scale("noise", *arguments)


def test_the_entropy_of_attention():
    """It is the mean over queries with any weight, in nats, also of 16-bit weights."""
    weights = np.zeros((2, 3, 4))
    weights[0, 0, 1] = 1  # 0
    weights[0, 1] = 0.25  # log 4
    weights[1, 2, :2] = 0.5  # log 2
    mean = np.log(8) / 3
    with capture() as records:
        jb.attention_entropy("host", weights)
        jb.instrument(jax.jit(lambda x: jb.attention_entropy("device", x)))(weights)
        jb.attention_entropy("half", jnp.asarray(weights, jnp.bfloat16))
        jb.attention_entropy("none", np.zeros((2, 2)))
    found = {tag: value for tag, _, value in points(records)}
    assert found == pytest.approx({"host": mean, "device": mean, "half": mean, "none": 0}, rel=1e-6)


def test_the_attention_of_each_layer():
    """In a scan over layers under grad, "stack" has a curve for each layer; otherwise layers make one point."""

    def loss(x):
        def layer(x, scale):
            logits = scale * x[:, None] * x[None]
            logits = jnp.where(jnp.tri(3, dtype=bool), logits, -jnp.inf)
            jb.max_logit("largest", logits)
            jb.max_logit("layer", logits, reduce="stack")
            weights = jax.nn.softmax(logits)
            jb.attention_entropy("entropy", weights, reduce="min")
            return weights @ x, None

        return lax.scan(layer, x, jnp.array([1.0, 100.0]))[0].sum()

    with capture() as records:
        gradient = jb.instrument(jax.jit(jax.grad(loss)))(jnp.array([1.0, 2.0, 3.0]))
    found = {tag: value for tag, _, value in points(records)}
    assert found["largest"] == found["layer/iteration_01"] > found["layer/iteration_00"] == 9
    assert found["entropy"] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("verb", [jb.attention_entropy, jb.max_logit])
@pytest.mark.parametrize("values", [np.arange(4), 1.0, np.zeros((0, 3))], ids=str)
def test_arrays_that_are_not_attention(verb, values):
    """Integers, scalars and empty arrays raise."""
    with capture(), pytest.raises(jb.ReportError, match="to be an array of floats"):
        verb("x", values)
