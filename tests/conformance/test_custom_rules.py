"""Functions with rules of their own, instrumented inside of what somebody else transforms."""

from __future__ import annotations

import functools

import jax
import jax.custom_batching
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.cases import with_jvp, with_vjp
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard import _log
from jaxboard.testing import capture

X = np.float32(2.0)


def ignore(tag, value):
    pass


def custom_jvp(report, x):
    return with_jvp(report)(x)


def custom_vjp(report, x):
    return with_vjp(report)(x)


def linear_solve(report, x):
    def solve(matvec, b):
        report("plain", b)
        return b / 2

    return lax.custom_linear_solve(lambda y: 2 * y, x, solve, symmetric=True)


def root(report, x):
    def solve(f, guess):
        report("plain", guess)
        return guess - f(guess) / 2

    return lax.custom_root(lambda y: 2 * y - x, x, solve, lambda g, y: y / g(1.0))


def nested(report, x):
    @jax.custom_jvp
    def f(x):
        return with_vjp(report)(x) + 0.0

    f.defjvp(lambda primals, tangents: (f(*primals), 5 * tangents[0]))
    return f(x)


def with_integers(report, x):
    @jax.custom_vjp
    def f(n, x):
        report("plain", x)
        return n + 1, n * x

    f.defvjp(lambda n, x: (f(n, x), n), lambda n, g: (None, 7 * n * g[1]))
    number, y = f(jnp.int32(3), x)
    return y * number


def with_symbolic_zeros(report, x):
    @jax.custom_jvp
    def f(x, y):
        report("plain", x)
        return x * y

    def rule(primals, tangents):
        assert type(tangents[1]).__name__ == "SymbolicZero"
        return f(*primals), 9 * tangents[0]

    f.defjvp(rule, symbolic_zeros=True)
    return f(x, jnp.float32(4.0))


def in_scan(report, x):
    body = lambda c, _: (with_jvp(report)(c), c)  # noqa: E731
    return lax.scan(body, x, None, length=1)[0]


def in_cond(report, x):
    return lax.cond(x > 0, with_vjp(report), jnp.cos, x)


PROGRAMS = [
    custom_jvp,
    custom_vjp,
    linear_solve,
    root,
    nested,
    with_integers,
    with_symbolic_zeros,
    in_scan,
    in_cond,
]


@pytest.fixture(autouse=True)
def warnings_anew():
    """Every test sees the warnings that are given once."""
    _log.forget_warnings()


def both(around, program):
    """A transformation of a program, instrumented and not."""
    reporting = jb.instrument(jax.jit(functools.partial(program, jb.scalar)))
    return around(reporting), around(jax.jit(functools.partial(program, ignore)))


def points(records):
    return [(r.tag, r.step, float(r.value)) for r in records]


def vmap(f):
    return jax.jit(jax.vmap(f))


def scan(f):
    return jax.jit(lambda xs: lax.scan(lambda c, x: (c, f(x)), 0, xs)[1])


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("around", [vmap, scan], ids=lambda f: f.__name__)
def test_not_differentiated(program, around):
    """They are harvested: one callback for each call, which has its own step, and no warning."""
    reporting, bare = both(around, program)
    xs = np.array([2.0, 4.0], np.float32)
    with capture() as records:
        results = [reporting(xs) for _ in range(2)]
    np.testing.assert_array_equal(results, [bare(xs)] * 2)
    values = [3.0, 3.0] if around is vmap else [2.0, 4.0, 2.0, 4.0]
    assert points(records) == [("plain", step, value) for step, value in enumerate(values)]


def test_on_devices():
    """In a shard_map each device calls the host."""
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    reporting, bare = both(
        lambda f: jax.jit(
            jax.shard_map(lambda x: f(x[0])[None], mesh=mesh, in_specs=P("d"), out_specs=P("d"))
        ),
        custom_vjp,
    )
    xs = np.array([2.0, 4.0], np.float32)
    with capture() as records:
        np.testing.assert_array_equal(reporting(xs), bare(xs))
    assert sorted(value for _, _, value in points(records)) == [2.0, 4.0]


def test_mapped_twice():
    """Lanes of lanes make one point."""
    reporting, bare = both(
        lambda f: jax.jit(jax.vmap(jax.vmap(f), in_axes=1, out_axes=1)), custom_vjp
    )
    xs = np.arange(6, dtype=np.float32).reshape(2, 3)
    with capture() as records:
        np.testing.assert_array_equal(reporting(xs), bare(xs))
    assert points(records) == [("plain", 0, 2.5)]


def mapped_by_rule(report, x):
    @jax.custom_batching.custom_vmap
    def f(x):
        report("plain", x)
        return x * 2

    f.def_vmap(lambda size, mapped, x: (x * 2, True))
    return f(x)


def with_effects(report, x):
    @jax.custom_jvp
    def f(x):
        report("plain", x)
        jax.debug.callback(lambda x: None, x)
        return x * 2

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return f(x)


@pytest.mark.parametrize(
    ("program", "reason"),
    [(mapped_by_rule, "a rule of its own for vmap"), (with_effects, "and other effects")],
)
def test_left_alone(program, reason):
    """What has a rule for vmap, or effects beside its reports, keeps them: by callback, with a warning."""
    reporting, bare = both(jax.jit, program)
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
ONLY_REVERSE = (custom_vjp, with_integers, in_cond)


@pytest.mark.parametrize(
    ("program", "around"),
    [
        (program, around)
        for program in PROGRAMS
        for around in (*REVERSE, *(() if program in ONLY_REVERSE else FORWARD))
    ]
    + [(custom_vjp, remat), (custom_jvp, remat), (custom_vjp, grad_of_vmap)],
    ids=lambda f: f.__name__,
)
def test_differentiated(program, around):
    """Differentiated from outside, the rule runs and reports: by callback, at the run's step of that moment, with a warning."""
    reporting, bare = both(lambda f: jax.jit(around(f)), program)
    with capture() as by_callback:
        jax.jit(around(functools.partial(program, jb.scalar)))(X)
    with (
        capture() as records,
        pytest.warns(jb.JaxboardWarning, match="differentiated from outside"),
    ):
        result = reporting(X)
    jax.tree.map(np.testing.assert_array_equal, result, bare(X))
    assert sorted(points(records)) == sorted(points(by_callback))
