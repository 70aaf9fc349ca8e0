"""``tap`` reports the gradient that flows back through a value, under every transformation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard.testing import capture

X = np.array([3.0, 4.0], np.float32)


def grad(tap, x):
    return jax.grad(lambda x: (tap(x) ** 2).sum() / 2)(x)


def remat(tap, x):
    return jax.grad(jax.checkpoint(lambda x: (tap(x) ** 2).sum() / 2))(x)


def scan(tap, x):
    def total(x):
        return lax.scan(lambda c, factor: (tap(c) * factor, None), x, jnp.array([2.0, 3.0]))[
            0
        ].sum()

    return jax.grad(total)(x[:1])


def scan_of_remat(tap, x):
    def total(x):
        layer = jax.checkpoint(lambda c, factor: (tap(c) * factor, None))
        return lax.scan(layer, x, jnp.array([2.0, 3.0]))[0].sum()

    return jax.grad(total)(x[:1])


def vmap_of_grad(tap, x):
    return jax.vmap(jax.grad(lambda x: tap(x) ** 2))(x)


def grad_of_vmap(tap, x):
    return jax.grad(lambda x: jax.vmap(lambda x: tap(x) ** 2)(x).sum())(x)


def cond(tap, x):
    return jax.grad(lambda x: lax.cond(x.sum() > 0, lambda x: tap(x).sum(), lambda x: 0.0, x))(
        x[:1]
    )


def cond_not_taken(tap, x):
    return jax.grad(lambda x: lax.cond(x.sum() < 0, lambda x: tap(x).sum(), jnp.sum, x))(x)


def hessian(tap, x):
    return jax.hessian(lambda x: (tap(x) ** 2).sum() / 2)(x)


def grad_of_grad(tap, x):
    return jax.grad(jax.grad(lambda x: tap(x) ** 3))(x[0])


def forward(tap, x):
    return jax.jacfwd(lambda x: tap(x) ** 2)(x)


def not_differentiated(tap, x):
    return tap(x) ** 2


def stopped(tap, x):
    return jax.grad(lambda x: (lax.stop_gradient(tap(x)) * x).sum())(x)


def shard_map(tap, x):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(lambda x: tap(x) ** 2, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    return jax.grad(lambda x: mapped(x).sum())(x)


@pytest.mark.parametrize(
    ("program", "norms"),
    [
        (grad, [5]),
        (remat, [5]),
        (scan, [3, 6]),
        (scan_of_remat, [3, 6]),
        (vmap_of_grad, [6, 8]),
        (grad_of_vmap, [6, 8]),
        (cond, [1]),
        (cond_not_taken, []),
        (hessian, [5]),
        (grad_of_grad, [27]),
        (forward, []),
        (not_differentiated, []),
        (stopped, []),
        (shard_map, [6, 8]),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@pytest.mark.parametrize("way", ["output", "callback", "no instrument"])
def test_tap(program, norms, way):
    """The norms are those of the gradients, each once, and the results those without a tap."""

    def tapped(x):
        for reduce in ("sum", "count"):
            x = jb.tap(reduce, x, reduce=reduce)
        return x

    function = jax.jit(functools.partial(program, tapped))
    if way != "no instrument":
        function = jb.instrument(function)
    if way == "callback":
        function = jax.jit(function)
    with capture() as records:
        result = function(X)
    points = {record.tag: float(record.value) for record in records}
    assert points == ({"sum": sum(norms), "count": len(norms)} if norms else {})
    np.testing.assert_array_equal(result, jax.jit(functools.partial(program, lambda x: x))(X))


def test_pytrees_and_scopes():
    """Each leaf of floats is a tag of its own, under the scope of the tap; others pass."""

    def loss(tree):
        with jb.scope("model"):
            tree = jb.tap("grad", tree)
        assert tree["n"] == 3
        return 3 * tree["w"].sum() + 4 * tree["b"]

    with capture() as records:
        jax.grad(lambda w, b: loss({"w": w, "b": b, "n": 3}))(jnp.ones(4), 1.0)
    assert {r.tag: float(r.value) for r in records} == {"model/grad/w": 6.0}


def test_a_list_of_numbers():
    """Each number of a list is a leaf of its own."""
    with capture() as records:
        jax.grad(lambda x: sum(jb.tap("x", [x, 2.0, 3 * x])))(1.0)
    assert {r.tag: float(r.value) for r in records} == {"x/0": 1.0, "x/2": 1.0}


def test_small_floats():
    """The squares of a bfloat16 or float16 gradient don't overflow."""
    with capture() as records:
        jax.grad(lambda x: 60000 * jb.tap("x", x))(jnp.float16(1.0))
    assert float(records[0].value) == np.float16(60000)
