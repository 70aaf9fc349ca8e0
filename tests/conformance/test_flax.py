"""Reports under the lifted transformations of Flax: NNX and Linen."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxboard as jb
from jaxboard.testing import capture


class Layer(nnx.Module):
    def __init__(self, scale):
        self.w = nnx.Param(jnp.asarray(scale))

    def __call__(self, x):
        jb.scalar("x", x)
        return x * self.w[...]


def points(records):
    return [(record.tag, record.step, float(record.value)) for record in records]


def grad(model, x):
    return nnx.grad(lambda model: model(x))(model)["w"][...]


def remat(model, x):
    return nnx.grad(lambda model: nnx.remat(lambda model, x: model(x))(model, x))(model)["w"][...]


def vmap(model, x):
    return nnx.vmap(lambda model, x: model(x), in_axes=(None, 0))(model, jnp.stack([x, x]))


def scan(model, x):
    @nnx.scan(in_axes=(None, nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def body(model, carry, x):
        return carry + 1, model(x)

    return body(model, 0, jnp.stack([x, x]))[1]


@pytest.fixture(params=["output", "callback", "no_instrument"])
def delivery(request):
    """Return how reports reach the host."""
    return request.param


def prepare(delivery, jit, function):
    """Return the jitted function, prepared for a delivery."""
    if delivery == "no_instrument":
        return jit(function)
    instrumented = jb.instrument(jit(function))
    return instrumented if delivery == "output" else jit(instrumented)


@pytest.mark.parametrize("program", [grad, remat, vmap, scan], ids=lambda f: f"nnx.{f.__name__}")
def test_nnx(program, delivery):
    """Each instrumented call makes one point, and the results are those of the bare function."""
    with capture() as records:
        function = prepare(delivery, nnx.jit, program)
        results = [function(Layer(2.0), jnp.float32(x)) for x in (3.0, 5.0)]
    instrumented = delivery != "no_instrument"
    assert points(records) == ([("x", 0, 3.0), ("x", 1, 5.0)] if instrumented else [("x", 0, 4.0)])
    expected = {"grad": (3.0, 5.0), "remat": (3.0, 5.0)}.get(program.__name__, (6.0, 10.0))
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, np.full_like(result, value))


class Cell(nn.Module):
    @nn.compact
    def __call__(self, carry, x):
        w = self.param("w", nn.initializers.ones, ())
        jb.scalar("x", x)
        return carry + x * w, carry


class Scale(nn.Module):
    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.ones, ())
        jb.scalar("x", x)
        return x * w


class Sequence(nn.Module):
    lifted: str

    @nn.compact
    def __call__(self, xs):
        if self.lifted == "remat":
            return nn.remat(Cell)()(0.0, xs.sum())[0]
        if self.lifted == "vmap":
            mapped = nn.vmap(
                Cell,
                in_axes=(None, 0),
                variable_axes={"params": None},
                split_rngs={"params": False},
            )
            return mapped()(0.0, xs)[0].sum()
        if self.lifted == "remat_scan":
            return nn.remat_scan(Scale, lengths=(2, 2))()(xs.sum())
        looped = nn.scan(
            Cell,
            variable_axes={"params": 0},
            split_rngs={"params": True},
        )
        return looped()(0.0, xs)[0]


@pytest.mark.parametrize(
    ("lifted", "value", "gradient"),
    [("scan", 2.0, 6.0), ("vmap", 2.0, 6.0), ("remat", 6.0, 6.0), ("remat_scan", 6.0, 24.0)],
)
def test_linen(lifted, value, gradient, delivery):
    """Under grad, a model with lifted transformations makes one point per call."""
    model, xs = Sequence(lifted), jnp.array([1.0, 2.0, 3.0])
    shapes = jax.eval_shape(model.init, jax.random.key(0), xs)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)

    def loss(params, xs):
        return model.apply(params, xs)

    with capture() as records:
        result = prepare(delivery, jax.jit, jax.grad(loss))(params, xs)
    assert points(records) == [("x", 0, value)]
    assert [float(leaf.sum()) for leaf in jax.tree.leaves(result)] == [gradient]


def test_checks_of_a_linen_scan(delivery):
    """The trace in which Flax checks a loop reports nothing, and hides nothing from the loop."""

    @jax.jit
    def double(x):
        jb.scalar("in a jitted function", x, reduce="count")
        return 2 * x

    def body(module, carry, x):
        jb.scalar("constant", 1.0, reduce="count")
        return carry + double(x), None

    class Loop(nn.Module):
        @nn.compact
        def __call__(self, xs):
            return nn.scan(body)(self, 0.0, xs)[0]

    with capture() as records:
        result = prepare(delivery, jax.jit, lambda xs: Loop().apply({}, xs))(jnp.ones(3))
    assert sorted(points(records)) == [("constant", 0, 3.0), ("in a jitted function", 0, 3.0)]
    assert result == 6.0
