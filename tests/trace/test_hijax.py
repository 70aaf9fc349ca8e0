"""Reports in programs of the "hijax" primitives, which flags of JAX turn on today."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard._trace.harvest import harvest
from jaxboard._trace.inspection import has_reports
from jaxboard.testing import capture

X = np.float32(2.0)


@pytest.fixture
def turn_on():
    """Return a function that turns on a flag of JAX for the test, or skips the test if JAX lacks it."""
    before = {}

    def update(name):
        if not hasattr(jax.config, name):
            pytest.skip(f"this JAX has no flag {name}")
        before[name] = getattr(jax.config, name)
        jax.config.update(name, True)

    yield update
    for name, value in before.items():
        jax.config.update(name, value)


def points(records):
    return sorted((r.tag, r.step, float(r.value)) for r in records)


def assert_harvested(function, *args, bare, expected):
    """Check that no report stays in the program, that both deliveries report ``expected``, and the results."""
    traced = jax.make_jaxpr(function)(*args)
    assert has_reports(traced)
    assert not has_reports(
        jax.make_jaxpr(lambda *xs: harvest(traced, xs, final=True).results)(*args)
    )
    results = jax.jit(bare)(*args)
    for instrumented in (
        jb.instrument(jax.jit(function)),
        jax.jit(jb.instrument(jax.jit(function))),
    ):
        with capture() as records:
            ours = instrumented(*args)
        jax.tree.map(np.testing.assert_array_equal, ours, results)
        assert points(records) == sorted(expected)


def ignore(*args, **kwargs):
    pass


def scanned(report, xs):
    def body(total, x):
        report("last", x, reduce="last")
        report("each", x, reduce="stack")
        report("step", total, step=total.astype(int))
        return total + x, total

    return lax.scan(body, jnp.float32(1), xs)[1]


def test_scan(turn_on):
    """The reports of a scan leave it stacked, in order: the last one, one for each iteration, and those with steps."""
    turn_on("jax_scan3")
    assert_harvested(
        functools.partial(scanned, jb.scalar),
        np.array([1.0, 5.0, 2.0], np.float32),
        bare=functools.partial(scanned, ignore),
        expected=[
            ("last", 0, 2.0),
            *((f"each/iteration_{n:02}", 0, x) for n, x in enumerate((1.0, 5.0, 2.0))),
            *(("step", n, float(n)) for n in (1, 2, 7)),
        ],
    )


def test_jvp_of_scan(turn_on):
    """A scan that is differentiated in forward mode has its operands in another order."""
    turn_on("jax_scan3")

    def f(report, xs):
        return jax.jvp(functools.partial(scanned, report), (xs,), (xs,))

    assert_harvested(
        lambda xs: f(lambda tag, x, **_: jb.scalar(tag, x, reduce="sum"), xs),
        np.array([1.0, 5.0, 2.0], np.float32),
        bare=functools.partial(f, ignore),
        expected=[("last", 0, 8.0), ("each", 0, 8.0), ("step", 0, 10.0)],
    )


def test_streamed_scan(turn_on):
    """A scan can be streamed: each iteration is a step."""
    turn_on("jax_scan3")

    @functools.partial(jb.instrument, stream=2)
    @jax.jit
    def loop(x):
        def body(x, _):
            jb.scalar("x", x)
            return x + 1, x

        return lax.scan(body, x, length=5)

    with capture() as records:
        last, each = loop(X)
    assert float(last) == 7.0
    np.testing.assert_array_equal(each, np.arange(2.0, 7.0))
    assert points(records) == [("x", step, step + 2.0) for step in range(5)]


def test_a_scan_whose_reports_are_not_due(turn_on):
    """A scan that only writes to Refs stays in a step on which its reports are not due."""
    turn_on("jax_scan3")

    @jb.instrument
    @jax.jit
    def step(ref):
        def body(_, x):
            ref[...] += x
            jb.scalar("x", x, every=2, reduce="max")
            jb.histogram("h", x, every=2)
            return None, x

        lax.scan(body, None, jnp.arange(3.0))

    ref = jax.new_ref(jnp.float32(0))
    with capture() as records:
        for _ in range(3):
            step(ref)
    assert float(ref[...]) == 9.0
    assert sorted((r.step, r.tag) for r in records) == [(0, "h"), (0, "x"), (2, "h"), (2, "x")]


def rematted(report, x):
    @jax.checkpoint
    def f(x):
        report("x", x, reduce="count")
        return jnp.sin(jnp.sin(x))

    return f(x)


def test_remat(turn_on):
    """A remat that is not differentiated is replaced by its body."""
    turn_on("jax_remat3")
    assert_harvested(
        functools.partial(rematted, jb.scalar),
        X,
        bare=functools.partial(rematted, ignore),
        expected=[("x", 0, 1.0)],
    )


@pytest.mark.parametrize("outside", [False, True])
def test_grad_of_remat(turn_on, outside):
    """A report in a remat counts once, also if JAX repeats it in the recomputation."""
    turn_on("jax_remat3")
    function = functools.partial(rematted, jb.scalar)
    if outside:
        instrumented = jax.jit(jax.grad(jb.instrument(jax.jit(function))))
    else:
        instrumented = jb.instrument(jax.jit(jax.grad(function)))
    with capture() as records:
        result = instrumented(X)
    assert result == jax.jit(jax.grad(functools.partial(rematted, ignore)))(X)
    assert points(records) == [("x", 0, 1.0)]


def with_custom_vjp(report, x):
    @jax.custom_vjp
    def f(x):
        report("x", x)
        return jnp.sin(x)

    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * x,))
    return f(x)


def with_custom_jvp(report, x):
    @jax.custom_jvp
    def f(x):
        report("x", x)
        return jnp.sin(x)

    f.defjvp(lambda primals, tangents: (f(*primals), tangents[0]))
    return f(x)


CUSTOM = {"jax_custom_vjp3": with_custom_vjp, "jax_custom_jvp3": with_custom_jvp}


@pytest.mark.parametrize("transform", [lambda f: f, jax.vmap], ids=["plain", "vmap"])
@pytest.mark.parametrize("flag", CUSTOM)
def test_custom_derivatives(turn_on, flag, transform):
    """A function with a custom derivative that is not differentiated is replaced by its body, also under ``vmap``."""
    turn_on(flag)
    function = CUSTOM[flag]
    assert_harvested(
        transform(functools.partial(function, jb.scalar)),
        np.array([1.0, 3.0], np.float32) if transform is jax.vmap else X,
        bare=transform(functools.partial(function, ignore)),
        expected=[("x", 0, 2.0)],
    )


def test_logs_of_a_derivative_rule():
    """Values that a derivative rule logs (from JAX 0.12) can be reported by one call, also those of a scan."""
    if not hasattr(jax.custom_vjp, "defvjp_with_logs"):
        pytest.skip("this JAX has no logs of derivative rules")

    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    f.defvjp_with_logs(lambda x: (f(x), x), lambda x, g: ((g,), {"g": g, "inner": {"x": x}}))

    @jb.instrument
    @jax.jit
    def step(x, xs):
        _, f_vjp = jax.vjp(lambda x: f(x) * 3, x)
        jb.scalars("one", f_vjp.with_logs(1.0)[1])
        _, f_vjp = jax.vjp(lambda xs: lax.scan(lambda c, x: (c + f(x), None), 0.0, xs)[0], xs)
        jb.histogram("all", f_vjp.with_logs(1.0)[1])

    with capture() as records:
        step(X, np.arange(3, dtype=np.float32))
    scalars = {r.tag: float(r.value) for r in records if r.tag.startswith("one")}
    assert scalars == {"one/g": 3.0, "one/inner/x": 2.0}
    counts = {r.tag: int(r.value.counts.sum()) for r in records if r.tag.startswith("all")}
    assert counts == {"all/g": 3, "all/inner/x": 3}
