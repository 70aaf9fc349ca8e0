"""Windows: with every=N, the values of N steps are accumulated on the device and make one point."""

# pyright: reportAttributeAccessIssue=false, reportFunctionMemberAccess=false

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard.testing import capture

REDUCTIONS = ("mean", "sum", "min", "max", "count", "std")


def report_each_reduction(x):
    for reduction in REDUCTIONS:
        jb.scalar(reduction, x, every=4, reduce=reduction)
    jb.scalar("last", x, every=4, reduce="last")
    jb.scalar("each", x)
    return x * 2


def reference(values, every, first=0):
    """Return the NumPy reductions of the windows that end at multiples of ``every``."""
    windows = {}
    for step, value in enumerate(values, first):
        windows.setdefault(-(-step // every) * every, []).append(np.float64(value))
    last = first + len(values) - 1
    reductions = {"count": len, "sum": np.sum, "mean": np.mean, "min": np.min, "max": np.max}
    reductions["std"] = np.std
    return {
        (name, min(ends, last)): pytest.approx(float(reduce(window)), rel=1e-6, abs=1e-6)
        for ends, window in windows.items()
        for name, reduce in reductions.items()
    }


def windows(records):
    assert len({(r.tag, r.step) for r in records}) == len(records)
    return {(r.tag, r.step): float(r.value) for r in records if r.tag in REDUCTIONS}


VALUES = [3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0, 6.0, 5.0, 3.0, 5.0]


@pytest.mark.parametrize("first", [0, 3, 4])
def test_windows_on_the_device(first):
    """Each reduction of a window is NumPy's; an unfinished window is a point at the last step."""
    step = jb.instrument(jax.jit(report_each_reduction))
    with capture(step=first) as records:
        results = [float(step(x)) for x in VALUES]
    assert results == [2 * x for x in VALUES]
    assert windows(records) == reference(VALUES, 4, first)
    last = [(r.step, float(r.value)) for r in records if r.tag == "last"]
    assert last == [(s, VALUES[s - first]) for s in range(first, first + 11) if s % 4 == 0]
    assert [float(r.value) for r in records if r.tag == "each"] == VALUES


@pytest.mark.parametrize("kind", ["plain", "device step", "under jit", "nnx.jit"])
def test_windows_of_every_delivery(kind):
    """Windows are the same whether they are merged on the device or on the host."""
    if kind == "plain":
        step = jb.instrument(report_each_reduction)
    elif kind == "device step":
        counted = jb.instrument(jax.jit(lambda x, n: report_each_reduction(x)), step=lambda x, n: n)
        step = lambda x: counted(x, jnp.int32(next(count)))  # noqa: E731
        count = iter(range(len(VALUES)))
    elif kind == "under jit":
        step = jax.jit(jb.instrument(jax.jit(report_each_reduction)))
    else:
        step = jb.instrument(nnx.jit(report_each_reduction))
    with capture() as records:
        for x in VALUES:
            step(jnp.float32(x))
    assert windows(records) == reference(VALUES, 4)


@given(
    every=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    values=st.lists(st.integers(-100, 100), min_size=1, max_size=20),
    first=st.integers(0, 7),
)
@settings(deadline=None, max_examples=15)
def test_several_cadences(every, values, first):
    """Windows of several lengths are independent of each other."""

    @jb.instrument
    @jax.jit
    def step(x):
        for number, n in enumerate(every):
            jb.scalar(f"{number}", x, every=n, reduce="sum")

    expected = {}
    for number, n in enumerate(every):
        for at, value in enumerate(values, first):
            ends = min(-(-at // n) * n, first + len(values) - 1)
            key = (str(number), ends)
            expected[key] = expected.get(key, 0) + value
    with capture(step=first) as records:
        for value in values:
            step(jnp.float32(value))
    assert {(r.tag, r.step): int(r.value) for r in records} == expected
    assert len(records) == len(expected)


def test_one_frame_per_window():
    """A frame holds the window on the step on which it is due, and nothing on others."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=100)))
    with capture():
        step(1.0)
        for not_due, leaves in ((frozenset({100}), 0), (frozenset(), 1)):
            windows = step._usual._windows
            _, plan, vectors, kept = windows.program(not_due, 1)(windows.empty, 1.0)
            assert len(kept) == 1
            assert (plan is None) == (leaves == 0)
            assert len(vectors) == leaves
            assert plan is None or len(plan.entries) == leaves


def test_two_programs_per_window():
    """A window compiles the step twice, due and not due, however long it is, from one trace."""
    traces = []

    @jb.instrument
    @jax.jit
    def step(x):
        traces.append(1)
        jb.scalar("x", x, every=5)
        return x

    with compilations("step") as seen, capture():
        for _ in range(20):
            step(jnp.float32(1))
    assert (len(seen), len(traces)) == (2, 1)


def test_an_exception_in_the_loop_loses_nothing():
    """The values accumulated before an exception in the loop make a point."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=10, reduce="sum")))
    collected = []

    def train():
        with capture() as records:
            collected.append(records)
            for x in (1.0, 2.0, 3.0, 4.0):
                step(x)
            raise KeyError

    with pytest.raises(KeyError):
        train()
    (records,) = collected
    assert [(r.step, float(r.value)) for r in records] == [(0, 1.0), (3, 9.0)]


def test_an_exception_in_the_step_loses_nothing():
    """A call that fails leaves the window unchanged, and later calls continue it."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("x", x.sum(), every=4, reduce="sum")
        return x + jnp.zeros(3)

    with capture() as records:
        step(jnp.ones(3))
        step(jnp.ones(3))
        with pytest.raises((TypeError, ValueError)):
            step(jnp.ones(2))  # takes step 2
        step(jnp.ones(3))
        step(jnp.ones(3))
    assert [(r.step, float(r.value)) for r in records] == [(0, 3.0), (4, 9.0)]


def test_reports_that_depend_on_the_arguments():
    """Programs for other shapes or static arguments report other windows, and each window is complete."""

    @jb.instrument
    @functools.partial(jax.jit, static_argnames="kind")
    def step(x, *, kind):
        jb.scalar("all", x.sum(), every=6, reduce="sum")
        jb.scalar(kind, x.sum(), every=6, reduce="sum")

    with capture() as records:
        for i in range(13):
            step(np.ones(1 + i % 2, np.float32), kind="ab"[i % 2])
    points = {(r.tag, r.step): float(r.value) for r in records}
    assert points == {
        ("all", 0): 1.0,
        ("a", 0): 1.0,
        ("all", 6): 9.0,
        ("a", 6): 3.0,
        ("b", 6): 6.0,
        ("all", 12): 9.0,
        ("a", 12): 3.0,
        ("b", 12): 6.0,
    }
    assert len(records) == len(points)


@pytest.mark.parametrize("kind", ["arguments", "jit"])
def test_on_a_mesh(kind):
    """Over eight devices windows are exact, results keep their shardings, and nothing compiles again."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("d"))

    def f(x):
        jb.scalar("sum", x.sum(), every=3, reduce="sum")
        return x * 2

    options: Any = {"in_shardings": rows, "out_shardings": rows} if kind == "jit" else {}
    step = jb.instrument(jax.jit(f, **options))
    x = np.arange(16, dtype=np.float32)
    with compilations("f") as seen, capture() as records:
        for _ in range(7):
            results = step(x if kind == "jit" else jax.device_put(x, rows))
            assert results.sharding.is_equivalent_to(rows, 1)
    assert [(r.step, float(r.value)) for r in records] == [(0, 120.0), (3, 360.0), (6, 360.0)]
    assert len(seen) == 2


def test_arguments_on_another_device():
    """Calls on one device and then on another work, and no value is lost."""
    one, other = jax.devices()[:2]
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=6, reduce="sum")))
    with capture() as records:
        for i in range(7):
            step(jax.device_put(jnp.float32(i), one if i < 4 else other))
    assert [(r.step, float(r.value)) for r in records] == [(0, 0.0), (6, 21.0)]


@pytest.mark.parametrize("axis_type", ["Auto", "Explicit"])
def test_arguments_on_another_mesh(axis_type, recwarn):
    """Calls on one mesh and then on another work, and no value is lost."""
    types = (getattr(jax.sharding.AxisType, axis_type),)
    meshes = [jax.make_mesh((n,), (f"d{n}",), types, devices=jax.devices()[:n]) for n in (4, 2)]

    @jb.instrument(name=f"{axis_type} mesh")
    @jax.jit
    def step(x):
        jb.scalar("x", jnp.max(x), every=6, reduce="sum")

    with capture() as records:
        for i in range(7):
            mesh = meshes[i >= 4]
            rows = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
            step(jax.device_put(jnp.full(4, float(i)), rows))
    assert [(r.step, float(r.value)) for r in records] == [(0, 0.0), (6, 21.0)]
    assert not recwarn.list  # the function still has its programs


def test_each_run_has_its_own_windows():
    """A run's windows end with the run, and a second run starts with empty ones."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=10, reduce="sum")))
    for base in (1.0, 100.0):
        with capture() as records:
            for _ in range(3):
                step(base)
        assert [(r.step, float(r.value)) for r in records] == [(0, base), (2, 2 * base)]


def test_steps_that_jump():
    """A window skipped by a jump of the step is a point of the steps before the jump only."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=10, reduce="sum")))
    with capture() as records:
        run = jb.current_run()
        assert run is not None
        for _ in range(5):
            step(1.0)
        run.step = 20
        step(100.0)
    assert [(r.step, float(r.value)) for r in records] == [(0, 1.0), (10, 4.0), (20, 100.0)]


def test_evaluation_between_windows():
    """An evaluation that is never called on a step that is due still makes a point for each window."""
    train = jb.instrument(jax.jit(lambda x: x))
    evaluate = jb.instrument(jax.jit(lambda x: jb.scalar("e", x, every=10)), advance=False)
    with capture() as records:
        for step in range(30):
            train(1.0)
            if step in (5, 15, 25):
                evaluate(float(step))
    assert [(r.step, float(r.value)) for r in records] == [(10, 5.0), (20, 15.0), (25, 25.0)]


def test_one_report_in_two_dtypes():
    """Integers and floats of one tag make one window, though they are summed separately."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=4)))
    with capture() as records:
        for i in range(5):
            step(i if i % 2 else float(i))
    assert [(r.step, float(r.value)) for r in records] == [(0, 0.0), (4, 2.5)]


def test_evaluation_windows():
    """Calls that take no step merge into the window of the step they belong to."""
    train = jb.instrument(jax.jit(lambda x: x))
    evaluate = jb.instrument(
        jax.jit(lambda x: jb.scalar("e", x, every=2, reduce="sum")), advance=False
    )
    with capture() as records:
        for step in range(3):
            train(1.0)
            for value in (1.0, 10.0):
                evaluate(value * (step + 1))
    assert [(r.step, float(r.value)) for r in records] == [(0, 11.0), (2, 55.0)]


def test_donation_and_static_arguments_with_windows():
    """The accumulators do not shift the user's donated and static arguments."""

    @jb.instrument
    @functools.partial(jax.jit, static_argnums=1, donate_argnames=("x",))
    def step(x, power, *, scale):
        assert isinstance(power, int)
        jb.scalar("x", x, every=2, reduce="sum")
        return x**power * scale

    with capture() as records:
        for power in (1, 2, 1):
            x = jnp.float32(3)
            assert float(step(x, power, scale=2.0)) == 3.0**power * 2
            assert x.is_deleted()
    assert [(r.step, float(r.value)) for r in records] == [(0, 3.0), (2, 6.0)]


def test_two_programs_for_any_cadences():
    """Whatever the cadences, there is one program for steps on which something is due, and one for the others."""

    @jb.instrument
    @jax.jit
    def many_cadences(x):
        for n in (2, 3, 5):
            jb.scalar(f"sampled {n}", x, every=n, reduce="last")
            jb.scalar(f"window {n}", x, every=n, reduce="sum")
        return x + 1

    with compilations("many_cadences") as seen, capture(step=1) as records:
        x = jnp.float32(1)
        many_cadences(x)
        assert len(seen) == 1  # nothing is due
        for n in range(2, 31):
            many_cadences(jnp.float32(n))
    assert len(seen) == 2
    for n in (2, 3, 5):
        due = range(n, 31, n)
        points = [(r.step, float(r.value)) for r in records if r.tag == f"sampled {n}"]
        assert points == [(step, step) for step in due]
        points = [(r.step, float(r.value)) for r in records if r.tag == f"window {n}"]
        assert points == [(step, sum(range(step - n + 1, step + 1))) for step in due]


SPECIAL = [1.5e-38, -0.0, 3.4028235e38, -1.1754944e-38, 0.1, -7.25]


def test_many_windows_of_one_kind():
    """Windows of one kind are merged together, and each has exactly its own values, down to the bits."""
    count = 70
    expected = np.array([SPECIAL[i % 6] * (-1) ** i for i in range(count)], np.float32)

    @jb.instrument
    @jax.jit
    def step(values):
        for i, value in enumerate(values):
            jb.scalar(f"{i}/min", value, every=5, reduce="min")
            jb.scalar(f"{i}/sum", value * 0 + i, every=5, reduce="sum")

    with capture() as records:
        for _ in range(7):
            step(list(expected))
    found = {(r.tag, r.step): r.value for r in records}
    assert len(found) == len(records) == 3 * 2 * count
    for i, value in enumerate(expected):
        assert found[f"{i}/min", 5].tobytes() == value.tobytes()
        assert [float(found[f"{i}/sum", s]) for s in (0, 5, 6)] == [i, 5 * i, i]


def test_windows_of_several_programs():
    """A program that leaves out some of the windows of another one does not change them."""

    @jb.instrument
    @functools.partial(jax.jit, static_argnums=1)
    def step(x, tags):
        for tag in tags:
            jb.scalar(tag, x, every=4, reduce="min")

    with capture() as records:
        for x, tags in enumerate(("abc", "abc", "ac", "b", "c")):
            step(jnp.float32(-x), tags)
    assert {(r.tag, r.step): float(r.value) for r in records} == {
        ("a", 0): 0.0,
        ("b", 0): 0.0,
        ("c", 0): 0.0,
        ("a", 4): -2.0,
        ("b", 4): -3.0,
        ("c", 4): -4.0,
    }


def test_windows_of_64_bits():
    """Under jax_enable_x64, windows of all sizes of numbers are exact beside each other."""
    with jax.enable_x64(True), capture() as records:
        step = jb.instrument(
            jax.jit(
                lambda x, n: [jb.scalar(f"{a.dtype}", a, every=3, reduce="sum") for a in (x, n)]
            )
        )
        single = jb.instrument(jax.jit(lambda y: jb.scalar("single", y, every=3)), advance=False)
        for i in range(4):
            step(0.1 * (i + 1), 2**40 + i)
            single(jnp.float32(i))
    found = {(r.tag, r.step): float(r.value) for r in records}
    assert found["float64", 3] == pytest.approx(0.2 + 0.3 + 0.4, abs=1e-15)
    assert found["int64", 3] == 3 * 2**40 + 6
    assert found["single", 3] == 2.0


@pytest.mark.parametrize("gate", ["compile", "cond"])
@pytest.mark.parametrize("order", [[0] * 8 + [1] * 8, [0, 1] * 8], ids=["replaced", "alternating"])
def test_functions_that_report_the_same_tag(order, gate):
    """The values of two functions in one window make one point, also if one of them is not called again."""
    steps = [
        jb.instrument(jax.jit(lambda x: jb.scalar("x", x, every=5, reduce="sum")), gate=gate)
        for _ in range(2)
    ]
    with capture() as records:
        for x, which in enumerate(order):
            steps[which](jnp.float32(x))
    points = [(r.step, float(r.value)) for r in records]
    assert points == [(0, 0.0), (5, 15.0), (10, 40.0), (15, 65.0)]


@pytest.mark.parametrize(
    ("options", "iterations"), [({"delivery": "callback"}, 1), ({"stream": 3}, 4)]
)
def test_functions_of_different_deliveries(options, iterations):
    """Values that leave by callback are in one point with those that a window on the device holds."""

    def add(x):
        jb.scalar("x", x, every=5, reduce="sum")
        return x + 1

    step = jb.instrument(jax.jit(add))
    loop = jax.jit(lambda x: jax.lax.fori_loop(0, iterations, lambda _, x: add(x), x))
    by_callback = jb.instrument(loop, **options)
    with capture() as records:
        x = jnp.float32(0)
        for function in [step] * 2 + [by_callback] * (4 // iterations) + [step] * 2:
            x = function(x)
    assert [(r.step, float(r.value)) for r in records] == [(0, 0.0), (5, 15.0), (7, 13.0)]


@pytest.mark.parametrize("gate", ["compile", "cond"])
def test_a_window_with_and_without_64_bits(gate):
    """A window goes on when jax_enable_x64 changes between its calls."""

    def two_cadences(x):
        jb.scalar("x", x, every=4, reduce="sum")
        jb.scalar("small", jnp.float32(x), every=2)

    step = jb.instrument(jax.jit(two_cadences), gate=gate)
    with capture() as records:
        for i in range(9):
            with jax.enable_x64(i % 3 == 0):
                step(np.float64(i))
    found = {(r.tag, r.step): float(r.value) for r in records}
    assert {step: x for (tag, step), x in found.items() if tag == "x"} == {0: 0, 4: 10, 8: 26}
    assert {step: x for (tag, step), x in found.items() if tag == "small"} == {
        0: 0.0,
        2: 1.5,
        4: 3.5,
        6: 5.5,
        8: 7.5,
    }


def test_one_vector_for_all_windows():
    """Windows of any number of reports and dtypes are one argument and one result of the program."""
    step = jb.instrument(jax.jit(report_each_reduction))
    with capture(step=1):
        step(1.0)
        windows = step._usual._windows
        *_, kept = windows.program(frozenset({4}), 1)(windows.empty, 1.0)
    for carried in (windows.empty, kept):
        assert [(x.dtype, x.ndim) for x in carried] == [(jnp.int32, 1)]
