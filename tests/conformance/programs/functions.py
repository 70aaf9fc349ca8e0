"""Functions that report, for programs that transform them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from conformance.case import Report


def loss(report: Report, x: Any) -> Any:
    """Report the sum of ``x`` and return a scalar loss."""
    report("x", x.sum())
    return jnp.sum(jnp.sin(x) * x)


def custom_jvp(report: Report) -> Any:
    """Return a function with a custom JVP rule; the function and the rule report."""

    @jax.custom_jvp
    def f(x):
        report("plain", x)
        return jnp.sin(x)

    @f.defjvp
    def rule(primals, tangents):
        report("rule", primals[0])
        return jnp.sin(primals[0]), 3 * tangents[0]

    return f


def custom_vjp(report: Report) -> Any:
    """Return a function with a custom VJP rule; the function and both passes of the rule report."""

    @jax.custom_vjp
    def f(x):
        report("plain", x)
        return jnp.sin(x)

    def forward(x):
        report("forward", x + 1)
        return jnp.sin(x), x

    def backward(x, g):
        report("backward", g + x)
        return (3 * g,)

    f.defvjp(forward, backward)
    return f
