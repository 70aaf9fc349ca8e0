"""Programs that report on several devices."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from conformance.case import add_case, executions
from conformance.programs import functions
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

FAMILY = "meshes"
case = functools.partial(add_case, family=FAMILY, unordered=True)

EIGHT = np.arange(8, dtype=np.float32)


def mesh_of_8() -> jax.sharding.Mesh:
    """Return a mesh of one axis, ``d``."""
    return jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))


def mesh_of_4_by_2() -> jax.sharding.Mesh:
    """Return a mesh of two axes, ``x`` and ``y``."""
    return jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)


@case(EIGHT, observed={"x": executions(*range(8))})
def shard_map(report, xs):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    return jax.shard_map(shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d"))(xs)


@case(
    EIGHT,
    observed={"x": executions(*range(8)), "total": [[28]]},
    unharvested={"x": executions(*range(8)), "total": executions(*[28] * 8)},
)
def shard_map_with_psum(report, xs):
    def shard(x):
        total = lax.psum(x.sum(), "d")
        report("total", total)
        report("x", x.sum())
        return jnp.sin(x) * total

    return jax.shard_map(shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d"))(xs)


@case(
    EIGHT,
    observed={"total": executions(*[28] * 8)},
    note="JAX does not know that the value is the same on all devices, so the value of each device counts",
)
def shard_map_without_check_vma(report, xs):
    def shard(x):
        total = lax.psum(x.sum(), "d")
        report("total", total)
        return jnp.sin(x) * total

    return jax.shard_map(
        shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d"), check_vma=False
    )(xs)


@case(
    EIGHT,
    observed={"x": executions(1, 5, 9, 13)},
    unharvested={"x": executions(*[1, 5, 9, 13] * 2)},
)
def shard_map_over_one_of_two_axes(report, xs):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    return jax.shard_map(shard, mesh=mesh_of_4_by_2(), in_specs=P("x"), out_specs=P("x"))(xs)


@case(EIGHT, observed={"x": executions(1, 5, 9, 13)})
def shard_map_with_one_manual_axis(report, xs):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    return jax.shard_map(
        shard, mesh=mesh_of_4_by_2(), in_specs=P("x"), out_specs=P("x"), axis_names={"x"}
    )(xs)


@case(EIGHT, observed={"x": executions(*range(8))})
def shard_map_in_shard_map(report, xs):
    def inner(x):
        report("x", x.sum())
        return jnp.sin(x)

    def outer(x):
        return jax.shard_map(inner, in_specs=P("y"), out_specs=P("y"), axis_names={"y"})(x)

    return jax.shard_map(
        outer, mesh=mesh_of_4_by_2(), in_specs=P("x"), out_specs=P("x"), axis_names={"x"}
    )(xs)


@case(
    EIGHT,
    observed={"x": executions(*range(8), *range(1, 9)), "i": executions(0, 1)},
    unharvested={"x": executions(*range(8), *range(1, 9)), "i": executions(*[0, 1] * 8)},
)
def scan_in_shard_map(report, xs):
    def shard(x):
        def body(c, i):
            report("x", c.sum())
            report("i", i)
            return c + 1, jnp.sin(c)

        return lax.scan(body, x, jnp.arange(2.0))[0]

    return jax.shard_map(shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d"))(xs)


@case(EIGHT, observed={"x": executions(2, 1, 2, *[0, 1, 2])})
def while_loop_in_shard_map(report, xs):
    def shard(x):
        x = lax.while_loop(lambda x: x[0] < 3, lambda x: (report("x", x[0]), x + 1)[1], x)
        return jnp.sin(x)

    return jax.shard_map(shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d"))(xs)


@case(EIGHT, observed={"big": executions(5, 6, 7), "small": executions(0, 1, 2, 3, 4)})
def cond_in_shard_map(report, xs):
    def shard(x):
        def big(x):
            report("big", x[0])
            return jnp.sin(x)

        def small(x):
            report("small", x[0])
            return jnp.cos(x)

        return lax.cond(x[0] > 4, big, small, x)

    return jax.shard_map(shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d"))(xs)


@case(EIGHT, observed={"x": executions(*range(8))})
def grad_of_shard_map(report, xs):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    mapped = jax.shard_map(shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d"))
    return jax.grad(lambda xs: mapped(xs).sum())(xs)


@case(EIGHT, observed={"x": executions(*range(8))})
def grad_in_shard_map(report, xs):
    def shard(x):
        return jax.grad(functools.partial(functions.loss, report))(x)

    return jax.shard_map(shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d"))(xs)


@case(
    np.stack([EIGHT, EIGHT + 8]),
    observed={"x": [[i, i + 8] for i in range(8)]},
)
def vmap_of_shard_map(report, rows):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    return jax.vmap(jax.shard_map(shard, mesh=mesh_of_8(), in_specs=P("d"), out_specs=P("d")))(rows)


@case(EIGHT, observed={"x": executions(*range(8))})
def pmap(report, xs):
    def device(x):
        report("x", x)
        return jnp.sin(x) * lax.psum(x, "d")

    return jax.pmap(device, axis_name="d")(xs)


@case(EIGHT, observed={"x": [[28]]})
def named_sharding(report, xs):
    xs = lax.with_sharding_constraint(xs, NamedSharding(mesh_of_8(), P("d")))
    report("x", xs.sum())
    return jnp.sin(xs)


@case(EIGHT, observed={"x": [list(range(8))]})
def vmap_over_sharded_axis(report, xs):
    xs = lax.with_sharding_constraint(xs, NamedSharding(mesh_of_8(), P("d")))
    return jax.vmap(lambda x: (report("x", x), jnp.sin(x))[1])(xs)


@case(EIGHT, observed={"x": executions(28, 36)})
def scan_of_sharded_carry(report, xs):
    xs = lax.with_sharding_constraint(xs, NamedSharding(mesh_of_8(), P("d")))
    return lax.scan(lambda c, i: (report("x", c.sum()), (c + 1, jnp.sin(c)))[1], xs, None, length=2)
