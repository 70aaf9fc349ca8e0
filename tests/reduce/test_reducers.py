"""Reducers: observations merged in any order give NumPy's float64 result for all of them."""

# NumPy scalars stand for arrays of rank 0.
# pyright: reportArgumentType=false

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import jaxboard as jb
from jaxboard._reduce import REDUCTIONS, State
from jaxboard.testing import capture

# Squares of smaller numbers underflow a float32.
FLOATS = st.one_of(
    st.just(0.0), st.floats(2**-40, 2**20, width=32), st.floats(-(2**20), -(2**-40), width=32)
)
INTS = st.integers(-(2**31), 2**31 - 1)
WEIGHTS = st.one_of(st.just(0.0), st.floats(0.125, 8.0, width=32))
many = settings(max_examples=150, deadline=None)


def merged(reducer, states, data):
    """Merge all states in pairs, in an order and a nesting that hypothesis draws."""
    states = list(states)
    while len(states) > 1:
        first = states.pop(data.draw(st.integers(0, len(states) - 1)))
        second = states.pop(data.draw(st.integers(0, len(states) - 1)))
        states.append(reducer.merge(first, second))
    return states[0]


def expected(name, values, weights):
    """Return the definition of a reduction: NumPy's result in float64."""
    values, weights = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    kept = values[weights > 0]
    match name:
        case "mean":
            return np.average(values, weights=weights)
        case "std":
            mean = np.average(values, weights=weights)
            return np.sqrt(np.average((values - mean) ** 2, weights=weights))
        case "sum":
            return np.sum(values * weights)
        case "min" | "max":
            return getattr(np, name)(kept)
        case "count":
            return len(kept)
    raise AssertionError(name)


def assert_is(got, name, values, weights, *, roundings=2):
    """Compare a result with NumPy's of all values.

    Each of ``roundings`` changes a sum of the absolute values by at most 2**-24 of it. Two are those to float32, of
    products with weights and of the result.
    """
    want = expected(name, values, weights)
    largest = np.max(np.abs(np.asarray(values, np.float64)))
    if name in ("min", "max", "count"):
        assert got == want
    elif name == "std":
        assert got == pytest.approx(want, rel=1e-5, abs=1e-6 * largest)
    else:
        error = roundings * 2**-24
        scale = np.sum(np.abs(values) * np.asarray(weights)) if name == "sum" else largest
        assert got == pytest.approx(want, rel=error, abs=error * scale)


@pytest.mark.parametrize("name", ["mean", "sum", "min", "max", "count", "std"])
@many
@given(values=st.lists(FLOATS, min_size=1, max_size=12), data=st.data())
def test_merged_in_any_order(name, values, data):
    """Values merged in pairs in any order and nesting give NumPy's result for all values."""
    reducer = REDUCTIONS[name]
    states = [reducer.start(np.float32(v), None, 0) for v in values]
    total = merged(reducer, states, data)
    assert np.asarray(total.weight) == len(values)
    assert_is(reducer.finish(total), name, values, np.ones(len(values)))


@pytest.mark.parametrize("name", ["mean", "sum", "min", "max", "count", "std"])
@many
@given(
    pairs=st.lists(st.tuples(FLOATS, WEIGHTS), min_size=1, max_size=12).filter(
        lambda pairs: any(w for _, w in pairs)
    ),
    data=st.data(),
)
def test_weighted_in_any_order(name, pairs, data):
    """Values with weights, some of them 0, give NumPy's weighted result in any order."""
    reducer = REDUCTIONS[name]
    states = [reducer.start(np.float32(v), np.float32(w), 0) for v, w in pairs]
    total = merged(reducer, states, data)
    values, weights = zip(*pairs, strict=True)
    assert_is(reducer.finish(total), name, values, weights)


@pytest.mark.parametrize("name", ["mean", "sum", "min", "max", "count", "std"])
@many
@given(
    rows=st.lists(st.lists(FLOATS, min_size=1, max_size=5), min_size=1, max_size=4), data=st.data()
)
def test_lanes_and_axes(name, rows, data):
    """Masked lanes of a vmap and stacked states merge like pairs."""
    reducer = REDUCTIONS[name]
    masks = [data.draw(st.lists(st.booleans(), min_size=len(r), max_size=len(r))) for r in rows]
    if not any(map(any, masks)):
        masks[0][0] = True
    states = [
        reducer.start(np.array(row, np.float32), np.array(mask), 0)
        for row, mask in zip(rows, masks, strict=True)
    ]
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *states)
    total = reducer.collapse(stacked)
    weights = np.concatenate(masks).astype(float)
    assert np.asarray(total.weight) == weights.sum()
    # XLA adds the lanes in float32: one rounding for each addition, and that of the result.
    roundings = max(2, *map(len, rows))
    assert_is(reducer.finish(total), name, np.concatenate(rows), weights, roundings=roundings)


@many
@given(values=st.lists(INTS, min_size=1, max_size=12), data=st.data())
def test_sums_of_integers_are_exact(values, data):
    """A sum of int32 values that overflows int32 is exact in any order."""
    reducer = REDUCTIONS["sum"]
    states = [reducer.start(np.int32(v), None, 0) for v in values]
    got = reducer.finish(merged(reducer, states, data))
    assert got.dtype == np.int64
    assert got == sum(values)


@many
@given(values=st.lists(FLOATS, min_size=2, max_size=12), data=st.data())
def test_sums_do_not_depend_on_the_order(values, data):
    """Two orders of merging give sums that are equal or adjacent float32 numbers."""
    reducer = REDUCTIONS["sum"]
    states = [reducer.start(np.float32(v), None, 0) for v in values]
    one, other = (reducer.finish(merged(reducer, states, data)) for _ in range(2))
    np.testing.assert_array_max_ulp(one, other, 1)


@pytest.mark.parametrize("name", ["mean", "sum", "std"])
@pytest.mark.parametrize(
    "values", [[1.0, np.inf], [np.inf, -np.inf, 2.0], [np.nan, 1.0], [-np.inf, -np.inf]]
)
def test_non_finite_values_are_not_hidden(name, values):
    """Infinities and NaN give NumPy's result."""
    reducer = REDUCTIONS[name]
    with np.errstate(invalid="ignore"):
        want = getattr(np, name)(np.float32(values))
        states = [reducer.start(np.float32(v), None, 0) for v in values]
        total = states[0]
        for state in states[1:]:
            total = reducer.merge(total, state)
        np.testing.assert_array_equal(reducer.finish(total), want)


def test_empty_is_neutral():
    """Merging the empty state changes nothing."""
    for name, reducer in REDUCTIONS.items():
        state = reducer.start(jnp.array([3.0, 5.0]), jnp.array([True, True]), 0)
        empty = reducer.empty(state)
        assert np.asarray(empty.weight) == 0
        for total in (reducer.merge(empty, state), reducer.merge(state, empty)):
            got = jax.tree.map(np.asarray, reducer.merge(total, empty))
            want = jax.tree.map(np.asarray, state)
            assert reducer.finish(got) == reducer.finish(want), name
            assert np.asarray(got.weight) == np.asarray(want.weight)


@pytest.mark.parametrize("name", ["mean", "sum"])
def test_long_loops_do_not_drift(name):
    """A hundred thousand merges on the device are accurate to the last digit of a float32."""
    reducer, count = REDUCTIONS[name], 100_000

    def body(_, state):
        return reducer.merge(state, reducer.start(jnp.float32(0.1), jnp.int32(1), 0))

    start = reducer.start(jnp.float32(0.1), jnp.int32(1), 0)
    total = jax.jit(lambda: lax.fori_loop(1, count, body, start))()
    got = reducer.finish(jax.tree.map(np.asarray, State(*total)))
    one = float(np.float32(0.1))
    assert got == np.float32(one if name == "mean" else one * count)


def test_weights_in_nested_vmaps():
    """weight= and where= may be mapped at different levels of nested vmaps."""
    values = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    weights = np.array([1.0, 2.0, 5.0], np.float32)
    rows = np.array([True, False])

    @jb.instrument
    @jax.jit
    def f(values, weights, rows):
        def cell(value, weight, row):
            for name in ("mean", "sum", "count", "max", "std"):
                jb.scalar(name, value, weight=weight, where=row, reduce=name)
            jb.scalar("weight alone", value, weight=weight)
            jb.scalar("integer weight", value, weight=weight.astype(int), reduce="sum")
            return value

        inner = jax.vmap(cell, in_axes=(0, 0, None))
        return jax.vmap(inner, in_axes=(0, None, 0))(values, weights, rows)

    with capture() as records:
        f(values, weights, rows)
    got = {record.tag: float(record.value) for record in records}
    everywhere = np.broadcast_to(weights, (2, 3))
    kept = everywhere * rows[:, None]
    for name in ("mean", "sum", "count", "max", "std"):
        assert got.pop(name) == pytest.approx(expected(name, values, kept), rel=1e-6)
    assert got == {
        "weight alone": pytest.approx(expected("mean", values, everywhere), rel=1e-6),
        "integer weight": np.sum(values * everywhere),
    }


def test_weights_over_iterations():
    """A weighted mean in a scan covers all iterations, without those of weight 0."""

    @jb.instrument
    @jax.jit
    def f(values, weights):
        def body(carry, xs):
            jb.scalar("loss", xs[0], weight=xs[1])
            return carry, None

        return lax.scan(body, 0.0, (values, weights))[0]

    with capture() as records:
        f(jnp.array([1.0, jnp.nan, 4.0]), jnp.array([1.0, 0.0, 2.0]))
        f(jnp.array([1.0, 2.0]), jnp.array([0.0, 0.0]))
    assert [(record.step, float(record.value)) for record in records] == [(0, 3.0)]


@pytest.mark.parametrize("reduce", ["mean", "sum", "std"])
@pytest.mark.parametrize("left_out", [np.nan, -1.0, 0.0])
def test_nan_and_negative_weights(reduce, left_out):
    """A value with a NaN or negative weight is left out, like one with weight 0."""

    @jb.instrument
    @jax.jit
    def f(values, weights):
        jax.vmap(lambda x, w: jb.scalar("x", x, weight=w, reduce=reduce))(values, weights)

    with capture() as records:
        f(jnp.array([1.0, 5.0, 3.0]), jnp.array([1.0, left_out, 1.0]))
    wanted = {"mean": 2.0, "sum": 4.0, "std": 1.0}[reduce]
    assert [float(record.value) for record in records] == [wanted]


def test_weights_over_devices():
    """In shard_map a weighted mean and a sum of integers cover all devices."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    values = np.arange(8, dtype=np.float32)
    weights = np.array([0, 1, 2, 0, 4, 0, 1, 8], np.float32)
    counts = np.full(8, 2**30, np.int32)

    def block(value, weight, count):
        jb.scalar("mean", value[0], weight=weight[0])
        jb.scalar("sum", count[0], reduce="sum")
        return value

    spec = jax.sharding.PartitionSpec("d")
    mapped = jax.shard_map(block, mesh=mesh, in_specs=spec, out_specs=spec)
    with capture() as records:
        jb.instrument(jax.jit(mapped))(values, weights, counts)
    assert {record.tag: float(record.value) for record in records} == {
        "mean": pytest.approx(expected("mean", values, weights), rel=1e-6),
        "sum": 2.0**33,
    }


@pytest.mark.parametrize("convert", [float, jnp.float32], ids=["python", "jax"])
def test_weights_in_plain_python(convert):
    """The mean of one weighted value is the value, its sum is the product, and weight 0 leaves it out."""
    with capture() as records:
        jb.scalar("mean", convert(3), weight=2)
        jb.scalar("sum", convert(3), weight=convert(2), reduce="sum")
        jb.scalar("none", convert(3), weight=0)
        jb.scalar("none", convert(3), weight=2, where=False)
        jb.scalar("none", convert(3), weight=float("nan"))
    assert {record.tag: float(record.value) for record in records} == {"mean": 3.0, "sum": 6.0}
