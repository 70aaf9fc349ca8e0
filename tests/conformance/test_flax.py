"""Reports under the lifted transformations of Flax: NNX and Linen."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.limits import LIMITS
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


class Sequence(nn.Module):
    lifted: str
    check: bool = False

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
        looped = nn.scan(
            Cell,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            check_constancy_invariants=self.check,
        )
        return looped()(0.0, xs)[0]


@pytest.mark.parametrize(("lifted", "value"), [("scan", 2.0), ("vmap", 2.0), ("remat", 6.0)])
def test_linen(lifted, value, delivery):
    """Under grad, a model with lifted transformations makes one point per call."""
    model, xs = Sequence(lifted), jnp.array([1.0, 2.0, 3.0])
    shapes = jax.eval_shape(model.init, jax.random.key(0), xs)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), shapes)

    def loss(params, xs):
        return model.apply(params, xs)

    with capture() as records:
        gradient = prepare(delivery, jax.jit, jax.grad(loss))(params, xs)
    assert points(records) == [("x", 0, value)]
    assert [float(leaf.sum()) for leaf in jax.tree.leaves(gradient)] == [6.0]


def test_constants_of_a_linen_scan():
    """If Flax rejects effects in the body of ``nn.scan``, its own error appears, which the table of limits quotes."""
    (limit,) = [limit for limit in LIMITS if limit.case.startswith("nn.scan")]
    model, xs = Sequence("scan", check=True), jnp.array([1.0, 2.0, 3.0])
    if tuple(map(int, flax.__version__.split(".")[:3])) < (0, 12, 9):
        with capture() as records:
            jax.jit(model.init)(jax.random.key(0), xs)
        assert records
        return
    with capture(), pytest.raises(Exception, match=limit.error):
        jax.jit(model.init)(jax.random.key(0), xs)
