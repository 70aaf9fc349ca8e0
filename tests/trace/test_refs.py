"""Instrumented functions that read and write ``jax.Ref``s: captured ones, arguments and ones made inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard.records import Histogram
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


VERBS = {
    "scalar": (lambda ref: jb.scalar("x", ref["scalar"]), {"x": 2}),
    "scalars": (lambda ref: jb.scalars("x", {"a": ref["scalar"]}), {"x/a": 2}),
    "histogram": (lambda ref: jb.histogram("x", ref["array"]), {"x": 3}),
    "tree": (lambda ref: jb.histogram("x", ref), {"x/array": 3, "x/scalar": 1}),
    "watch": (lambda ref: jb.watch("x", ref["array"], what="norm"), {"x/norm": 5}),
    "weight": (lambda ref: jb.scalar("x", 7.0, weight=ref["scalar"]), {"x": 7}),
    "tap": (lambda ref: jb.tap("x", ref), {}),
}


@pytest.mark.parametrize("way", ["plain", "captured", "argument"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_ref_as_the_value(verb, way):
    """A Ref that is passed to a verb is reported as what it holds, and passed through by ``tap``."""
    refs = {"scalar": jax.new_ref(jnp.float32(2)), "array": jax.new_ref(jnp.array([0.0, 3.0, 4.0]))}
    call, expected = VERBS[verb]

    def report(refs):
        tapped = call(refs)
        assert tapped is None or tapped["array"] is refs["array"]

    with capture() as records:
        if way == "plain":
            report(refs)
        elif way == "captured":
            jb.instrument(jax.jit(lambda: report(refs)))()
        else:
            jb.instrument(jax.jit(report))(refs)
    found = {
        r.tag: r.value.counts.sum() if isinstance(r.value, Histogram) else r.value for r in records
    }
    assert found == expected
