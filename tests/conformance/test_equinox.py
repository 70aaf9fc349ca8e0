"""Reports under Equinox's filtered transformations and of its modules."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard.testing import capture

eqx = pytest.importorskip("equinox")


class Layer(eqx.Module):
    w: jax.Array
    activation: Callable[[jax.Array], jax.Array] = jnp.sin

    def __call__(self, x, report):
        report("x", x)
        return self.activation(x * self.w)


def ignore(tag, value):
    pass


def call(layer, x, report):
    return layer(x, report)


def grad(layer, x, report):
    return eqx.filter_grad(lambda layer: layer(x, report))(layer)


def value_and_grad(layer, x, report):
    return eqx.filter_value_and_grad(lambda layer: layer(x, report))(layer)


def vmap(layer, x, report):
    return eqx.filter_vmap(lambda layer, x: layer(x, report), in_axes=(None, 0))(
        layer, jnp.stack([x, x])
    )


def vmap_of_layers(layer, x, report):
    layers = eqx.filter_vmap(Layer)(jnp.stack([layer.w, 2 * layer.w]))
    return eqx.filter_vmap(lambda layer, x: layer(x, report), in_axes=(eqx.if_array(0), None))(
        layers, x
    )


def remat(layer, x, report):
    return eqx.filter_grad(eqx.filter_checkpoint(lambda layer: layer(x, report)))(layer)


def custom_rule(layer, x, report):
    @eqx.filter_custom_vjp
    def f(layer, x):
        return layer(x, ignore)

    @f.def_fwd
    def _(_, layer, x):
        return layer(x, report), None

    @f.def_bwd
    def _(_, g, __, layer, x):
        return jax.tree.map(lambda leaf: 3 * g * leaf, eqx.filter(layer, eqx.is_inexact_array))

    return eqx.filter_grad(lambda layer: f(layer, x))(layer)


def scan(layer, x, report):
    def total(layer):
        return lax.scan(lambda c, x: (c + layer(x, report), None), 0.0, jnp.stack([x, x]))[0]

    return eqx.filter_grad(total)(layer)


PROGRAMS = [
    call,
    grad,
    value_and_grad,
    vmap,
    vmap_of_layers,
    remat,
    custom_rule,
    scan,
]
DELIVERIES = {
    "output": lambda f: jb.instrument(eqx.filter_jit(f)),
    "callback": lambda f: eqx.filter_jit(jb.instrument(eqx.filter_jit(f))),
    "no_instrument": eqx.filter_jit,
    "eager": lambda f: f,
}


def points(records):
    return [(record.tag, record.step, float(record.value)) for record in records]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("delivery", DELIVERIES)
def test_transformations(program, delivery):
    """Each instrumented call makes one point, and the results are bit-identical to those of the bare function."""
    layer, xs = Layer(jnp.float32(2.0)), [jnp.float32(3.0), jnp.float32(5.0)]
    function = DELIVERIES[delivery](program)
    with capture() as records:
        results = [function(layer, x, jb.scalar) for x in xs]
    instrumented = delivery in ("output", "callback")
    assert points(records) == ([("x", 0, 3.0), ("x", 1, 5.0)] if instrumented else [("x", 0, 4.0)])
    bare = program if delivery == "eager" else eqx.filter_jit(program)
    for result, x in zip(results, xs, strict=True):
        expected = bare(layer, x, ignore)
        assert jax.tree.structure(result) == jax.tree.structure(expected)
        assert eqx.tree_equal(result, expected)


def test_compiled_once():
    """Calls with new arrays and the same static values reuse the compiled program."""
    traced = []

    @jb.instrument
    @eqx.filter_jit
    def step(layer, x, times):
        traced.append(times)
        jb.scalar("x", x * times)
        return layer(x, ignore)

    layer = Layer(jnp.float32(2.0))
    with capture() as records:
        for x, times in [(1.0, 1), (2.0, 1), (3.0, 2), (4.0, 1)]:
            step(layer, jnp.float32(x), times)
    assert traced == [1, 2]
    assert points(records) == [("x", 0, 1.0), ("x", 1, 2.0), ("x", 2, 6.0), ("x", 3, 4.0)]


def test_precompile():
    """``precompile`` compiles every program that steps need, including the one without due reports."""
    traced = []

    @jb.instrument
    @eqx.filter_jit
    def step(layer, x):
        traced.append(x)
        jb.histogram("x", x, every=2)
        return layer(x, ignore)

    layer, x = Layer(jnp.float32(2.0)), jnp.ones(3)
    step.precompile(layer, x)
    count = len(traced)
    with capture() as records:
        for _ in range(3):
            step(layer, x)
    assert len(traced) == count
    assert [record.step for record in records] == [0, 2]


def test_donation():
    """Exactly the arguments that Equinox donates are donated."""

    @jb.instrument
    @eqx.filter_jit(donate="all-except-first")
    def step(layer, x):
        jb.scalar("x", x.sum())
        return 2 * x

    layer, x = Layer(jnp.float32(2.0)), jnp.ones(3)
    with capture() as records:
        np.testing.assert_array_equal(step(layer, x), np.full(3, 2.0))
    assert (x.is_deleted(), layer.w.is_deleted()) == (True, False)
    assert points(records) == [("x", 0, 3.0)]


def test_method():
    """A method can be instrumented in the class body and receives its module."""

    class Model(eqx.Module):
        w: jax.Array

        @jb.instrument
        @eqx.filter_jit
        def step(self, x):
            jb.scalar("x", self.w * x)
            return self.w * x

    model = Model(jnp.float32(2.0))
    with capture() as records:
        assert [float(model.step(jnp.float32(x))) for x in (1, 2)] == [2.0, 4.0]
    assert points(records) == [("x", 0, 2.0), ("x", 1, 4.0)]


def test_errors():
    """``eqx.error_if`` raises the same error as without ``instrument``."""

    @eqx.filter_jit
    def step(x):
        jb.scalar("x", x)
        return eqx.error_if(x, x < 0, "below zero")

    with capture():
        instrumented = jb.instrument(step)
        instrumented(jnp.float32(1.0))
        with pytest.raises(eqx.EquinoxRuntimeError, match="below zero"):
            instrumented(jnp.float32(-1.0))


def test_compiled_ahead_of_time():
    """A function compiled ahead of time counts each call as a step."""

    def step(layer, x):
        jb.scalar("x", x)
        return layer(x, ignore)

    layer = Layer(jnp.float32(2.0))
    with capture() as records:
        compiled = jb.instrument(eqx.filter_jit(step)).lower(layer, jnp.float32(0.0)).compile()
        for x in (1.0, 2.0):
            compiled(layer, jnp.float32(x))
    assert points(records) == [("x", 0, 1.0), ("x", 1, 2.0)]


def test_watch_names():
    """``watch`` names the array leaves of a module by their fields and skips other leaves."""
    model = eqx.nn.Sequential(
        [
            eqx.nn.Linear(2, 3, key=jax.random.key(0)),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.LayerNorm(3),
        ]
    )
    tree = {"body": model, "head": eqx.nn.MLP(3, 1, 4, 1, key=jax.random.key(1))}

    @jb.instrument
    @eqx.filter_jit
    def step(tree):
        jb.watch("p", tree, what="max")

    with capture() as records:
        step(tree)
    names = {record.tag.removeprefix("p/max").removeprefix("/") for record in records}
    assert names == {
        "",
        *(f"body/layers/{layer}/{leaf}" for layer in (0, 2) for leaf in ("weight", "bias")),
        *(f"head/layers/{layer}/{leaf}" for layer in (0, 1) for leaf in ("weight", "bias")),
    }


@pytest.mark.parametrize("delivery", ["auto", "callback"])
@pytest.mark.parametrize(
    ("step_of", "steps"),
    [(lambda state, x: state.step, [40, 41, 42]), (lambda state, x: state.start, [40, 40, 40])],
)
def test_steps_of_arguments(step_of, steps, delivery):
    """``step=`` gets the arguments that the user passed: arrays, and what Equinox keeps static."""

    class State(eqx.Module):
        step: jax.Array
        start: int = eqx.field(static=True)

    @jb.instrument(step=step_of, delivery=delivery)
    @eqx.filter_jit
    def step(state, x):
        jb.scalar("x", x, reduce="last")
        return State(state.step + 1, state.start)

    state = State(jnp.int32(40), 40)
    with capture() as records:
        state = step(state, jnp.float32(0))
        state = step(state, x=jnp.float32(1))
        state = step(state, jnp.float32(2))
    expected = dict(zip(steps, [0.0, 1.0, 2.0], strict=True))
    assert {record.step: float(record.value) for record in records} == expected


def test_messages():
    """Instrumenting twice raises an error that explains why."""
    step = eqx.filter_jit(lambda x: x)
    with pytest.raises(jb.UsageError, match="is already instrumented"):
        jb.instrument(jb.instrument(step))
