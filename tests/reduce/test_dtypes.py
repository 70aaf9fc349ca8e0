"""Reductions of narrow floats, under strict promotion and 64 bits, and over no lanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.testing import capture

NARROW = [jnp.bfloat16, jnp.float8_e4m3fn, jnp.float8_e5m2, jnp.float4_e2m1fn]


def values(records):
    return [float(record.value) for record in records]


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    ("reduce", "want"), [("max", 3.0), ("min", 2.0), ("last", 3.0), ("mean", 2.5), ("sum", 5.0)]
)
def test_masked_narrow_floats(dtype, reduce, want):
    """Floats of 4, 8 and 16 bits reduce like float32, with a mask and without."""

    @jb.instrument
    @jax.jit
    @jax.vmap
    def step(x):
        jb.scalar("masked", x, reduce=reduce, where=x.astype(jnp.float32) > 1)
        jb.scalar("plain", x, reduce=reduce)

    with capture() as records:
        step(jnp.array([1.0, 2.0, 3.0]).astype(dtype))
    got = {record.tag: float(record.value) for record in records}
    assert got["masked"] == want
    assert np.isfinite(got["plain"])


@pytest.mark.parametrize("dtype", NARROW)
def test_arrays_of_narrow_floats(dtype):
    """Histograms and watched arrays may hold floats of 4, 8 and 16 bits."""
    x = jnp.array([0.5, 1.0, 3.0]).astype(dtype)
    with capture() as records:
        jb.histogram("h", x)
        jb.watch("w", {"x": x}, what=("max", "nonfinite"))
    got = {record.tag: record.value for record in records}
    assert int(got["h"].counts.sum()) == 3
    assert (got["w/max"], got["w/nonfinite"]) == (3.0, 0.0)


def test_watch_with_64_bits():
    """Watching works under jax_enable_x64, also an array of several pieces that is not finite."""
    with jax.enable_x64(True), capture() as records:
        jb.watch("w", {"a": jnp.full(2**20, jnp.nan), "b": jnp.ones(3, jnp.float32)})
    got = {r.tag: float(r.value) for r in records if r.tag.startswith("w/nonfinite/")}
    assert got == {"w/nonfinite/a": 2.0**20, "w/nonfinite/b": 0.0}


@pytest.mark.parametrize("kind", ["histogram", "watch", "mean", "last", "std", "stack"])
@pytest.mark.parametrize("around", ["cond", "while"])
def test_strict_promotion(kind, around):
    """Reports in branches and loops under vmap work with strict promotion of dtypes."""

    def report(x):
        if kind == "histogram":
            jb.histogram("x", x)
        elif kind == "watch":
            jb.watch("x", {"x": x})
        else:
            jb.scalar("x", x.sum(), reduce=kind, weight=x.astype(jnp.int32).sum())

    def branch(x):
        return jax.lax.cond(x.sum() > 2.0, report, lambda x: None, x)

    def loop(x):
        body = lambda state: (report(x), (state[0] + jnp.int32(1), x))[1]  # noqa: E731
        return jax.lax.while_loop(
            lambda state: state[0] < x.sum().astype(jnp.int32), body, (jnp.int32(0), x)
        )

    with jax.numpy_dtype_promotion("strict"), capture() as records:
        jb.instrument(jax.jit(jax.vmap(branch if around == "cond" else loop)))(
            jnp.array([[1.0], [3.0]])
        )
    assert records


@pytest.mark.parametrize(
    "kind", ["histogram", "image", "mean", "last", "min", "stack", "std", "window"]
)
@pytest.mark.parametrize("runs", [None, "vmap"])
def test_no_lanes(kind, runs):
    """A vmap over no lanes makes no point."""

    def report(x):
        if kind == "histogram":
            jb.histogram("x", x)
        elif kind == "image":
            jb.image("x", jnp.full((2, 2, 1), x))
        elif kind == "window":
            jb.scalar("x", x, every=2)
        else:
            jb.scalar("x", x, reduce=kind)
        return x

    with capture() as records:
        step = jb.instrument(jax.jit(jax.vmap(report)), runs=runs)
        assert step(jnp.zeros(0)).shape == (0,)
        assert jax.vmap(report)(jnp.zeros(0)).shape == (0,)
        assert jax.jit(jax.vmap(jb.instrument(jax.jit(report))))(jnp.zeros(0)).shape == (0,)
        jax.effects_barrier()
    assert list(records) == []


@pytest.mark.parametrize("own", [True, False])
def test_steps_of_many_bits(own):
    """Steps of 32 bits without sign, and of 64 bits, are kept."""
    report = lambda n: jb.scalar("x", 1.0, step=n if own else None)  # noqa: E731
    with capture() as records:
        step = None if own else lambda n: n
        f = jb.instrument(jax.jit(lambda n: (report(n), n)[1]), step=step or "auto")
        f(jnp.uint32(2**31 + 7))
        with jax.enable_x64(True):
            f(jnp.int64(2**40))
    assert [record.step for record in records] == [2**31 + 7, 2**40]
