"""Histograms count exactly and merge exactly in any order, on the device and on the host."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard._reduce.histogram import HistogramReducer
from jaxboard.testing import capture

REDUCER = HistogramReducer()
many = settings(max_examples=50, deadline=None)

DTYPES = [
    np.float16,
    ml_dtypes.bfloat16,
    np.float32,
    np.float64,
    np.int8,
    np.uint8,
    np.int32,
    np.uint32,
    np.int64,
    np.bool_,
]


def arrays(dtype):
    """Return a strategy for small arrays: arbitrary and nearly equal values, zeros, infinities and NaN."""
    if dtype == np.bool_:
        elements = st.booleans()
    elif np.dtype(dtype).kind in "iu":
        # The expected counts are NumPy's, which computes in float64.
        least, most = (
            int(np.clip(x, -(2**52), 2**52)) for x in (np.iinfo(dtype).min, np.iinfo(dtype).max)
        )
        near = st.integers(0, 3).map(lambda n: most - n)
        elements = st.one_of(st.integers(least, most), st.integers(0, 9), near)
    else:
        odd = st.sampled_from([0.0, -0.0, np.inf, -np.inf, np.nan])
        near = st.integers(0, 100).map(lambda n: 1 + n * 1e-6)
        # Some devices flush subnormal numbers to zero.
        tiny = st.floats(-1e4, 1e4, width=16, allow_subnormal=False)
        wide = st.floats(-1e30, 1e30, allow_subnormal=False).filter(
            lambda x: x == 0 or abs(x) > 1e-30
        )
        elements = st.one_of(tiny, near, odd, odd if dtype == np.float16 else wide)
    lists = st.lists(elements, max_size=12)
    return lists.map(lambda xs: np.array(xs, np.bool_ if dtype == np.bool_ else None).astype(dtype))


def started(values):
    return REDUCER.start(values, None, values.ndim)


def merged(states, data):
    """Merge all states, in pairs or stacked, in an order that hypothesis draws."""
    states = list(states)
    while len(states) > 1:
        first = states.pop(data.draw(st.integers(0, len(states) - 1)))
        second = states.pop(data.draw(st.integers(0, len(states) - 1)))
        if data.draw(st.booleans()):
            values = [REDUCER.widen(state).value for state in (first, second)]
            stacked = jax.tree.map(lambda *xs: np.stack(xs), *values)
            states.append(REDUCER.collapse(type(first)(stacked)))
        else:
            states.append(REDUCER.merge(first, second))
    return states[0]


def assert_same(a, b):
    """Assert that edges and counts are equal, and that sums are equal up to rounding."""
    np.testing.assert_array_equal(a.edges, b.edges)
    np.testing.assert_array_equal(a.counts, b.counts)
    for name in ("nan", "posinf", "neginf", "zeros"):
        assert getattr(a, name) == getattr(b, name), name
    assert a.sum == pytest.approx(b.sum, rel=1e-5, abs=1e-5 * max(1.0, b.sum_squares) ** 0.5)
    assert a.sum_squares == pytest.approx(b.sum_squares, rel=1e-5)


def assert_counts(histogram, values):
    """Assert that the counts equal NumPy's for the same edges."""
    values = np.asarray(values).reshape(-1).astype(np.float64)
    finite = values[np.isfinite(values)]
    assert histogram.counts.sum() == len(finite)
    assert histogram.nan == np.isnan(values).sum()
    assert histogram.posinf == (values == np.inf).sum()
    assert histogram.neginf == (values == -np.inf).sum()
    assert histogram.zeros == (values == 0).sum()
    if len(finite):
        assert (histogram.edges[0], histogram.edges[-1]) == (finite.min(), finite.max())
        if finite.min() < finite.max():
            want, _ = np.histogram(finite, histogram.edges)
            np.testing.assert_array_equal(histogram.counts, want)
        if np.abs(finite).max() < 1e18:  # larger squares overflow a float32
            assert histogram.sum_squares == pytest.approx(np.sum(finite**2), rel=1e-4)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name)
@many
@given(data=st.data())
def test_merged_in_any_order(dtype, data):
    """Parts merged in any order and nesting are exactly the histogram of all elements."""
    parts = data.draw(st.lists(arrays(dtype), min_size=1, max_size=5))
    got = REDUCER.finish(merged([started(part) for part in parts], data))
    assert_same(got, REDUCER.finish(started(np.concatenate(parts))))
    assert_counts(got, np.concatenate(parts))


on_device = jax.jit(started)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if np.dtype(d).itemsize < 8])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_the_device_counts_like_the_host(dtype, data):
    """XLA and NumPy make the same histogram for every dtype."""
    values = data.draw(arrays(dtype))
    values = np.resize(values, 12) if len(values) else values  # two shapes compile two programs
    got = REDUCER.finish(jax.tree.map(np.asarray, on_device(values)))
    assert_same(got, REDUCER.finish(started(values)))


RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(
    "values",
    [
        RANDOM.normal(size=5000),
        1 + 1e-3 * RANDOM.normal(size=5000),
        -7 - RANDOM.random(5000),
        RANDOM.standard_cauchy(5000),
        np.exp(5 * RANDOM.normal(size=5000)),
    ],
    ids=["normal", "near one", "negative", "heavy tails", "many magnitudes"],
)
def test_resolution(values):
    """From 64 to 128 buckets of equal width reach from the smallest to the largest element."""
    histogram = REDUCER.finish(started(values.astype(np.float32)))
    assert 64 <= len(histogram.counts) <= 128
    widths = np.diff(histogram.edges)[1:-1]
    assert np.unique(widths).size == 1
    assert np.frexp(widths[0])[0] == 0.5
    assert_counts(histogram, values.astype(np.float32))


ODD = np.array([np.nan, 0, np.inf, -np.inf], np.float32)


@pytest.mark.parametrize(
    "size", [2**14 + 1, 2**16, 100_002, 2**18, 2**18 + 1, 524_309, 3 * 2**18, 1_000_000]
)
@pytest.mark.parametrize("odd", [0, 1, 4], ids=["finite", "NaN", "all kinds"])
def test_large_arrays(size, odd):
    """Arrays of any size that are counted in pairs or pieces have exact counts."""
    values = np.random.default_rng(1).normal(size=size).astype(np.float32)
    for first, number in enumerate(ODD[:odd]):
        values[first::1000] = number
    got = REDUCER.finish(jax.tree.map(np.asarray, jax.jit(started)(values)))
    assert_counts(got, values)


def test_large_arrays_in_part():
    """Elements of lanes that are left out are not counted, also in arrays that are counted in pairs."""
    values = np.random.default_rng(5).normal(size=(5, 60_001)).astype(np.float32)
    values[:, ::1000], values[:, 1::1000] = np.nan, 0
    kept = np.array([True, False, True, True, False])
    state = jax.jit(lambda values, kept: REDUCER.start(values, kept, 1))(values, kept)
    assert np.asarray(state.weight) == 3
    assert_counts(REDUCER.finish(jax.tree.map(np.asarray, state)), values[kept])


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
@pytest.mark.parametrize("spec", [("a", "b"), (None, "b"), (("a", "b"),)], ids=str)
def test_sharded_over_eight_devices(kind, spec):
    """An array sharded over eight devices has the same histogram as on one device."""
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind, kind))
    values = np.random.default_rng(2).normal(size=(64, 48)).astype(np.float32)
    sharded = jax.device_put(values, NamedSharding(mesh, PartitionSpec(*spec)))
    with capture() as records:
        jb.instrument(jax.jit(lambda x: (jb.histogram("h", x), x * 2)[1]))(sharded)
    (record,) = records
    assert_same(record.value, REDUCER.finish(started(values)))


def test_sharded_arrays_are_not_gathered():
    """Each device counts its own elements; devices exchange one number or count each, never elements."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    spec = NamedSharding(mesh, PartitionSpec("d", None))
    array = jax.ShapeDtypeStruct((64, 1000), np.float32, sharding=spec)
    program = jax.jit(started).lower(array).compile().as_text() or ""
    assert "all-reduce" in program
    gathered = [line for line in program.splitlines() if " all-gather(" in line]
    assert all("[8,1]" in line.partition("all-gather(")[0] for line in gathered)


def test_a_kilobyte_leaves_the_device():
    """The histogram of an array of any size is smaller than a kilobyte."""
    shapes = jax.eval_shape(started, jax.ShapeDtypeStruct((1000, 1000, 100), np.float32))
    assert sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes.value)) < 1000


def reported(function, *args):
    with capture() as records:
        jb.instrument(jax.jit(function))(*args)
    (record,) = records
    return record.value


X = np.random.default_rng(3).normal(size=(6, 5, 7)).astype(np.float32) * np.array(
    [1, 10, 0, 1e-3, np.nan, 1e6], np.float32
).reshape(6, 1, 1)


def test_scan():
    """The iterations of a scan make the histogram of all their elements."""

    def f(xs):
        return lax.scan(lambda c, x: (jb.histogram("h", x), (c, None))[1], 0.0, xs)[0]

    assert_same(reported(f, X), REDUCER.finish(started(X)))


def test_vmap():
    """Nested lanes make one histogram, without the lanes that where= leaves out."""

    def f(xs, keep):
        def lane(x, kept):
            jb.histogram("h", x, where=kept)
            return x

        return jax.vmap(jax.vmap(lane, in_axes=(0, None)))(xs, keep)

    keep = np.array([True, True, False, True, False, True])
    assert_same(reported(f, X, keep), REDUCER.finish(started(X[keep])))


def test_while_and_cond():
    """The trips of a while loop merge, and a branch that is not taken adds nothing."""

    def f(xs):
        def body(i):
            lax.cond(i % 2 == 0, lambda: jb.histogram("h", xs[i]), lambda: None)
            return i + 1

        return lax.while_loop(lambda i: i < 6, body, 0)

    assert_same(reported(f, X), REDUCER.finish(started(X[::2])))


def test_no_observation_makes_no_point():
    """A step without an observation makes no histogram."""
    with capture() as records:
        f = jax.jit(lambda x: lax.cond(x[0] > 9, lambda: jb.histogram("h", x), lambda: None))
        jb.instrument(f)(np.zeros(3, np.float32))
    assert records == []


def test_64_bits():
    """If 64 bits are enabled, float64 and int64 arrays are counted in 64 bits on the device."""
    program = """
        import jax, numpy as np
        from jaxboard._reduce.histogram import HistogramReducer
        from test_histograms import assert_same, started
        assert jax.config.jax_enable_x64
        reducer = HistogramReducer()
        normal = np.random.default_rng(0).normal(size=3000)
        for values in (
            1 + 1e-7 * normal,
            1e200 * normal,
            np.array([2**62, 2**62 + 10**12, -5]),
            np.array([2**63 + 1, 7], np.uint64),
        ):
            got = reducer.finish(jax.tree.map(np.asarray, jax.jit(started)(values)))
            assert_same(got, reducer.finish(started(values)))
            assert len(got.counts) >= 64
    """
    folder = os.path.dirname(__file__)
    path = os.pathsep.join([folder, *sys.path])
    environment = {**os.environ, "JAX_ENABLE_X64": "1", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, env=environment)


@pytest.mark.parametrize("check", [True, False], ids=["checked", "unchecked"])
def test_shard_map(check):
    """In shard_map the blocks of all devices make one histogram."""
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto, AxisType.Auto))
    values = np.random.default_rng(4).normal(size=(64, 48)).astype(np.float32)

    def block(x):
        jb.histogram("h", x)
        return x * 2

    spec = PartitionSpec("a", "b")
    mapped = jax.shard_map(block, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=check)
    assert_same(reported(mapped, values), REDUCER.finish(started(values)))


@pytest.mark.parametrize("size", [300_000, 2**19])
def test_shard_map_of_large_blocks(size):
    """Blocks that a CPU counts in pieces have exact counts."""
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))
    values = np.random.default_rng(4).normal(size=(2, size)).astype(np.float32)

    def block(x):
        jb.histogram("h", x)
        return x

    spec = PartitionSpec("a")
    mapped = jax.shard_map(block, mesh=mesh, in_specs=spec, out_specs=spec)
    assert_counts(reported(mapped, values), values)
