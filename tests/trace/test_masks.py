"""Masks of reports under two maps: the lanes that count, also where both maps have the same length."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard.testing import capture

XS = np.array([1, 2, 3, 4], np.float32)
VALID = np.array([True, False, True, False])
DELIVERIES = {
    "output": lambda f: jb.instrument(jax.jit(f)),
    "callback": lambda f: jax.jit(jb.instrument(jax.jit(f))),
}


def report(value):
    jb.scalar("sum", value, reduce="sum")
    return value


def masked_examples(ws):
    """Report the valid examples of a padded batch that all seeds share."""

    def example(w, x, valid):
        return lax.cond(valid, lambda x: report(w * x), lambda x: 0 * x, x)

    return jax.vmap(lambda w: jax.vmap(lambda x, valid: example(w, x, valid))(XS, VALID))(ws)


def masked_seeds(ws):
    """Report all examples of the valid seeds."""

    def seed(w, valid):
        examples = jax.vmap(lambda x: report(w * x))
        return lax.cond(valid, examples, lambda xs: 0 * w * xs, XS)

    return jax.vmap(seed)(ws, VALID[: len(ws)])


def masked_seeds_and_examples(ws):
    """Report the valid examples of the valid seeds."""

    def example(w, x, valid):
        return lax.cond(valid, lambda x: report(w * x), lambda x: 0 * x, x)

    def seed(w, valid):
        examples = jax.vmap(lambda x, valid: example(w, x, valid))
        return lax.cond(valid, examples, lambda xs, _: 0 * w * xs, XS, jnp.asarray(VALID[::-1]))

    return jax.vmap(seed)(ws, VALID[: len(ws)])


@pytest.mark.parametrize("delivery", DELIVERIES)
@pytest.mark.parametrize("seeds", [3, 4])
@pytest.mark.parametrize("program", [masked_examples, masked_seeds, masked_seeds_and_examples])
def test_branches(program, seeds, delivery):
    """A lane counts if it takes the branch; the results of the other lanes are zero."""
    ws = 10.0 ** np.arange(seeds, dtype=np.float32)
    with capture() as records:
        results = DELIVERIES[delivery](program)(ws)
    assert [float(record.value) for record in records] == [float(np.sum(results))]


def loops(ws, counts):
    """Run a loop for each seed and example, with a number of iterations that depends on the example."""

    def example(w, count):
        def body(state):
            return state[0] + 1, state[1] + report(w * (state[0] + 1))

        return lax.while_loop(lambda state: state[0] < count, body, (0, 0 * w))[1]

    return jax.vmap(lambda w: jax.vmap(lambda count: example(w, count))(counts))(ws)


def test_loops():
    """A lane that has finished its loop does not count, if the lengths of the maps differ."""
    with capture() as records:
        results = jb.instrument(jax.jit(loops))(np.ones(3, np.float32), np.array([1, 2, 3, 0]))
    assert [float(record.value) for record in records] == [float(np.sum(results))]


def test_loops_under_maps_of_one_length():
    """A loop under two maps of one length issues a warning, since its program does not show the map."""
    message = "'sum' is in a loop under two maps with 4 lanes each"
    with capture(), pytest.warns(jb.JaxboardWarning, match=message):
        jb.instrument(jax.jit(loops))(np.ones(4, np.float32), np.array([1, 2, 3, 0]))
