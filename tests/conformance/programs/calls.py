"""Programs that call functions: plain and nested ``jit``."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from conformance.case import X, add_case, executions

FAMILY = "calls"
case = functools.partial(add_case, family=FAMILY)


@case(X, observed={"x": [[2]]})
def jit(report, x):
    report("x", x)
    return jnp.sin(x)


@case(X, observed={"x": executions(2, 4)}, unordered=True)
def nested_jit(report, x):
    @jax.jit
    def inner(x):
        report("x", x)
        return x * 2

    return jnp.sin(inner(inner(x)))


@case(X, observed={"x": executions(2, 6)}, unordered=True)
def jit_with_two_shapes(report, x):
    @jax.jit
    def inner(x):
        report("x", x.sum())
        return jnp.sin(x)

    return inner(x), inner(jnp.stack([x, x, x]))


@case(X, observed={"x": [[7]]})
def constant_value(report, x):
    report("x", 7.0)
    return jnp.sin(x)
