"""Histograms with ``bins=`` count as ``numpy.histogram`` does, in plain Python and under JAX's transformations."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard._reduce.bins import EqualBinsReducer, FixedBinsReducer
from jaxboard.testing import capture

many = settings(max_examples=100, deadline=None)

ODD = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.1, np.inf, -np.inf, np.nan])
FLOATS = st.one_of(st.floats(-2, 2, width=16, allow_subnormal=False), ODD)
ELEMENTS = {
    np.float32: FLOATS,
    np.float16: FLOATS,
    np.int32: st.integers(-3, 3),
    np.uint8: st.integers(0, 3),
}


def arrays(dtype):
    return st.lists(ELEMENTS[dtype], max_size=12).map(lambda xs: np.array(xs, dtype))


PARTS = st.sampled_from(list(ELEMENTS)).flatmap(
    lambda dtype: st.lists(arrays(dtype), min_size=1, max_size=4)
)
# Edges that float32 cannot hold, that are equal, and that no element reaches.
NUMBERS = st.one_of(FLOATS.filter(np.isfinite), st.floats(-2, 2), st.sampled_from([-1e300, 1e300]))
EDGES = st.lists(NUMBERS, min_size=2, max_size=6).map(sorted)


def assert_numpy(histogram, values, edges):
    """Assert that the counts are those of NumPy, and that elements that are in no bucket are counted too."""
    values = np.asarray(values).reshape(-1)
    finite = values[np.isfinite(values)]
    np.testing.assert_array_equal(histogram.edges, edges)
    # NumPy compares float16 with its edges as float16.
    wide = finite.astype(np.float64) if finite.dtype.kind == "f" else finite
    np.testing.assert_array_equal(histogram.counts, np.histogram(wide, edges)[0])
    assert histogram.counts.sum() + histogram.outside == len(finite)
    assert histogram.nan == np.isnan(values).sum()
    assert (histogram.posinf, histogram.neginf) == (
        (values == np.inf).sum(),
        (values == -np.inf).sum(),
    )
    assert histogram.zeros == (values == 0).sum()


def parts_merged(reducer, parts):
    states = [reducer.start(part, None, part.ndim) for part in parts]
    merged = states[0]
    for state in states[1:]:
        merged = reducer.merge(merged, state)
    return reducer.finish(merged)


@many
@given(parts=PARTS, edges=EDGES)
def test_edges(parts, edges):
    """Parts of any dtype merge into exactly NumPy's counts for the same edges."""
    got = parts_merged(FixedBinsReducer(tuple(edges)), parts)
    assert_numpy(got, np.concatenate(parts), edges)


@many
@given(parts=PARTS, number=st.integers(1, 9))
def test_a_number_of_buckets(parts, number):
    """One array has NumPy's edges, up to rounding, and exactly NumPy's counts for these."""
    values = np.concatenate(parts)
    got = parts_merged(EqualBinsReducer(number), [values])
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        assert got.counts.size == 0
        return
    edges = np.histogram_bin_edges(finite, number)
    np.testing.assert_allclose(got.edges, edges, rtol=0, atol=1e-6 * abs(edges).max())
    assert_numpy(got, values, got.edges)


@many
@given(parts=PARTS, number=st.integers(1, 9))
def test_arrays_with_different_ranges(parts, number):
    """The buckets reach over all arrays and hold all elements; an edge is off by at most a 64th of the range."""
    got = parts_merged(EqualBinsReducer(number), parts)
    values = np.concatenate(parts)
    finite = np.sort(values[np.isfinite(values)].astype(np.float64))
    assert got.counts.sum() == len(finite)
    if len(finite):
        low, high = got.edges[0], got.edges[-1]
        edges = np.histogram_bin_edges(finite, number)
        np.testing.assert_allclose(got.edges, edges, rtol=0, atol=1e-6 * abs(edges).max())
        below, slack = got.counts.cumsum()[:-1], (high - low) / 64 + 1e-6
        assert (below >= np.searchsorted(finite, got.edges[1:-1] - slack)).all()
        assert (below <= np.searchsorted(finite, got.edges[1:-1] + slack)).all()


RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(8, 6, 5)).astype(np.float32)
X[0, 0] = [np.nan, np.inf, -np.inf, 0, 1]
EDGE_LIST = [-1, 0, 0.3, 1]
BINS = [{"bins": EDGE_LIST}, {"bins": 4, "range": (-1, 1)}, {"bins": 5}]
IDS = ["edges", "range", "number"]
MESH = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))


def jitted(x, **bins):
    jb.histogram("h", x, **bins)
    return x


def vmapped(x, **bins):
    return jax.vmap(jax.vmap(lambda row: jitted(row, **bins)))(x)


def grad(x, **bins):
    return jax.grad(lambda x: jnp.sum(jitted(x, **bins) ** 2))(x)


def scanned(x, **bins):
    return lax.scan(lambda c, row: (c, jitted(row, **bins)), 0, x)[1]


def shard_mapped(x, check=True, **bins):
    spec = PartitionSpec("d")
    mapped = jax.shard_map(
        lambda block: jitted(block, **bins),
        mesh=MESH,
        in_specs=spec,
        out_specs=spec,
        check_vma=check,
    )
    return mapped(x)


def unchecked(x, **bins):
    return shard_mapped(x, check=False, **bins)


def reported(program, x, **bins):
    with capture() as records:
        jb.instrument(jax.jit(lambda x: program(x, **bins)))(x)
    (record,) = records
    return record.value


@pytest.mark.parametrize("bins", BINS, ids=IDS)
@pytest.mark.parametrize("program", [jitted, vmapped, grad])
def test_one_array(program, bins):
    """An array, its lanes and a differentiated report have NumPy's counts."""
    got = reported(program, X, **bins)
    edges = np.histogram_bin_edges(X[np.isfinite(X)], bins["bins"], bins.get("range"))
    np.testing.assert_allclose(got.edges, edges, rtol=1e-6)
    assert_numpy(got, X, got.edges)


@pytest.mark.parametrize("bins", BINS[:2], ids=IDS[:2])
@pytest.mark.parametrize("program", [scanned, shard_mapped, unchecked])
def test_several_arrays(program, bins):
    """The iterations of a scan and the blocks of eight devices merge into exactly NumPy's counts."""
    assert_numpy(reported(program, X, **bins), X, reported(jitted, X, **bins).edges)


def test_a_number_of_buckets_of_several_arrays():
    """Blocks of eight devices and iterations that share a range have exactly NumPy's counts."""
    x = np.concatenate([X[1:], X[1:2]])
    x[:, 0, 0], x[:, 0, 1] = -4, 4
    for program in (scanned, shard_mapped):
        got = reported(program, x, bins=5)
        np.testing.assert_allclose(got.edges, np.linspace(-4, 4, 6), rtol=1e-6)
        assert_numpy(got, x, got.edges)
    assert reported(scanned, X, bins=5).counts.sum() == np.isfinite(X).sum()


@pytest.mark.parametrize("bins", BINS, ids=IDS)
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=["auto", "explicit"])
def test_sharded_over_eight_devices(kind, bins):
    """An array sharded over eight devices is counted as on one device."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(kind,))
    x = jax.device_put(X, NamedSharding(mesh, PartitionSpec("d")))
    got = reported(jitted, x, **bins)
    assert_numpy(got, X, reported(jitted, X, **bins).edges)


def test_large_arrays():
    """An array that a CPU counts in pieces has exact counts, without the lanes that where= leaves out."""
    x = np.random.default_rng(1).normal(size=(2, 300_001)).astype(np.float32)

    def program(x):
        for name, bins in zip(IDS, BINS, strict=True):
            jb.histogram(f"{name}/all", x, **bins)
            report = functools.partial(jb.histogram, f"{name}/chosen", **bins)
            jax.vmap(lambda x, kept, report=report: report(x, where=kept))(x, jnp.arange(2) == 1)

    with capture() as records:
        jb.instrument(jax.jit(program))(x)
    assert len(records) == 6
    for record in records:
        values = x if record.tag.endswith("all") else x[1]
        assert_numpy(record.value, values, record.value.edges)


def test_every_and_runs():
    """A histogram with every= is a sample; with runs= each lane has its own."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.histogram("sampled", x, bins=EDGE_LIST, every=2)
        jax.vmap(lambda row: jb.histogram("lanes", row, bins=EDGE_LIST, runs="vmap"))(x)
        jax.vmap(lambda row: jb.histogram("number", row, bins=3, runs="vmap"))(x)

    with capture() as records:
        for factor in (1, 2, 3):
            step(X * factor)
    sampled = [(r.step, r.value) for r in records if r.tag == "sampled"]
    assert [number for number, _ in sampled] == [0, 2]
    for number, histogram in sampled:
        assert_numpy(histogram, X * (number + 1), EDGE_LIST)
    for lane in range(8):
        for tag in ("lanes", "number"):
            (got,) = (
                r.value for r in records if (r.run, r.step, r.tag) == (f"seed_{lane}", 1, tag)
            )
            assert_numpy(got, X[lane] * 2, got.edges)


def test_plain_python_and_pytrees():
    """Plain Python counts arrays of NumPy and of a device, and each leaf of a pytree."""
    tree = {"a": X, "b": jnp.arange(10), "c": [0.5, 2.0]}
    with capture() as records:
        jb.histogram("h", tree, bins=jnp.array([0, 1, 5]), step=0)
    for record, values in zip(records, tree.values(), strict=True):
        assert_numpy(record.value, values, [0, 1, 5])
