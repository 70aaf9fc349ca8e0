"""Functions with custom derivative rules, instrumented and called inside other transformations."""

from __future__ import annotations

import functools

import jax
import jax.custom_batching
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.programs import functions
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard.testing import capture

X = np.float32(2.0)


def ignore(tag, value):
    pass


def custom_jvp(report, x):
    return functions.custom_jvp(report)(x)


def custom_vjp(report, x):
    return functions.custom_vjp(report)(x)


def custom_linear_solve(report, x):
    def solve(matvec, b):
        report("plain", b)
        return b / 2

    return lax.custom_linear_solve(lambda y: 2 * y, x, solve, symmetric=True)


def custom_root(report, x):
    def solve(f, guess):
        report("plain", guess)
        return guess - f(guess) / 2

    return lax.custom_root(lambda y: 2 * y - x, x, solve, lambda g, y: y / g(1.0))


def custom_vjp_in_custom_jvp(report, x):
    @jax.custom_jvp
    def f(x):
        return functions.custom_vjp(report)(x) + 0.0

    f.defjvp(lambda primals, tangents: (f(*primals), 5 * tangents[0]))
    return f(x)


def custom_vjp_with_integers(report, x):
    @jax.custom_vjp
    def f(n, x):
        report("plain", x)
        return n + 1, n * x

    f.defvjp(lambda n, x: (f(n, x), n), lambda n, g: (None, 7 * n * g[1]))
    number, y = f(jnp.int32(3), x)
    return y * number


def custom_jvp_with_symbolic_zeros(report, x):
    @jax.custom_jvp
    def f(x, y):
        report("plain", x)
        return x * y

    def rule(primals, tangents):
        assert type(tangents[1]).__name__ == "SymbolicZero"
        return f(*primals), 9 * tangents[0]

    f.defjvp(rule, symbolic_zeros=True)
    return f(x, jnp.float32(4.0))


def custom_jvp_in_scan(report, x):
    body = lambda c, _: (functions.custom_jvp(report)(c), c)  # noqa: E731
    return lax.scan(body, x, None, length=1)[0]


def custom_vjp_in_cond(report, x):
    return lax.cond(x > 0, functions.custom_vjp(report), jnp.cos, x)


PROGRAMS = [
    custom_jvp,
    custom_vjp,
    custom_linear_solve,
    custom_root,
    custom_vjp_in_custom_jvp,
    custom_vjp_with_integers,
    custom_jvp_with_symbolic_zeros,
    custom_jvp_in_scan,
    custom_vjp_in_cond,
]


def instrumented_and_bare(transform, program):
    """Return a transformed program, once instrumented and once without reports."""
    reporting = jb.instrument(jax.jit(functools.partial(program, jb.scalar)))
    return transform(reporting), transform(jax.jit(functools.partial(program, ignore)))


def points(records):
    return [(r.tag, r.step, float(r.value)) for r in records]


def vmap(f):
    return jax.jit(jax.vmap(f))


def scan(f):
    return jax.jit(lambda xs: lax.scan(lambda c, x: (c, f(x)), 0, xs)[1])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("transform", [vmap, scan], ids=lambda f: f.__name__)
def test_not_differentiated(program, transform):
    """If the function is not differentiated, each call makes one callback and counts as a step, without a warning."""
    reporting, bare = instrumented_and_bare(transform, program)
    xs = np.array([2.0, 4.0], np.float32)
    with capture() as records:
        results = [reporting(xs) for _ in range(2)]
    np.testing.assert_array_equal(results, [bare(xs)] * 2)
    values = [3.0, 3.0] if transform is vmap else [2.0, 4.0, 2.0, 4.0]
    assert points(records) == [("plain", step, value) for step, value in enumerate(values)]


def test_shard_map():
    """In a ``shard_map``, each device reports by its own callback."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    reporting, bare = instrumented_and_bare(
        lambda f: jax.jit(
            jax.shard_map(lambda x: f(x[0])[None], mesh=mesh, in_specs=P("d"), out_specs=P("d"))
        ),
        custom_vjp,
    )
    xs = np.array([2.0, 4.0], np.float32)
    with capture() as records:
        np.testing.assert_array_equal(reporting(xs), bare(xs))
    assert sorted(value for _, _, value in points(records)) == [2.0, 4.0]


def test_nested_vmap():
    """The lanes of two nested maps make one point."""
    reporting, bare = instrumented_and_bare(
        lambda f: jax.jit(jax.vmap(jax.vmap(f), in_axes=1, out_axes=1)), custom_vjp
    )
    xs = np.arange(6, dtype=np.float32).reshape(2, 3)
    with capture() as records:
        np.testing.assert_array_equal(reporting(xs), bare(xs))
    assert points(records) == [("plain", 0, 2.5)]


def custom_batching_rule(report, x):
    @jax.custom_batching.custom_vmap
    def f(x):
        report("plain", x)
        return x * 2

    f.def_vmap(lambda size, mapped, x: (x * 2, True))
    return f(x)


def other_effects(report, x):
    @jax.custom_jvp
    def f(x):
        report("plain", x)
        jax.debug.callback(lambda x: None, x)
        return x * 2

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return f(x)


@pytest.mark.parametrize(
    ("program", "reason"),
    [(custom_batching_rule, "a rule of its own for vmap"), (other_effects, "and other effects")],
)
def test_not_harvested(program, reason):
    """A function with a custom batching rule or with other effects reports by callback, with a warning."""
    reporting, bare = instrumented_and_bare(jax.jit, program)
    with capture() as records, pytest.warns(jb.JaxboardWarning, match=reason):
        result = reporting(X)
    np.testing.assert_array_equal(result, bare(X))
    assert points(records) == [("plain", 0, 2.0)]


def value_and_grad(f):
    return jax.value_and_grad(f)


def jvp(f):
    return lambda x: jax.jvp(f, (x,), (x,))


def linearize(f):
    return lambda x: jax.linearize(f, x)[1](x)


def remat(f):
    return jax.grad(jax.checkpoint(f))


def vmap_of_grad(f):
    return lambda x: jax.vmap(jax.grad(f))(jnp.stack([x, x]))


def grad_of_vmap(f):
    return lambda x: jax.grad(lambda xs: jax.vmap(f)(xs).sum())(jnp.stack([x, x]))


FORWARD = (jvp, linearize)
REVERSE = (value_and_grad, vmap_of_grad)
ONLY_REVERSE = (custom_vjp, custom_vjp_with_integers, custom_vjp_in_cond)


@pytest.mark.parametrize(
    ("program", "transform"),
    [
        (program, transform)
        for program in PROGRAMS
        for transform in (*REVERSE, *(() if program in ONLY_REVERSE else FORWARD))
    ]
    + [(custom_vjp, remat), (custom_jvp, remat), (custom_vjp, grad_of_vmap)],
    ids=lambda f: f.__name__,
)
def test_differentiated(program, transform):
    """If an outer transformation differentiates the function, its rule reports by callback, with a warning."""
    reporting, bare = instrumented_and_bare(lambda f: jax.jit(transform(f)), program)
    with capture() as by_callback:
        jax.jit(transform(functools.partial(program, jb.scalar)))(X)
    with (
        capture() as records,
        pytest.warns(jb.JaxboardWarning, match="differentiated from outside"),
    ):
        result = reporting(X)
    jax.tree.map(np.testing.assert_array_equal, result, bare(X))
    assert sorted(points(records)) == sorted(points(by_callback))
