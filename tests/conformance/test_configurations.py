"""Reports under JAX settings, in several dtypes, and with the options of ``jit``."""

# pyright: reportAttributeAccessIssue=false, reportCallIssue=false

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conformance.limits import LIMITS
from jax import export, lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard._trace.wrapper import Instrumented
from jaxboard.testing import capture

XS = np.array([3.0, 1.0, 2.0, 6.0], np.float32)


def summed(report, xs):
    def body(c, x):
        report("x", x)
        return c + jnp.sin(x), c

    total, partial = lax.scan(body, jnp.zeros((), xs.dtype), xs)
    return (
        total + partial.sum()
    )  # with jax_scan3, JAX drops a scan whose stacked results are not read


REPORTING = functools.partial(summed, jb.scalar)
BARE = functools.partial(summed, lambda tag, value: None)


def test_transfer_guard(prepare):
    """A report makes no implicit transfer under ``jax.transfer_guard("disallow")``."""
    xs = jnp.asarray(XS)
    with capture() as records:
        function = prepare(REPORTING)
        with jax.transfer_guard("disallow"):
            result = function(xs).block_until_ready()
    assert [float(record.value) for record in records] == [3.0]
    np.testing.assert_array_equal(result, jax.jit(BARE)(xs))


CHECKS = {"jax_debug_nans": (jax.debug_nans, np.nan), "jax_debug_infs": (jax.debug_infs, np.inf)}


@pytest.mark.parametrize(("checked", "bad"), CHECKS.values(), ids=CHECKS)
def test_checks(prepare, checked, bad):
    """Under ``jax_debug_nans`` and ``jax_debug_infs``, NaN and infinity may be reported; only a result with one raises."""

    def f(xs):
        jb.scalar("bad", xs.sum() + bad)
        for reduce in ("min", "max"):
            jb.scalar(reduce, xs.sum(), reduce=reduce, every=2)
        return xs * 2

    with capture() as records, checked(True):
        function = prepare(f)
        results = [function(XS) for _ in range(2)]
        jax.effects_barrier()
    np.testing.assert_array_equal(results, [XS * 2] * 2)
    steps = [0] if prepare is jax.jit else [0, 1]
    np.testing.assert_equal(
        {(r.tag, r.step): float(r.value) for r in records},
        {(tag, s): v for tag, v in (("bad", bad), ("min", 12.0), ("max", 12.0)) for s in steps},
    )
    with capture(), checked(True), pytest.raises(FloatingPointError):
        jax.block_until_ready(prepare(f)(XS * bad))


@pytest.mark.parametrize("length", [8, 10])
@pytest.mark.parametrize(("checked", "bad"), CHECKS.values(), ids=CHECKS)
def test_checks_of_streamed_loops(checked, bad, length):
    """Under these checks, a streamed loop may report NaN and infinity inside, before and after the loop."""

    @functools.partial(jb.instrument, stream=4)
    @jax.jit
    def loop(x):
        def body(x, _):
            jb.scalar("inside", x * bad)
            return x + 1, x

        jb.scalar("before", x * bad)
        x, each = lax.scan(body, x, length=length)
        jb.scalar("after", x * bad)
        return x, each

    with capture() as records, checked(True):
        last = [float(loop(np.float32(first))[0]) for first in (1, 2)]
    assert last == [length + 1, length + 2]
    points = sorted((r.tag, r.step) for r in records)
    ends = (length - 1, 2 * length - 1)
    assert points == [
        *(("after", step) for step in ends),
        *(("before", step) for step in (0, length)),
        *(("inside", step) for step in range(2 * length)),
    ]
    assert not any(np.isfinite(r.value) for r in records)


@pytest.mark.parametrize(("checked", "bad"), CHECKS.values(), ids=CHECKS)
def test_checks_in_plain_python(checked, bad):
    """Under these checks, plain Python may report device arrays with NaN and infinity."""
    x, xs = jnp.float32(bad), jnp.full(2, bad)
    with capture() as records, checked(True):
        jb.scalar("x", x, reduce="sum")
        jb.watch("w", xs, what=("norm", "nonfinite"))
        jb.histogram("h", xs)
    points = {r.tag: float(r.value) for r in records if r.tag != "h"}
    np.testing.assert_equal(points, {"x": bad, "w/norm": bad, "w/nonfinite": 2.0})


@pytest.mark.parametrize("check", ["enable_checks", "check_tracer_leaks", "thread_guard"])
def test_checks_of_programs(prepare, check):
    """A program that reports passes JAX's checks of jaxprs, of leaked tracers and of threads."""
    if not hasattr(jax, check):
        pytest.skip(f"this version of JAX has no jax.{check}")

    def f(xs):
        jb.watch("w", {"xs": xs}, what=("norm", "histogram"))
        return REPORTING(xs * 2)

    with capture() as records, getattr(jax, check)(True):
        result = prepare(f)(XS)
        jax.effects_barrier()
    np.testing.assert_array_equal(result, jax.jit(BARE)(XS * 2))
    assert {r.tag for r in records} == {"w/histogram/xs", "w/norm", "x"}
    assert [float(r.value) for r in records if r.tag == "x"] == [6.0]


def test_x64(prepare):
    """With ``jax_enable_x64``, values keep their 64 bits."""
    xs = np.array([1.0, 1.0 + 2.0**-40])
    with capture() as records, jax.enable_x64(True):
        result = prepare(REPORTING)(xs)
        np.testing.assert_array_equal(result, jax.jit(BARE)(xs))
    assert result.dtype == np.float64
    assert [record.value for record in records] == [1.0 + 2.0**-41]
    assert records[0].value.dtype == np.float64


def test_bfloat16(prepare):
    """Reported bfloat16 values are summed in a wider type: 257 ones make 257, where a bfloat16 sum stays at 256."""

    def f(xs):
        _, xs = lax.scan(lambda c, x: (jb.scalar("sum", x, reduce="sum"), (c, x))[1], 0.0, xs)
        return jnp.sin(xs)

    xs = jnp.ones(257, jnp.bfloat16)
    with capture() as records:
        result = prepare(f)(xs)
    np.testing.assert_array_equal(result, jax.jit(jnp.sin)(xs))
    assert [float(record.value) for record in records] == [257.0]


@pytest.mark.parametrize("delivery", ["output", "callback", None])
def test_donated_and_static_arguments(delivery):
    """Donated arguments are donated, and static arguments stay static."""

    @functools.partial(jax.jit, donate_argnums=0, static_argnums=1)
    def f(xs, times):
        assert isinstance(times, int)
        jb.scalar("x", xs.sum() * times)
        return xs * times

    function = f if delivery is None else jb.instrument(f, delivery=delivery)
    xs = jnp.asarray(XS)
    with capture() as records:
        np.testing.assert_array_equal(function(xs, 2), XS * 2)
    assert xs.is_deleted()
    assert [float(record.value) for record in records] == [24.0]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_shardings(prepare, kind):
    """Sharded arguments and results keep their shardings, and a report covers the whole array."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(kind, kind))
    rows = NamedSharding(mesh, P("x", "y"))
    xs = jax.device_put(np.arange(64, dtype=np.float32).reshape(8, 8), rows)

    def f(report, xs):
        report("sum", xs.sum())
        report("max", xs.max())
        return jnp.sin(xs)

    with capture() as records:
        results = [prepare(functools.partial(f, jb.scalar))(xs) for _ in range(2)]
    bare = jax.jit(functools.partial(f, lambda tag, value: None))(xs)
    for result in results:
        np.testing.assert_array_equal(result, bare)
        assert result.sharding == bare.sharding
    points = [(r.tag, r.step, float(r.value)) for r in records]
    steps = [0] if prepare is jax.jit else [0, 1]
    assert sorted(points) == sorted(
        (tag, step, value) for tag, value in (("max", 63.0), ("sum", 2016.0)) for step in steps
    )


def test_shardings_given_to_jit():
    """``in_shardings`` and ``out_shardings`` of ``jax.jit`` apply with either delivery."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    split, whole = NamedSharding(mesh, P("d")), NamedSharding(mesh, P())

    @functools.partial(jax.jit, in_shardings=split, out_shardings=whole)
    def f(xs):
        jb.scalar("x", xs.sum())
        return jnp.sin(xs)

    xs = np.arange(8, dtype=np.float32)
    with capture() as records:
        for delivery in ("output", "callback"):
            assert jb.instrument(f, delivery=delivery)(xs).sharding == whole
    assert [(r.step, float(r.value)) for r in records] == [(0, 28.0), (1, 28.0)]


@pytest.mark.parametrize("method", ["lower", "trace"])
def test_compiled_ahead_of_time(method):
    """An instrumented function compiled ahead of time counts each call as a step and reports by one callback."""
    function = jb.instrument(jax.jit(REPORTING))
    ahead = function.lower(XS) if method == "lower" else function.trace(XS).lower()
    compiled = ahead.compile()
    with capture() as records:
        results = [compiled(xs) for xs in (XS, 2 * XS)]
    assert [(r.step, float(r.value)) for r in records] == [(0, 3.0), (1, 6.0)]
    for result, xs in zip(results, (XS, 2 * XS), strict=True):
        np.testing.assert_array_equal(result, jax.jit(BARE)(xs))


def test_compiled_ahead_of_time_without_instrument():
    """A function compiled ahead of time without ``instrument`` reports by callbacks and counts no steps."""
    with capture() as records:
        compiled = jax.jit(REPORTING).lower(XS).compile()
        np.testing.assert_array_equal(compiled(XS), jax.jit(BARE)(XS))
        compiled(XS)
    assert [(r.step, float(r.value)) for r in records] == [(0, 3.0)]


def test_export(prepare):
    """Exporting a function that reports raises JAX's error, instrumented or not."""
    messages = [limit.error for limit in LIMITS if limit.case.startswith("jax.export")]
    with pytest.raises((NotImplementedError, ValueError), match="|".join(messages)):
        export.export(prepare(REPORTING))(XS)


def test_export_in_a_silent_block(prepare):
    """In a silent block, a function that reports has no callbacks, and can be exported without its reports."""
    function = prepare(REPORTING)
    # From Python 3.12, JAX exports only what jax.jit returned.
    jitted = function.__wrapped__ if isinstance(function, Instrumented) else function
    with jb.silent():
        assert "callback" not in function.lower(XS).as_text()
        exported = export.export(jitted)(XS)
    np.testing.assert_array_equal(exported.call(XS), jax.jit(REPORTING)(XS))


def test_disable_jit():
    """With ``jax.disable_jit``, an instrumented function runs eagerly and reports."""
    with capture() as records, jax.disable_jit():
        jb.instrument(jax.jit(REPORTING))(XS)
    assert [(record.step, float(record.value)) for record in records] == [(0, 3.0)]


def test_explicit_steps_in_a_while_loop():
    """Reports with ``step=`` in a while loop are delivered one by one without loss, with a warning."""

    def f(x):
        def body(x):
            jb.scalar("x", 2 * x, step=x)
            return x + 1

        return lax.while_loop(lambda x: x < 8, body, x)

    function = jb.instrument(jax.jit(f))
    with capture() as records, pytest.warns(jb.JaxboardWarning, match="with step= in a while loop"):
        assert function(5) == 8
    assert [(r.tag, r.step, float(r.value)) for r in records] == [
        ("x", 5, 10.0),
        ("x", 6, 12.0),
        ("x", 7, 14.0),
    ]


def test_explicit_steps_in_shard_map():
    """Values of all devices that name the same step with ``step=`` make one point."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    spec = P("d")

    def shard(x):
        lax.scan(lambda c, i: (jb.scalar("x", x.sum(), step=i), (c, None))[1], 0, jnp.arange(2))
        return x

    function = jb.instrument(
        jax.jit(jax.shard_map(shard, mesh=mesh, in_specs=spec, out_specs=spec))
    )
    with capture() as records:
        function(np.arange(8.0, dtype=np.float32))
    assert [(r.step, float(r.value)) for r in records] == [(0, 3.5), (1, 3.5)]


def test_a_stopped_gradient_is_not_a_branch():
    """``stop_gradient`` in some lanes produces a select like that of a mapped cond, but masks no lane."""

    def lane(x):
        y = lax.select(x > 2, x, lax.stop_gradient(x))
        jb.scalar("y", y, reduce="sum")
        return y

    with capture() as records:
        jb.instrument(jax.jit(jax.vmap(lane)))(XS)
    assert [float(record.value) for record in records] == [12.0]
