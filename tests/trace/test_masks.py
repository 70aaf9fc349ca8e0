"""Which lanes count, where two maps around a report have as many: told apart, or said that they can't be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard.testing import capture

XS = np.array([1, 2, 3, 4], np.float32)
REAL = np.array([True, False, True, False])
WAYS = {
    "output": lambda f: jb.instrument(jax.jit(f)),
    "callback": lambda f: jax.jit(jb.instrument(jax.jit(f))),
}


def reported(value):
    jb.scalar("sum", value, reduce="sum")
    return value


def examples_left_out(ws):
    """A batch, padded, that all seeds share."""

    def example(w, x, real):
        return lax.cond(real, lambda x: reported(w * x), lambda x: 0 * x, x)

    return jax.vmap(lambda w: jax.vmap(lambda x, real: example(w, x, real))(XS, REAL))(ws)


def seeds_left_out(ws):
    def seed(w, real):
        examples = jax.vmap(lambda x: reported(w * x))
        return lax.cond(real, examples, lambda xs: 0 * w * xs, XS)

    return jax.vmap(seed)(ws, REAL[: len(ws)])


def both_left_out(ws):
    def example(w, x, real):
        return lax.cond(real, lambda x: reported(w * x), lambda x: 0 * x, x)

    def seed(w, real):
        examples = jax.vmap(lambda x, real: example(w, x, real))
        return lax.cond(real, examples, lambda xs, _: 0 * w * xs, XS, jnp.asarray(REAL[::-1]))

    return jax.vmap(seed)(ws, REAL[: len(ws)])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seeds", [3, 4])
@pytest.mark.parametrize("program", [examples_left_out, seeds_left_out, both_left_out])
def test_branches(program, seeds, way):
    """What is left out of the results, being zero there, is left out of the report."""
    ws = 10.0 ** np.arange(seeds, dtype=np.float32)
    with capture() as records:
        results = WAYS[way](program)(ws)
    assert [float(record.value) for record in records] == [float(np.sum(results))]


def trips(ws, counts):
    def example(w, count):
        def body(state):
            return state[0] + 1, state[1] + reported(w * (state[0] + 1))

        return lax.while_loop(lambda state: state[0] < count, body, (0, 0 * w))[1]

    return jax.vmap(lambda w: jax.vmap(lambda count: example(w, count))(counts))(ws)


def test_loops():
    """Where it shows by the lengths which lanes are done, those count no more."""
    with capture() as records:
        results = jb.instrument(jax.jit(trips))(np.ones(3, np.float32), np.array([1, 2, 3, 0]))
    assert [float(record.value) for record in records] == [float(np.sum(results))]


def test_loops_of_as_many():
    """Where it does not, that is said."""
    with (
        capture(),
        pytest.warns(
            jb.JaxboardWarning, match="'sum' is in a loop under two maps with 4 lanes each"
        ),
    ):
        jb.instrument(jax.jit(trips))(np.ones(4, np.float32), np.array([1, 2, 3, 0]))
