"""Reports under ``jax.experimental.jet``: the primal value is reported, and the series does not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.testing import capture

jet = pytest.importorskip("jax.experimental.jet")


def cube(x):
    y = jb.tap("tap", x) * x
    jb.scalar("y", y)
    jb.histogram("h", y[None], where=y > 0)
    return y * x


@pytest.mark.parametrize("function", [cube, jax.jit(cube)])
@pytest.mark.parametrize("instrument", [lambda f: f, jb.instrument])
def test_jet(function, instrument):
    """Taylor mode counts a report once, with its primal value."""

    @instrument
    @jax.jit
    def step(x):
        return jet.jet(function, (x,), ((1.0, 0.0),))

    expected = jet.jet(lambda x: x * x * x, (2.0,), ((1.0, 0.0),))
    with capture() as records:
        primal, series = step(2.0)
        jax.effects_barrier()
    np.testing.assert_allclose(primal, expected[0])
    np.testing.assert_allclose(jnp.stack(series), jnp.stack(expected[1]), rtol=1e-5)
    assert [float(r.value) for r in records if r.tag == "y"] == [4]
    assert sum(r.tag == "h" for r in records) == 1


def test_an_instrumented_function_under_jet():
    """Taylor mode of an instrumented function, whose frame leaves by a callback."""
    inner = jb.instrument(jax.jit(cube))
    with capture() as records:
        primal, series = jax.jit(lambda x: jet.jet(inner, (x,), ((1.0, 0.0),)))(2.0)
        jax.effects_barrier()
    np.testing.assert_allclose([primal, *series], [8, 12, 12], rtol=1e-5)
    assert [float(r.value) for r in records if r.tag == "y"] == [4]
