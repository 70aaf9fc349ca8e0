"""Programs that differentiate functions that report."""

from __future__ import annotations

import functools

import jax
from conformance.case import XS, X, add_case, executions
from conformance.programs import functions
from jax import lax

FAMILY = "derivatives"
case = functools.partial(add_case, family=FAMILY)


@case(XS, observed={"x": [[12]]})
def grad(report, xs):
    return jax.grad(functools.partial(functions.loss, report))(xs)


@case(XS, observed={"x": [[12]]})
def value_and_grad(report, xs):
    return jax.value_and_grad(functools.partial(functions.loss, report))(xs)


@case(XS, observed={"x": [[12]]})
def jvp(report, xs):
    return jax.jvp(functools.partial(functions.loss, report), (xs,), (xs,))


@case(XS, observed={"x": [[12]]})
def linearize(report, xs):
    value, linear = jax.linearize(functools.partial(functions.loss, report), xs)
    return value, linear(xs), linear(2 * xs)


@case(XS, observed={"x": [[12]]})
def vjp_pulled_back_twice(report, xs):
    value, pull = jax.vjp(functools.partial(functions.loss, report), xs)
    return pull(value), pull(2 * value)


@case(XS, observed={"x": [[12]]})
def jacfwd(report, xs):
    return jax.jacfwd(functools.partial(functions.loss, report))(xs)


@case(XS, observed={"x": [[12]]})
def jacrev(report, xs):
    return jax.jacrev(functools.partial(functions.loss, report))(xs)


@case(XS, observed={"x": [[12]]})
def hessian(report, xs):
    return jax.hessian(functools.partial(functions.loss, report))(xs)


@case(X, observed={"x": [[2]]})
def grad_of_grad(report, x):
    return jax.grad(jax.grad(functools.partial(functions.loss, report)))(x)


@case(XS, observed={"x": [[12]]})
def remat(report, xs):
    return jax.grad(jax.checkpoint(functools.partial(functions.loss, report)))(xs)


@case(XS, observed={"x": [[12]]})
def remat_without_grad(report, xs):
    return jax.checkpoint(functools.partial(functions.loss, report))(xs)


def grad_of_remat(report, xs, policy):
    return jax.grad(jax.checkpoint(functools.partial(functions.loss, report), policy=policy))(xs)


@case(XS, observed={"x": [[12]]})
def remat_with_everything_saveable(report, xs):
    return grad_of_remat(report, xs, jax.checkpoint_policies.everything_saveable)


@case(XS, observed={"x": [[12]]})
def remat_with_nothing_saveable(report, xs):
    return grad_of_remat(report, xs, jax.checkpoint_policies.nothing_saveable)


@case(XS, observed={"x": [[12]]})
def remat_with_dots_saveable(report, xs):
    return grad_of_remat(report, xs, jax.checkpoint_policies.dots_saveable)


@case(XS, observed={"x": [[12]]})
def remat_in_remat(report, xs):
    inner = jax.checkpoint(functools.partial(functions.loss, report))
    return jax.grad(jax.checkpoint(lambda xs: inner(xs) ** 2))(xs)


@case(X, observed={"plain": [[2]]})
def custom_jvp(report, x):
    return functions.custom_jvp(report)(x)


@case(X, observed={"rule": [[2]]})
def grad_of_custom_jvp(report, x):
    return jax.grad(functions.custom_jvp(report))(x)


@case(X, observed={"plain": [[2]]})
def custom_vjp(report, x):
    return functions.custom_vjp(report)(x)


@case(X, observed={"forward": [[3]], "backward": [[3]]})
def grad_of_custom_vjp(report, x):
    return jax.grad(functions.custom_vjp(report))(x)


@case(
    XS,
    observed={"forward": executions(4, 2, 3, 7), "backward": executions(7, 3, 2, 4)},
)
def grad_of_scan_of_custom_vjp(report, xs):
    def total(xs):
        return lax.scan(lambda c, x: (c + functions.custom_vjp(report)(x), None), 0.0, xs)[0]

    return jax.grad(total)(xs)


@case(X, observed={"forward": [[3]], "backward": [[3]]})
def grad_of_remat_of_custom_vjp(report, x):
    return jax.grad(jax.checkpoint(functions.custom_vjp(report)))(x)


@case(XS, observed={"x": [[12]]})
def custom_linear_solve(report, xs):
    def solve(matvec, b):
        report("x", b.sum())
        return b / 2

    return lax.custom_linear_solve(lambda x: 2 * x, xs, solve, symmetric=True)


@case(X, observed={"x": [[2]]})
def custom_root(report, x):
    def solve(f, guess):
        report("x", guess)
        return guess - f(guess) / 2

    return lax.custom_root(lambda y: 2 * y - x, x, solve, lambda g, y: y / g(1.0))
