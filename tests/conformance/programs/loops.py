"""Programs that report inside loops."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from conformance.case import ROWS, XS, X, add_case, executions
from conformance.programs import functions
from jax import lax

FAMILY = "loops"
case = functools.partial(add_case, family=FAMILY)


@case(XS, observed={"x": executions(3, 1, 2, 6)})
def scan(report, xs):
    return lax.scan(lambda c, x: (report("x", x), (c + jnp.sin(x), c))[1], 0.0, xs)


@case(XS, observed={"x": executions(6, 2, 1, 3)})
def reverse_scan(report, xs):
    def body(c, x):
        report("x", x)
        return c + jnp.sin(x), c

    return lax.scan(body, 0.0, xs, reverse=True)


@case(XS, observed={"x": executions(3, 1, 2, 6)}, unordered=True)
def unrolled_scan(report, xs):
    def body(c, x):
        report("x", x)
        return c + jnp.sin(x), c

    return lax.scan(body, 0.0, xs, unroll=3)


@case(ROWS, observed={"x": executions(0, 1, 2, 3, 4, 5), "row": executions(3, 12)})
def scan_of_scan(report, rows):
    def outer(c, row):
        report("row", row.sum())
        return lax.scan(lambda c, x: (report("x", x), (c + jnp.sin(x), None))[1], c, row)

    return lax.scan(outer, 0.0, rows)


@case(XS[:0], observed={})
def scan_of_length_zero(report, xs):
    return lax.scan(lambda c, x: (report("x", x), (c + x, c))[1], 0.0, xs)


@case(XS, observed={"x": executions(3, 1, 2, 6)})
def grad_of_scan(report, xs):
    def total(xs):
        return lax.scan(lambda c, x: (c + functions.loss(report, x), None), 0.0, xs)[0]

    return jax.grad(total)(xs)


@case(
    XS,
    X,
    observed={"x": [[2]]},
    note="JAX moves the value and its report out of the loop, so it is reported once",
)
def grad_of_scan_with_invariant_value(report, xs, x):
    def body(c, y):
        report("x", x)
        return c + jnp.sin(y), None

    return jax.grad(lambda xs: lax.scan(body, 0.0, xs)[0])(xs)


@case(XS, observed={"x": executions(1, 2, 3, 4, 5)})
def grad_of_scan_of_remat(report, xs):
    @jax.checkpoint
    def layer(x, number):
        report("x", number)
        return jnp.sin(x) * x

    def stack(xs):
        numbers = jnp.arange(1.0, 6.0)
        return lax.scan(lambda x, n: (layer(x, n), None), xs, numbers)[0].sum()

    return jax.grad(stack)(xs)


@case(X, observed={"i": executions(0, 1, 2, 3)})
def fori_loop(report, x):
    return lax.fori_loop(0, 4, lambda i, x: (report("i", 1.0 * i), jnp.sin(x))[1], x)


@case(X, 3, observed={"i": executions(0, 1, 2)})
def fori_loop_of_dynamic_length(report, x, n):
    return lax.fori_loop(0, n, lambda i, x: (report("i", 1.0 * i), jnp.sin(x))[1], x)


@case(X, observed={"i": executions(0, 1, 2, 3)})
def grad_of_fori_loop(report, x):
    def loop(x):
        return lax.fori_loop(0, 4, lambda i, x: (report("i", 1.0 * i), jnp.sin(x))[1], x)

    return jax.grad(loop)(x)


@case(X, observed={"x": executions(2, 3, 4)})
def jvp_of_while_loop(report, x):
    def loop(x):
        return lax.while_loop(lambda x: x < 5, lambda x: (report("x", x), x + 1)[1], x)

    return jax.jvp(loop, (x,), (x,))


@case(X, observed={"x": executions(2, 3, 4)})
def while_loop_body(report, x):
    return lax.while_loop(lambda x: x < 5, lambda x: (report("x", x), x + 1)[1], x)


@case(X, observed={"x": executions(2, 3, 4, 5)})
def while_loop_condition(report, x):
    return lax.while_loop(lambda x: (report("x", x), x < 5)[1], lambda x: x + 1, x)


@case(X, observed={"condition": executions(2, 3, 4, 5), "body": executions(2, 3, 4)})
def while_loop_condition_and_body(report, x):
    def condition(x):
        report("condition", x)
        return x < 5

    def body(x):
        report("body", x)
        return x + 1

    return lax.while_loop(condition, body, x)


@case(X, observed={})
def while_loop_without_iterations(report, x):
    return lax.while_loop(lambda x: x < 0, lambda x: (report("x", x), x + 1)[1], x)


@case(X, observed={"x": executions(2, 3, 3, 4)})
def while_loop_of_scan(report, x):
    def body(x):
        lax.scan(lambda c, i: (report("x", x + i), (c, None))[1], 0.0, jnp.arange(2.0))
        return x + 1

    return lax.while_loop(lambda x: x < 4, body, x)


@case(
    XS,
    observed={"x": [[1, 2, 3], [2, 3], [3]]},
    unharvested={"x": [[3, 1, 2, 6], [4, 2, 3, 6], [4, 3, 4, 6]]},
)
def vmap_of_while_loop(report, xs):
    return jax.vmap(
        lambda x: lax.while_loop(lambda x: x < 4, lambda x: (report("x", x), x + 1)[1], x)
    )(xs)


@case(
    XS,
    observed={"x": [[3, 1, 2, 6], [4, 2, 3], [3, 4], [4]]},
    # The loop evaluates the condition twice: to decide whether to continue, and which lanes do.
    unharvested={"x": [[3, 1, 2, 6], [4, 2, 3, 6], [4, 3, 4, 6]] * 2 + [[4, 4, 4, 6]]},
)
def vmap_of_while_loop_condition(report, xs):
    return jax.vmap(
        lambda x: lax.while_loop(lambda x: (report("x", x), x < 4)[1], lambda x: x + 1, x)
    )(xs)


@case(XS, observed={"x": [[3, 1, 2, 6], [6, 2, 4, 12]]})
def vmap_of_while_loop_with_shared_count(report, xs):
    def lane(x):
        def body(state):
            i, x = state
            report("x", x)
            return i + 1, x * 2

        return lax.while_loop(lambda state: state[0] < 2, body, (0, x))

    return jax.vmap(lane)(xs)


@case(
    ROWS,
    observed={"x": [[0, 1, 2], [1, 2], [2]]},
    unharvested={"x": [[0, 1, 2, 3, 4, 5], [1, 2, 3, 3, 4, 5], [2, 3, 3, 3, 4, 5]]},
)
def vmap_of_vmap_of_while_loop(report, rows):
    def lane(x):
        return lax.while_loop(lambda x: x < 3, lambda x: (report("x", x), x + 1)[1], x)

    return jax.vmap(jax.vmap(lane))(rows)


@case(XS, observed={"x": executions(3, 1, 2, 6)})
def lax_map(report, xs):
    return lax.map(lambda x: (report("x", x), jnp.sin(x))[1], xs)


@case(XS, observed={"x": [[3, 1], [2, 6]]})
def lax_map_in_batches(report, xs):
    return lax.map(lambda x: (report("x", x), jnp.sin(x))[1], xs, batch_size=2)


@case(XS, observed={"x": executions(15, 32, 0, 8)}, unordered=True)
def associative_scan(report, xs):
    def combine(a, b):
        report("x", (a * b).sum())
        return a + b

    return lax.associative_scan(combine, xs)
