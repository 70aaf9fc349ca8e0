"""Reports under JAX's transformations, compared with plain JAX that returns the values explicitly."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import Primitive, jaxpr_as_fun
from jax.interpreters import mlir

import jaxboard as jb
from jaxboard.testing import capture

X = jnp.linspace(-1.0, 2.0, 12).reshape(4, 3)
W = jnp.array([[0.5, -0.2, 0.1], [0.3, 0.8, -0.4], [0.0, 0.2, 0.6]])


def outputs_and_points(function, *args):
    """Return the results and the points of a jitted function, for both deliveries."""
    outcomes = []
    outer = jax.jit(jb.instrument(jax.jit(function)))
    for instrumented in (jb.instrument(jax.jit(function)), outer):
        with capture() as records:
            out = instrumented(*args)
        outcomes.append((out, sorted((r.tag, r.step, r.value) for r in records)))
    return outcomes


def check(function, expected, *args):
    """Check that both deliveries report ``expected`` (tag -> value) and return the results of the bare function."""
    bare = jax.jit(function)(*args)
    for out, points in outputs_and_points(function, *args):
        for ours, theirs in zip(jax.tree.leaves(out), jax.tree.leaves(bare), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert [(tag, step) for tag, step, _ in points] == sorted((tag, 0) for tag in expected)
        for tag, _, value in points:
            np.testing.assert_array_equal(value, expected[tag], err_msg=tag)


def test_jit():
    """A report in a jitted function has the value that the function computes."""

    def f(x):
        jb.scalar("sum", x.sum())
        return x * 2

    check(f, {"sum": jax.jit(jnp.sum)(X)}, X)


def test_nested_jit():
    """A function called twice reports twice, and a scalar is the mean by default."""

    @jax.jit
    def inner(x):
        jb.scalar("max", x.max(), reduce="max")
        jb.scalar("mean", x[0, 0])
        return x + 1

    check(lambda x: inner(inner(x)), {"max": X.max() + 1, "mean": np.float32(-0.5)}, X)


def test_grad():
    """A report in a differentiated function has the primal value, and counts once."""

    def loss(w):
        value = jnp.sum(jnp.tanh(X @ w) ** 2)
        jb.scalar("loss", value)
        jb.scalar("count", value, reduce="count")
        return value

    def plain(w):
        return jax.value_and_grad(lambda w: jnp.sum(jnp.tanh(X @ w) ** 2))(w)

    check(jax.grad(loss), {"loss": jax.jit(plain)(W)[0], "count": 1}, W)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan(reverse):
    """The iterations of a scan reduce to one point; the last value is that of the iteration that ran last."""

    def f(xs):
        def body(total, x):
            for name in ("sum", "min", "max", "last", "count", "mean"):
                jb.scalar(name, x, reduce=name)
            return total + x, total

        return lax.scan(body, 0.0, xs, reverse=reverse)

    xs = jnp.array([3.0, 1.0, 2.0, 6.0])
    last = 3.0 if reverse else 6.0
    expected = {"sum": 12.0, "min": 1.0, "max": 6.0, "last": last, "count": 4, "mean": 3.0}
    check(f, expected, xs)


def test_std():
    """The standard deviation is that of the population."""

    def f(xs):
        lax.scan(lambda c, x: (jb.scalar("std", x, reduce="std"), (c, None))[1], 0.0, xs)
        return xs

    xs = jnp.array([1.0, 3.0, 1.0, 3.0])
    check(f, {"std": 1.0}, xs)


def test_scan_of_remat_under_grad():
    """A report in a stack of rematerialized layers counts once for each layer, which remat runs twice."""

    def f(w):
        @jax.checkpoint
        def layer(x):
            jb.scalar("calls", x.sum(), reduce="count")
            return jnp.tanh(x @ w)

        return lax.scan(lambda x, _: (layer(x), None), X, None, length=5)[0].sum()

    check(jax.grad(f), {"calls": 5}, W)


def test_fori_and_while():
    """The iterations of a loop reduce to one point."""

    def f(x):
        def iteration(i, x):
            jb.scalar("i", i, reduce="sum")
            return x + i

        x = lax.fori_loop(0, 5, iteration, x)

        def body(state):
            i, x = state
            jb.scalar("w/last", i, reduce="last")
            jb.scalar("w/count", i, reduce="count")
            jb.scalar("w/min", x.min(), reduce="min")
            return i + 1, x - 1

        return lax.while_loop(lambda state: state[0] < 3, body, (0, x))

    check(f, {"i": 10, "w/last": 2, "w/count": 3, "w/min": (X + 10 - 2).min()}, X)


def test_while_without_iterations():
    """A loop without iterations makes no point."""

    def f(x):
        return lax.while_loop(lambda x: x < 0, lambda x: (jb.scalar("x", x), x + 1)[1], x)

    check(f, {}, 1.0)


@pytest.mark.parametrize("taken", [0, 1, 2])
def test_switch(taken):
    """Only the branch taken reports, and a tag that several branches report is one series."""

    def branch(number):
        def f(x):
            jb.scalar("both", x * number)
            if number != 1:
                jb.scalar(f"only/{number}", x)
            return x + number

        return f

    def f(index, x):
        return lax.switch(index, [branch(n) for n in range(3)], x)

    expected = {"both": 2.0 * taken}
    if taken != 1:
        expected[f"only/{taken}"] = 2.0
    check(f, expected, taken, 2.0)


def test_cond_in_scan():
    """Only the iterations that take the branch count."""

    def f(xs):
        def body(c, x):
            lax.cond(x > 0, lambda: jb.scalar("positive", x), lambda: None)
            return c, None

        return lax.scan(body, 0.0, xs)[0]

    check(f, {"positive": 3.0}, jnp.array([2.0, -1.0, 4.0, -5.0]))


def test_vmap():
    """Lanes reduce to one point, without those that ``where=`` excludes."""

    def f(x):
        def lane(row):
            jb.scalar("sum", row.sum(), reduce="max")
            jb.scalar("masked", row[0], where=row[0] > 0, reduce="sum")
            return row * 2

        return jax.vmap(lane)(x)

    first = np.asarray(X)[:, 0]
    check(f, {"sum": X.sum(1).max(), "masked": first[first > 0].sum()}, X)


def test_custom_rules():
    """A function with a VJP rule reports, and so do its two rules, each where it runs."""

    @jax.custom_vjp
    def f(x):
        jb.scalar("plain", x.sum())
        return x * 2

    def forward(x):
        jb.scalar("forward", x.sum())
        return x * 2, x

    def backward(x, g):
        jb.scalar("backward", g.sum())
        return (g * 3,)

    f.defvjp(forward, backward)

    def program(x):
        return jax.grad(lambda x: f(x).sum())(x)

    with capture() as records:
        out = jb.instrument(jax.jit(program))(X)
    np.testing.assert_array_equal(out, jnp.full_like(X, 3))
    assert {r.tag: float(r.value) for r in records} == {"forward": float(X.sum()), "backward": 12.0}
    with capture() as records:
        jb.instrument(jax.jit(f))(X)
    assert [r.tag for r in records] == ["plain"]


def test_custom_jvp():
    """A function with a JVP rule reports where it is not differentiated; its rule reports where it is."""

    @jax.custom_jvp
    def f(x):
        jb.scalar("x", x)
        return x * 2

    @f.defjvp
    def _(primals, tangents):
        jb.scalar("rule", primals[0])
        return primals[0] * 2, tangents[0] * 5

    with capture() as records:
        assert jb.instrument(jax.jit(lambda x: f(x) + jax.grad(f)(x)))(1.0) == 7.0
    assert sorted((r.tag, float(r.value)) for r in records) == [("rule", 1.0), ("x", 1.0)]


def test_unknown_primitive_falls_back():
    """A primitive without a rule stays in the program, with one warning, and its values arrive."""
    mystery = Primitive("mystery")
    mystery.multiple_results = True
    mystery.def_effectful_abstract_eval(lambda *_, jaxpr: (jaxpr.out_avals, jaxpr.effects))
    run = lambda *operands, jaxpr: jaxpr_as_fun(jaxpr)(*operands)  # noqa: E731
    mlir.register_lowering(mystery, mlir.lower_fun(run, multiple_results=True))

    def inner(x):
        jb.scalar("inner", x)
        return x * 2

    @jax.jit
    def f(x):
        return mystery.bind(x, jaxpr=jax.make_jaxpr(inner)(x))[0]

    instrumented = jb.instrument(f)
    message = "inside mystery .* jaxboard has no rule for it. Tags: 'inner'"
    with capture() as records, pytest.warns(jb.JaxboardWarning, match=message) as warned:
        assert [float(instrumented(x)) for x in (1.0, 2.0)] == [2.0, 4.0]
    assert len(warned) == 1
    assert sum(float(r.value) for r in records) in (3.0, 1.5)


def test_without_instrument():
    """The reports of a jitted function without ``instrument`` arrive by callback, merged by step."""

    @jax.jit
    def f(x):
        jb.scalar("x", x)
        jb.scalar("most", x, reduce="max")
        return x

    with capture() as records:
        run = jb.current_run()
        assert run is not None
        for x in (1.0, 2.0):
            f(x)
        jax.effects_barrier()
        run.step += 1
        f(5.0)
    points = {(r.tag, r.step): float(r.value) for r in records}
    assert points == {("x", 0): 1.5, ("most", 0): 2.0, ("x", 1): 5.0, ("most", 1): 5.0}
    assert len(records) == 4


def test_traced_step():
    """A report with ``step=`` in a scan makes a point for each iteration."""

    def f(xs):
        def body(c, x):
            jb.scalar("x", x, step=c)
            return c + 10, None

        return lax.scan(body, 5, xs)[0]

    for _, points in outputs_and_points(f, jnp.array([1.0, 2.0, 3.0])):
        assert points == [("x", 5, 1.0), ("x", 15, 2.0), ("x", 25, 3.0)]


def test_histogram_in_scan():
    """The histograms of iterations merge with exact counts."""

    def f(xs):
        lax.scan(lambda c, x: (jb.histogram("x", x), (c, None))[1], 0.0, xs)
        return xs

    xs = jnp.array([[0.0, 1.0, jnp.nan], [5.0, 64.0, jnp.inf]])
    with capture() as records:
        jb.instrument(jax.jit(f))(xs)
    (record,) = records
    assert (record.value.edges[0], record.value.edges[-1]) == (0.0, 64.0)
    assert (record.value.counts.sum(), record.value.nonfinite) == (4, 2)


def test_loop_in_a_jaxpr_evaluated_in_place():
    """A loop in an ``eval_jaxpr`` equation, which JAX 0.12 stages for a closed call, is streamed."""
    call = Primitive("eval_jaxpr")
    call.multiple_results = True
    call.def_effectful_abstract_eval(
        lambda *_, call_jaxpr: (call_jaxpr.out_avals, call_jaxpr.effects)
    )

    def loop(total, xs):
        def body(total, x):
            jb.scalar("x", x)
            return total + x, None

        return lax.scan(body, total, xs)[0]

    xs = jnp.arange(5.0)
    jaxpr = jax.make_jaxpr(loop)(0.0, xs)
    train = jax.jit(lambda total, xs: call.bind(total, xs, call_jaxpr=jaxpr)[0])
    with capture() as records:
        assert float(jb.instrument(train, stream=2)(0.0, xs)) == 10.0
    points = [(record.tag, record.step, float(record.value)) for record in records]
    assert points == [("x", step, float(step)) for step in range(5)]
