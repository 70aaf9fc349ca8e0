"""Programs that map functions that report with ``vmap``."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from conformance.case import ROWS, XS, X, add_case
from conformance.programs import functions
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

FAMILY = "maps"
case = functools.partial(add_case, family=FAMILY)


@case(XS, observed={"x": [[3, 1, 2, 6]]})
def vmap(report, xs):
    def lane(x):
        report("x", x)
        return jnp.sin(x)

    return jax.vmap(lane)(xs)


@case(
    ROWS,
    X,
    observed={"x": [[2, 4, 6]], "shared": [[2]]},
    note="a value shared by all lanes counts once",
)
def vmap_with_mixed_in_axes(report, rows, x):
    def lane(column, x):
        report("x", column.sum() - 1)
        report("shared", x)
        return jnp.sin(column)

    return jax.vmap(lane, in_axes=(1, None), out_axes=1)(rows, x)


@case(ROWS, observed={"x": [[0, 1, 2, 3, 4, 5]]})
def vmap_of_vmap(report, rows):
    def lane(x):
        report("x", x)
        return jnp.sin(x)

    return jax.vmap(jax.vmap(lane))(rows)


@case(ROWS, observed={"x": [[0, 3, 1, 4, 2, 5]]})
def vmap_of_vmap_over_axis_1(report, rows):
    def lane(x):
        report("x", x)
        return jnp.sin(x)

    return jax.vmap(jax.vmap(lane), in_axes=1)(rows)


@case(XS, observed={"x": [[3, 1, 2, 6]]})
def vmap_of_grad(report, xs):
    return jax.vmap(jax.grad(functools.partial(functions.loss, report)))(xs)


@case(XS, observed={"x": [[3, 1, 2, 6]]})
def grad_of_vmap(report, xs):
    return jax.grad(lambda xs: jax.vmap(functools.partial(functions.loss, report))(xs).sum())(xs)


@case(XS, observed={"plain": [[3, 1, 2, 6]]})
def vmap_of_custom_vjp(report, xs):
    return jax.vmap(functions.custom_vjp(report))(xs)


@case(XS, observed={"x": [[3, 1, 2, 6]]})
def vmap_of_jit(report, xs):
    return jax.vmap(jax.jit(functools.partial(functions.loss, report)))(xs)


@case(ROWS, observed={"x": [[0, 3], [1, 4], [2, 5]]})
def vmap_of_scan(report, rows):
    def lane(row):
        return lax.scan(lambda c, x: (report("x", x), (c + jnp.sin(x), c))[1], 0.0, row)

    return jax.vmap(lane)(rows)


@case(ROWS, observed={"x": [[0, 1, 2], [3, 4, 5]]})
def scan_of_vmap(report, rows):
    def lane(x):
        report("x", x)
        return jnp.sin(x)

    return lax.scan(lambda c, row: (c, jax.vmap(lane)(row)), 0.0, rows)


@case(XS, observed={"x": [[3, 1, 2, 6]]})
def vmap_with_spmd_axis_name(report, xs):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    replicated = NamedSharding(mesh, P())

    def lane(x):
        report("x", x)
        return lax.with_sharding_constraint(jnp.sin(x), replicated)

    return jax.vmap(lane, spmd_axis_name="d")(xs)
