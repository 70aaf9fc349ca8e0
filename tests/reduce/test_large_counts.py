"""Counts and weights are exact beyond 32 bits."""

import jax
import jax.numpy as jnp
import pytest

import jaxboard as jb
from jaxboard.testing import capture

TOKENS = 4 * 2**20


def weighted(x):
    jb.scalar("loss", x, weight=jnp.int32(TOKENS))
    return x


def test_weights_over_batches_of_an_evaluation():
    """A thousand batches of four million tokens have the mean of their values."""
    evaluate = jb.instrument(jax.jit(weighted), advance=False)
    with capture() as records:
        for _ in range(1000):
            evaluate(jnp.float32(2.5))
    assert [float(record.value) for record in records] == [2.5]


def test_weights_over_a_scan():
    """The same over the iterations of a scan."""
    scan = jb.instrument(
        jax.jit(lambda x: jax.lax.scan(lambda c, _: (weighted(c), None), x, None, length=1000)[0])
    )
    with capture() as records:
        scan(jnp.float32(2.5))
    assert [float(record.value) for record in records] == [2.5]


def test_weights_over_a_window():
    """The same over the steps of a window."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("loss", x, weight=jnp.int32(TOKENS), every=1000)
        return x

    with capture() as records:
        for _ in range(1001):
            step(jnp.float32(2.5))
    assert [(record.step, float(record.value)) for record in records] == [(0, 2.5), (1000, 2.5)]


@pytest.mark.parametrize("place", ["evaluation", "scan"])
def test_elements_of_a_histogram(place):
    """Two billion elements, seen in 130 pieces, are all counted."""
    x = jnp.ones(2**24)

    def step(x):
        jb.histogram("h", x)
        return x

    with capture() as records:
        if place == "scan":
            jb.instrument(
                jax.jit(lambda x: jax.lax.scan(lambda c, _: (step(c), None), x, None, length=130)[0])
            )(x)
        else:
            evaluate = jb.instrument(jax.jit(step), advance=False)
            for _ in range(130):
                evaluate(x)
    assert [int(record.value.counts.sum()) for record in records] == [130 * 2**24]


def test_steps_on_the_device_beyond_31_bits():
    """A step that a 64-bit program computes is not wrapped to 32 bits."""
    with jax.enable_x64(True):
        step = jb.instrument(
            jax.jit(lambda n: (jb.scalar("x", 1.0), n + 1)[1]), step=lambda n: n
        )
        n = jnp.int64(2**31 - 1)
        with capture() as records:
            for _ in range(3):
                n = step(n)
    assert [record.step for record in records] == [2**31 - 1, 2**31, 2**31 + 1]
