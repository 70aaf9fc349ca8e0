"""Programs that report inside branches."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from conformance.case import XS, X, add_case, executions
from jax import lax

FAMILY = "branches"
case = functools.partial(add_case, family=FAMILY)


@case(X, observed={"yes": [[2]]})
def cond_taken(report, x):
    def yes(x):
        report("yes", x)
        return jnp.sin(x)

    return lax.cond(x > 0, yes, jnp.cos, x)


@case(X, observed={})
def cond_not_taken(report, x):
    def yes(x):
        report("yes", x)
        return jnp.sin(x)

    return lax.cond(x < 0, yes, jnp.cos, x)


@case(X, np.int32(1), observed={"all": [[3]], "some": [[2]]})
def switch(report, x, index):
    def branch(number, x):
        report("all", x + number)
        if number:
            report("some", x)
        return jnp.sin(x) * number

    return lax.switch(index, [functools.partial(branch, number) for number in range(3)], x)


@case(X, observed={"yes": [[2]]})
def grad_of_cond(report, x):
    def yes(x):
        report("yes", x)
        return jnp.sin(x)

    return jax.grad(lambda x: lax.cond(x > 0, yes, jnp.cos, x))(x)


@case(XS, observed={"big": executions(3, 6), "small": executions(1, 2)})
def cond_in_scan(report, xs):
    def body(c, x):
        y = lax.cond(
            x > 2, lambda: (report("big", x), jnp.sin(x))[1], lambda: (report("small", x), x)[1]
        )
        return c + y, y

    return lax.scan(body, 0.0, xs)


@case(X, observed={"even": executions(2, 4)})
def cond_in_while_loop(report, x):
    def body(x):
        lax.cond(x % 2 == 0, lambda: report("even", x), lambda: None)
        return x + 1

    return lax.while_loop(lambda x: x < 6, body, x)


@case(XS, observed={"x": executions(3, 1, 2, 6)})
def scan_in_cond(report, xs):
    def yes(xs):
        return lax.scan(lambda c, x: (report("x", x), (c + jnp.sin(x), None))[1], 0.0, xs)[0]

    return lax.cond(xs.sum() > 0, yes, jnp.sum, xs)


@case(X, observed={"x": [[2]]})
def cond_in_cond(report, x):
    def inner(x):
        return lax.cond(x > 1, lambda x: (report("x", x), jnp.sin(x))[1], jnp.cos, x)

    return lax.cond(x > 0, inner, jnp.tan, x)


@case(XS, np.True_, observed={"yes": [[3, 1, 2, 6]]})
def vmap_of_cond_with_shared_predicate(report, xs, predicate):
    def lane(x):
        return lax.cond(predicate, lambda x: (report("yes", x), jnp.sin(x))[1], jnp.cos, x)

    return jax.vmap(lane)(xs)


@case(
    XS,
    observed={"big": [[3, 6]], "small": [[1, 2]], "after": [[3, 1, 2, 6]]},
    unharvested={"big": [[3, 1, 2, 6]], "small": [[3, 1, 2, 6]], "after": [[3, 1, 2, 6]]},
)
def vmap_of_cond(report, xs):
    def lane(x):
        def big(x):
            report("big", x)
            return x * 1.0

        def small(x):
            report("small", x)
            return x + 0.0

        y = lax.cond(x > 2, big, small, x)
        report("after", y)
        return jnp.sin(y)

    return jax.vmap(lane)(xs)


@case(
    XS,
    observed={"constant": [[7]]},
    note="a value that does not depend on the operands of the branch counts once, whichever lanes take the branch",
)
def vmap_of_cond_with_constant_report(report, xs):
    def big(x):
        report("constant", 7.0)
        return jnp.sin(x)

    return jax.vmap(lambda x: lax.cond(x > 2, big, jnp.cos, x))(xs)


@case(
    XS,
    observed={
        "0": [[3, 6], [4, 7]],
        "1": [[1], [2]],
        "2": [[2], [3]],
        "grad": [[2, 8, 18, 2]],
    },
    unharvested={
        **{str(number): [[3, 1, 2, 6], [4, 2, 3, 7]] for number in range(3)},
        "grad": [[2, 8, 18, 2]],
    },
)
def vmap_of_grad_of_switch_in_scan(report, xs):
    def branch(number, x, w):
        report(str(number), x)
        return w * (number + 1)

    def lane(x):
        index = x.astype(jnp.int32) % 3

        def total(w):
            def body(w, i):
                numbered = [functools.partial(branch, number) for number in range(3)]
                return lax.switch(index, numbered, x + i, w), None

            return lax.scan(body, w, jnp.arange(2.0))[0]

        gradient = jax.grad(total)(1.0)
        report("grad", gradient * 2)
        return gradient * jnp.sin(x)

    return jax.vmap(lane)(xs)


@case(
    XS,
    observed={"x": [[3, 6], [4, 7]]},
    unharvested={"x": [[3, 1, 2, 6], [4, 2, 3, 7]]},
)
def vmap_of_fori_loop_in_cond(report, xs):
    def loop(x):
        return lax.fori_loop(0, 2, lambda i, x: (report("x", x), x + 1)[1], x)

    return jax.vmap(lambda x: lax.cond(x > 2, loop, jnp.sin, x))(xs)


@case(X, observed={"cpu": [[2]]})
def platform_dependent(report, x):
    def on_cpu(x):
        report("cpu", x)
        return jnp.sin(x)

    def elsewhere(x):
        report("elsewhere", x)
        return jnp.cos(x)

    return lax.platform_dependent(x, cpu=on_cpu, default=elsewhere)
