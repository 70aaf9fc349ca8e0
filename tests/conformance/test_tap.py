"""``tap`` reports the gradient that flows back through a value, under every transformation."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard._log import forget_warnings
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


def jacfwd(tap, x):
    return jax.jacfwd(lambda x: tap(x) ** 2)(x)


def not_differentiated(tap, x):
    return tap(x) ** 2


def stop_gradient(tap, x):
    return jax.grad(lambda x: (lax.stop_gradient(tap(x)) * x).sum())(x)


def shard_map(tap, x):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(lambda x: tap(x) ** 2, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
    return jax.grad(lambda x: mapped(x).sum())(x)


def jacrev(tap, x):
    return jax.jacrev(lambda x: tap(x) ** 2)(x)


def vjp_pulled_back_twice(tap, x):
    result, pull = jax.vjp(lambda x: (tap(x) ** 2).sum() / 2, x)
    return pull(jnp.ones_like(result)) + pull(2 * jnp.ones_like(result))


def reverse_scan(tap, x):
    def total(x):
        factors = jnp.array([2.0, 3.0])
        return lax.scan(lambda c, f: (tap(c) * f, None), x, factors, reverse=True)[0].sum()

    return jax.grad(total)(x[:1])


def fori_loop(tap, x):
    return jax.grad(lambda x: lax.fori_loop(0, 2, lambda _, c: tap(c) * 2, x).sum())(x[:1])


def while_loop(tap, x):
    loop = lambda x: lax.while_loop(lambda c: jnp.sum(c) < 100, lambda c: tap(c) * 2, x)  # noqa: E731
    return jax.jvp(loop, (x,), (x,))


def switch(tap, x):
    return jax.grad(lambda x: lax.switch(1, [jnp.sum, lambda x: 5 * tap(x).sum()], x))(x[:1])


def switch_in_vmap(tap, x):
    branches = [lambda x: tap(x) ** 2, lambda x: x]
    return jax.vmap(jax.grad(lambda x, i: lax.switch(i, branches, x)))(x, jnp.arange(2))


def vmap_of_vmap(tap, x):
    return jax.vmap(jax.vmap(jax.grad(lambda x: tap(x) ** 2)))(x[:, None])


def custom_jvp(tap, x):
    return jax.grad(lambda x: 5 * jax.nn.relu(tap(x)).sum())(x[:1])


def custom_vjp(tap, x):
    @jax.custom_vjp
    def f(x):
        return x.sum()

    f.defvjp(lambda x: (f(x), None), lambda _, g: (g * jnp.array([3.0, 4.0]),))
    return jax.grad(lambda x: f(tap(x)))(x)


def custom_vjp_backward(tap, x):
    """Tap a value inside the VJP rule, and differentiate the rule."""

    @jax.custom_vjp
    def f(x):
        return x**2

    f.defvjp(lambda x: (f(x), x), lambda x, g: (tap(2 * x) * g,))
    return jax.grad(lambda x: jax.grad(lambda x: f(x).sum())(x) @ jnp.array([3.0, 4.0]))(x)


def custom_linear_solve(tap, x):
    def loss(b):
        solve = lambda matvec, b: b / 2  # noqa: E731
        y = lax.custom_linear_solve(lambda y: 2 * y, tap(b), solve, symmetric=True)
        return y @ jnp.array([6.0, 8.0])

    return jax.grad(loss)(x)


def pmap(tap, x):
    return jax.grad(lambda x: jax.pmap(lambda x: tap(x) ** 2)(x).sum())(x)


def sharded_value(tap, x):
    rows = NamedSharding(jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,)), P("d"))
    place = lambda x: lax.with_sharding_constraint(x, rows)  # noqa: E731
    return jax.grad(lambda x: (tap(place(x)) ** 2).sum() / 2)(x)


def shard_map_of_replicated_weight(tap, x):
    """Tap a replicated weight outside the ``shard_map``: its gradient is the sum over devices."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    shard = lambda w, x: lax.psum((w * x).sum(), "d")  # noqa: E731
    mapped = jax.shard_map(shard, mesh=mesh, in_specs=(P(), P("d")), out_specs=P())
    return jax.grad(lambda w: mapped(tap(w), x))(jnp.ones((), x.dtype))


def nnx_parameter(tap, x):
    class Model(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(x)

    return nnx.grad(lambda model: (tap(model.w[...]) ** 2).sum() / 2)(Model())["w"][...]


def linen_parameter(tap, x):
    class Model(nn.Module):
        @nn.compact
        def __call__(self):
            return (tap(self.param("w", lambda _: x)) ** 2).sum() / 2

    return jax.grad(lambda params: Model().apply({"params": params}))({"w": x})["w"]


NORMS = {
    grad: [5],
    remat: [5],
    scan: [3, 6],
    scan_of_remat: [3, 6],
    vmap_of_grad: [6, 8],
    grad_of_vmap: [6, 8],
    cond: [1],
    cond_not_taken: [],
    hessian: [5],
    grad_of_grad: [27],
    jacfwd: [],
    not_differentiated: [],
    stop_gradient: [],
    shard_map: [6, 8],
    jacrev: [6, 8],
    vjp_pulled_back_twice: [5, 10],
    reverse_scan: [2, 6],
    fori_loop: [2, 4],
    while_loop: [],
    switch: [5],
    switch_in_vmap: [6],
    vmap_of_vmap: [6, 8],
    custom_jvp: [5],
    custom_vjp: [5],
    custom_vjp_backward: [5],
    custom_linear_solve: [5],
    pmap: [6, 8],
    sharded_value: [5],
    shard_map_of_replicated_weight: [7],
    nnx_parameter: [5],
    linen_parameter: [5],
}
"""Program -> the norms that its tap reports."""

# With callbacks, lanes that did not take the branch report a gradient too: zero.
NORMS_BY_CALLBACK = {switch_in_vmap: [6, 0]}


@pytest.mark.parametrize("program", NORMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("delivery", ["output", "callback", "no_instrument", "eager"])
def test_tap(program, delivery):
    """A tap reports the norm of each gradient once and leaves the results unchanged."""

    def tapped(x):
        for reduce in ("sum", "count"):
            x = jb.tap(reduce, x, reduce=reduce)
        return x

    tapping, bare = functools.partial(program, tapped), functools.partial(program, lambda x: x)
    deliveries = {
        "output": lambda: jb.instrument(jax.jit(tapping)),
        "callback": lambda: jax.jit(jb.instrument(jax.jit(tapping))),
        "no_instrument": lambda: jax.jit(tapping),
        "eager": lambda: tapping,
    }
    with capture() as records:
        result = deliveries[delivery]()(jnp.asarray(X))
    norms = NORMS[program]
    if delivery in ("no_instrument", "eager"):
        norms = NORMS_BY_CALLBACK.get(program, norms)
    points = {record.tag: float(record.value) for record in records}
    assert points == ({"sum": sum(norms), "count": len(norms)} if norms else {})
    bare = bare if delivery == "eager" else jax.jit(bare)
    jax.tree.map(np.testing.assert_array_equal, result, bare(jnp.asarray(X)))


def test_pytrees_and_scopes():
    """Each floating-point leaf has its own tag in the scope of the tap; other leaves pass through."""

    def loss(tree):
        with jb.scope("model"):
            tree = jb.tap("grad", tree)
        assert tree["n"] == 3
        return 3 * tree["w"].sum() + 4 * tree["b"]

    with capture() as records:
        jax.grad(lambda w, b: loss({"w": w, "b": b, "n": 3}))(jnp.ones(4), 1.0)
    assert {r.tag: float(r.value) for r in records} == {"model/grad/w": 6.0}


def test_a_list_of_numbers():
    """Each number of a list is a leaf with its own tag."""
    with capture() as records:
        jax.grad(lambda x: sum(jb.tap("x", [x, 2.0, 3 * x])))(1.0)
    assert {r.tag: float(r.value) for r in records} == {"x/0": 1.0, "x/2": 1.0}


def test_small_floats():
    """The norm of a float16 gradient does not overflow."""
    with capture() as records:
        jax.grad(lambda x: 60000 * jb.tap("x", x))(jnp.float16(1.0))
    assert float(records[0].value) == np.float16(60000)


def test_a_result_that_is_not_used():
    """A tap whose result is discarded warns once, with its tag and line; other taps do not."""
    forget_warnings()

    def loss(x):
        jb.tap("unused", x)
        y = jb.tap("used", x) ** 2
        (z,) = jax.tree.map(lambda x: jb.tap("mapped", x), [y])
        return jb.tap("returned", z)

    step = jb.instrument(jax.jit(jax.grad(loss)))
    with capture() as records:
        line = loss.__code__.co_firstlineno + 1
        match = rf"tap 'unused' \(test_tap.py:{line}\) reports nothing"
        with pytest.warns(jb.JaxboardWarning, match=match) as found:
            step(3.0)
        step(jnp.float32(3))
        run = jb.current_run()
        assert run is not None
        with pytest.warns(jb.JaxboardWarning, match="tap 'method'"):
            run.tap("method", 1.0)
    assert [warning.filename for warning in found] == [__file__]
    assert {(r.tag, float(r.value)) for r in records} == {
        ("used", 6.0),
        ("mapped", 1.0),
        ("returned", 1.0),
    }
