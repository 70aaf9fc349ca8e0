"""Counts and weights are exact beyond 32 bits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard._reduce import WideInt
from jaxboard._reduce.confusion import ConfusionMatrixReducer, ThresholdsReducer
from jaxboard._reduce.named_values import NamedValues
from jaxboard.records import Kind
from jaxboard.testing import capture

TOKENS = 4 * 2**20


def weighted(x):
    jb.scalar("loss", x, weight=jnp.int32(TOKENS))
    return x


def test_weights_over_batches_of_an_evaluation():
    """A thousand batches of four million tokens have the mean of their values."""
    evaluate = jb.instrument(jax.jit(weighted), advance=False)
    with capture() as records:
        for _ in range(1000):
            evaluate(jnp.float32(2.5))
    assert [float(record.value) for record in records] == [2.5]


def test_weights_over_a_scan():
    """A thousand iterations of a scan have the mean of their values."""
    scan = jb.instrument(
        jax.jit(lambda x: jax.lax.scan(lambda c, _: (weighted(c), None), x, None, length=1000)[0])
    )
    with capture() as records:
        scan(jnp.float32(2.5))
    assert [float(record.value) for record in records] == [2.5]


def test_weights_over_a_window():
    """A window of a thousand steps has the mean of their values."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("loss", x, weight=jnp.int32(TOKENS), every=1000)
        return x

    with capture() as records:
        for _ in range(1001):
            step(jnp.float32(2.5))
    assert [(record.step, float(record.value)) for record in records] == [(0, 2.5), (1000, 2.5)]


@pytest.mark.parametrize("calls", [1, 10])
def test_elements_of_a_histogram(calls):
    """Two billion elements, seen in 130 pieces by one or several evaluations, are all counted."""

    @functools.partial(jb.instrument, advance=False)
    @jax.jit
    def evaluate(x):
        def body(x, _):
            jb.histogram("h", x)
            return x, None

        return jax.lax.scan(body, x, length=130 // calls)[0]

    x = jnp.ones(2**24)
    with capture() as records:
        for _ in range(calls):
            evaluate(x)
    assert [int(record.value.counts.sum()) for record in records] == [130 * 2**24]


def test_steps_on_the_device_beyond_31_bits():
    """A step that a 64-bit program computes is not wrapped to 32 bits."""
    with jax.enable_x64(True):
        step = jb.instrument(jax.jit(lambda n: (jb.scalar("x", 1.0), n + 1)[1]), step=lambda n: n)
        n = jnp.int64(2**31 - 1)
        with capture() as records:
            for _ in range(3):
                n = step(n)
    assert [record.step for record in records] == [2**31 - 1, 2**31, 2**31 + 1]


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32, jnp.uint32])
def test_weights_of_any_integer_dtype(dtype, reduce):
    """Weights merge exactly, whatever their dtype, over lanes, trips of a while loop and calls."""
    weight = 2**31 + 5 if dtype == jnp.uint32 else jnp.iinfo(dtype).max

    @jax.jit
    def evaluate(x):
        def body(state):
            i, x = state
            jax.vmap(lambda x: jb.scalar("x", x, weight=jnp.array(weight, dtype), reduce=reduce))(x)
            return i + 1, x

        return jax.lax.while_loop(lambda state: state[0] < 3, body, (0, x))

    evaluate = jb.instrument(evaluate, advance=False)
    with capture() as records:
        for _ in range(2):
            evaluate(jnp.array([3, 5]))
    want = 4.0 if reduce == "mean" else 6 * 8 * int(weight)
    assert [record.value for record in records] == [want]


def test_weights_of_separate_lanes_and_stacks():
    """Seed runs and stacks weigh exactly too."""

    @jax.jit
    @jax.vmap
    def evaluate(x):
        jb.scalar("run", x, weight=jnp.int32(TOKENS), runs="vmap")
        jb.scalar("stack", x, weight=jnp.int32(TOKENS), reduce="stack")

    evaluate = jb.instrument(evaluate, advance=False)
    with capture() as records:
        for _ in range(600):
            evaluate(jnp.array([2.5, 3.5]))
    got = {(r.run, r.tag): float(r.value) for r in records}
    assert got == {
        ("seed_0", "run"): 2.5,
        ("seed_1", "run"): 3.5,
        ("mean", "run"): 3.0,
        ("min", "run"): 2.5,
        ("max", "run"): 3.5,
        ("", "stack/lane_00"): 2.5,
        ("", "stack/lane_01"): 3.5,
    }


def test_weights_that_a_float_does_not_hold():
    """The mean of a constant is that constant, for weights of more than 24 bits."""
    value = np.float32(0.1)
    evaluate = jb.instrument(jax.jit(lambda x, n: jb.scalar("x", x, weight=n)), advance=False)
    with capture() as records:
        for n in (2**24 + 1, 2**31 - 1, 2**30 + 7):
            evaluate(value, jnp.int32(n))
    assert [record.value for record in records] == [value]


def test_sums_of_large_integers():
    """A scan adds numbers that a float32 holds, but not their sum, exactly."""
    number = 2**22 + 1

    @jb.instrument
    @jax.jit
    def count(n):
        return jax.lax.scan(lambda n, _: (n, jb.scalar("n", n, reduce="sum")), n, None, 70_000)

    with capture() as records:
        count(jnp.int32(-number))
    assert [int(record.value) for record in records] == [-number * 70_000]


def merged_windows(reducer, counts):
    """Merge 1000 windows on the host: each is the sum, on the device, of seven observations and of one twice as large."""
    lanes = jnp.asarray(np.stack([counts] * 7))
    half = jnp.asarray(counts)

    @jax.jit
    def window():
        twice = reducer.merge(*[reducer.start(half, None, counts.ndim)] * 2)
        return reducer.merge(reducer.start(lanes, None, counts.ndim), twice)

    total = state = jax.tree.map(np.asarray, window())
    for _ in range(999):
        total = reducer.merge(total, state)
    return reducer.finish(total)


LARGE = np.arange(2**32 - 8, 2**32, dtype=np.uint32)
"""The largest counts of one observation: they fit in 32 bits, and two of them do not."""


def test_counts_of_curves():
    """Counts over thresholds are exact for any number of samples, and so are those of ignored samples."""
    rows = np.stack([LARGE, LARGE[::-1]])
    curves = merged_windows(ThresholdsReducer(Kind.PR_CURVE, 3, ("a", "b")), rows)
    assert isinstance(curves, NamedValues)
    for (name, curve), row in zip(curves.items, rows.astype(np.int64) * 9000, strict=True):
        above = np.cumsum(row[:6].reshape(2, 3)[:, ::-1], 1)[:, ::-1]
        np.testing.assert_array_equal([curve.false_positives, curve.true_positives], above)
        assert curve.true_positives.dtype == np.int64
        totals = (curve.negatives, curve.positives, curve.ignored, curve.clipped)
        assert totals == (above[0, 0], above[1, 0], row[6], row[7]), name
        np.testing.assert_array_equal(curve.false_negatives, above[1, 0] - above[1])
        np.testing.assert_array_equal(curve.precision, above[1] / above.sum(0))


def test_counts_of_a_matrix():
    """Counts of pairs of classes are exact for any number of samples, and so are those of ignored samples."""
    matrix = merged_windows(ConfusionMatrixReducer(("a", "b")), LARGE[:5])
    expected = LARGE[:5].astype(np.int64) * 9000
    np.testing.assert_array_equal(matrix.counts, expected[:4].reshape(2, 2))
    assert (matrix.counts.dtype, matrix.ignored) == (np.int64, expected[4])


@pytest.mark.parametrize("what", ["nonfinite", ("nonfinite", "histogram")])
def test_nonfinite_elements(what):
    """A watched leaf with more elements than a float32 counts, over the iterations of a scan."""
    size = 2**24 + 1

    @jb.instrument
    @jax.jit
    def step(x):
        watch = lambda x, _: (x, jb.watch("x", x, what=what))  # noqa: E731
        jb.watch("once", x, what=what)
        return jax.lax.scan(watch, x, None, length=3)[1]

    with capture() as records:
        step(jnp.full(size, jnp.nan, jnp.bfloat16))
    assert {r.tag: r.value for r in records if r.kind is Kind.SCALAR} == {
        "once/nonfinite": size,
        "x/nonfinite": 3 * size,
    }


@pytest.mark.parametrize("on_device", [True, False])
def test_words(on_device):
    """Sums and products in two words are those of int64."""
    xp = jnp if on_device else np
    rng = np.random.default_rng(0)
    a, b = rng.integers(-(2**31), 2**31, (2, 100_000), dtype=np.int64)
    wide = [WideInt.of(xp.asarray(x.astype(np.int32))) for x in (a, b)]
    np.testing.assert_array_equal(np.asarray(wide[0] + wide[1]), a + b)
    np.testing.assert_array_equal(np.asarray(wide[0] * wide[1]), a * b)
    product = (wide[0] * wide[1]) * wide[0]
    np.testing.assert_array_equal(np.asarray(product), a * b * a)
    assert np.asarray((wide[0] * wide[1]).sum()) == (a * b).sum()
    np.testing.assert_array_equal(np.asarray((wide[0] * wide[1]).is_positive()), a * b > 0)


MESH_WEIGHTS = np.array([2**30 + n for n in range(8)], np.int32)

PLACES = {
    "directly": (1, lambda report, x: report(x)),
    "scan": (3, lambda report, x: jax.lax.scan(lambda c, _: (c, report(x)), None, None, length=3)),
    "while": (
        3,
        lambda report, x: jax.lax.fori_loop(
            0, jnp.where(x > 0, 3, 2), lambda _, c: (report(x), c)[1], 0
        ),
    ),
}
"""Place of a report in a shard_map -> how often it reports on each device, and the place."""


@pytest.mark.parametrize("checked", [True, False])
def test_devices_of_a_shard_map(checked):
    """Weights and integer sums of eight devices are exact beyond 32 bits, in bodies and over windows too."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))

    def report(place, x):
        is_last = x == MESH_WEIGHTS[-1]
        jb.scalar(f"{place}/mean", is_last, weight=x, every=2 if place == "scan" else 1)
        jb.scalar(f"{place}/sum", x, reduce="sum")

    def on_one_device(x):
        for name, (_, place) in PLACES.items():
            place(functools.partial(report, name), x[0])
        return x

    @jb.instrument
    @jax.jit
    def step(xs):
        specs = {"in_specs": P("d"), "out_specs": P("d"), "check_vma": checked}
        return jax.shard_map(on_one_device, mesh=mesh, **specs)(xs)

    total = sum(MESH_WEIGHTS.tolist())
    with capture() as records:
        for _ in range(3):
            step(MESH_WEIGHTS)
    found = {(r.tag, r.step): float(r.value) for r in records}
    mean = pytest.approx(MESH_WEIGHTS[-1] / total, rel=1e-15)
    expected = {
        (f"{name}/sum", n): float(times * total)
        for name, (times, _) in PLACES.items()
        for n in range(3)
    }
    expected |= {(f"{name}/mean", n): mean for name in PLACES for n in range(3)}
    del expected["scan/mean", 1]  # the window of the steps 1 and 2
    assert found == expected
