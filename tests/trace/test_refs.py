"""Instrumented functions that read and write ``jax.Ref``s: captured ones, arguments and ones made inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard.testing import capture


def scanned(ref, x):
    def body(x, i):
        ref[i] += x
        jb.scalar("x", x)
        return 2 * x, ref[0]

    return lax.scan(body, x, jnp.arange(3))


def looped(ref, x):
    def body(i, x):
        ref[i] += x
        jb.scalar("x", x)
        return 2 * x

    return lax.fori_loop(0, jnp.int32(x) + 2, body, x)


def branched(ref, x):
    def inner(x):
        ref[1] += x
        jb.scalar("x", x)
        return 2 * x

    return lax.cond(x > 0, inner, lambda x: x, x)


def nested(ref, x):
    @jax.jit
    def inner(x):
        ref[...] += x
        jb.scalar("x", x)
        return ref[...]

    return inner(x)


def differentiated(ref, x):
    def loss(x):
        ref[2] = lax.stop_gradient(x)
        jb.scalar("x", x)
        return x**2

    return jax.grad(loss)(x)


FUNCTIONS = {
    scanned: 7 / 3,
    looped: 7 / 3,
    branched: 1,
    nested: 1,
    differentiated: 1,
}


@pytest.mark.parametrize("options", [{}, {"gate": "cond"}, {"delivery": "callback"}])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
def test_a_captured_ref(function, options):
    """Results, the contents of the Ref and the points are those of the bare function."""
    found = []
    for instrument in (lambda f: f, lambda f: jb.instrument(f, **options)):
        ref = jax.new_ref(jnp.zeros(3))
        step = instrument(jax.jit(lambda x, ref=ref: function(ref, x)))
        with capture() as records:
            out = [step(jnp.float32(1)) for _ in range(2)]
            jax.effects_barrier()
        found.append((out, ref[...]))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [(r.step, float(r.value)) for r in records] == [
        (step, pytest.approx(FUNCTIONS[function])) for step in range(2)
    ]


def test_a_ref_as_an_argument():
    """A Ref can be an argument of an instrumented function."""

    @jb.instrument
    @jax.jit
    def step(ref, x):
        ref[...] += x
        jb.scalar("total", ref[...], every=2, reduce="max")

    ref = jax.new_ref(jnp.zeros(()))
    with capture() as records:
        for x in (1.0, 2.0, 3.0):
            step(ref, x)
    assert float(ref[...]) == 6
    assert [(r.step, float(r.value)) for r in records] == [(0, 1), (2, 6)]


def test_a_ref_made_inside():
    """A Ref that lives inside the function, changed in a scan, works as without reports."""

    @jb.instrument
    @jax.jit
    def step(x):
        ref = jax.new_ref(x)

        def body(_, i):
            ref[...] += i
            jb.scalar("ref", ref[...])
            return None, None

        lax.scan(body, None, jnp.arange(3))
        return jax.freeze(ref)

    with capture() as records:
        assert float(step(jnp.float32(1))) == 4
    assert [float(r.value) for r in records] == [pytest.approx(7 / 3)]
