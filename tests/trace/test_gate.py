"""``gate="cond"``: one program that skips reports that are not due, with the same points as separate programs."""

# pyright: reportFunctionMemberAccess=false, reportAttributeAccessIssue=false

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec
from jax.tree_util import tree_leaves

import jaxboard as jb
from jaxboard._trace.deliveries.delivery import put_on_device
from jaxboard._trace.windows import NO_WINDOWS
from jaxboard.records import Kind
from jaxboard.testing import capture


def step(w, x):
    def loss(w):
        y = jnp.tanh(x @ w)
        jb.histogram("activations", y, every=3)
        jb.image("image", jnp.abs(y[:, :, None]), every=2)
        jb.scalar("window", y.mean(), every=4)
        jb.scalar("last", y.sum().astype(jnp.bfloat16), every=3, reduce="last")
        return (y**2).mean()

    value, gradient = jax.value_and_grad(loss)(w)

    def body(c, row):
        jb.histogram("rows", row, every=2)
        return c + row.sum(), None

    total, _ = lax.scan(body, value, gradient)
    jb.histogram("never", gradient, every=1000)
    jb.histogram("masked", gradient, every=2, where=jnp.isnan(total))
    return w - gradient, total


W = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)
X = np.linspace(0, 2, 20, dtype=np.float32).reshape(5, 4)


def run_steps(function, first):
    """Return the results and the points of nine calls from step ``first`` on."""
    with capture(step=first) as records:
        w, results = jnp.array(W), []
        for _ in range(9):
            w, total = function(w, X)
            results.append((np.asarray(w), float(total)))
    points = {}
    for record in records:
        assert (record.tag, record.step) not in points
        value = record.value if record.kind is not Kind.HISTOGRAM else record.value.counts
        points[record.tag, record.step] = np.asarray(value, np.float64)
    return results, points


def assert_same(actual, expected):
    (results, points), (expected_results, expected_points) = actual, expected
    for x, y in zip(tree_leaves(results), tree_leaves(expected_results), strict=True):
        np.testing.assert_array_equal(x, y)
    assert set(points) == set(expected_points)
    for key, value in points.items():
        np.testing.assert_array_equal(value, expected_points[key], err_msg=str(key))


@pytest.mark.parametrize("first", [0, 1])
def test_same_points(first):
    """One or two programs with branches make the same points as a program with all reports."""
    gated = run_steps(jb.instrument(jax.jit(step), gate="cond"), first)
    assert_same(gated, run_steps(jb.instrument(jax.jit(step), delivery="callback"), first))
    assert_same(gated, run_steps(jb.instrument(jax.jit(step)), first))
    assert {tag for tag, _ in gated[1]} == {
        *("activations", "image", "window", "last", "rows"),
        *(["never"] if first == 0 else []),
    }


def test_one_program():
    """The function is traced once, whichever reports are due."""
    traces = []

    def counted(w, x):
        traces.append(1)
        return step(w, x)

    gated = jb.instrument(jax.jit(counted), gate="cond")
    gated.precompile(W, X)
    run_steps(gated, 0)
    assert len(traces) == 1


def test_work_is_in_a_branch():
    """The work of a sampled report is in a branch, and nowhere else in the program."""

    def f(x):
        jb.histogram("h", x, every=10)
        return x * 2

    gated = jb.instrument(jax.jit(f), gate="cond")
    gated.precompile(X)
    jaxpr = gated._programs.gated(NO_WINDOWS, 1).trace((put_on_device(0), ()), X).jaxpr
    assert "scatter" in str(jaxpr)
    assert not [eqn for eqn in jaxpr.eqns if "scatter" in eqn.primitive.name]
    assert [eqn.primitive.name for eqn in jaxpr.eqns].count("cond") == 1


def watched(state, x):
    size = jnp.abs(x).sum()
    jb.scalar("size", size)
    jb.watch("x", {"a": x, "b": x + size, "c": jnp.sin(x)}, every=10)
    return state + 1


@pytest.mark.parametrize(
    "options", [{"gate": "cond"}, {"step": lambda state, x: state}], ids=["gate", "step"]
)
def test_what_only_a_sampled_report_reads_is_in_its_branch(options):
    """A branch contains what is computed for a sampled report before it is reported, and nothing that others read."""
    gated = jb.instrument(jax.jit(watched), **options)
    gated.precompile(jnp.int32(0), X)
    if "step" in options:
        jaxpr = gated._programs.device_step().trace(jnp.int32(0), X).jaxpr
    else:
        jaxpr = (
            gated._programs.gated(NO_WINDOWS, 2)
            .trace((put_on_device(0), ()), jnp.int32(0), X)
            .jaxpr
        )
    outside = [str(eqn) for eqn in jaxpr.eqns if eqn.primitive.name != "cond"]
    (branch,) = [str(eqn) for eqn in jaxpr.eqns if eqn.primitive.name == "cond"]
    for name in ("scatter", " sin ", "custom_vmap"):
        assert name in branch
        assert not any(name in eqn for eqn in outside)
    assert " abs " not in branch.partition("custom_vmap")[0]
    assert any(" abs " in eqn for eqn in outside)


@pytest.mark.parametrize("gate", ["compile", "cond"])
def test_the_order_of_reports_of_one_tag(gate):
    """The last report of a step counts, whether its tag is also reported by a function that it calls."""

    @jax.jit
    def inner(x):
        jb.scalar("x", x, every=2, reduce="last")
        jb.scalar("y", x, every=2, reduce="last")

    def f(x):
        jb.scalar("x", x, every=2, reduce="last")
        inner(x + 1)
        jb.scalar("y", x, every=2, reduce="last")
        jb.scalar("z", x, every=3, reduce="last")

    function = jb.instrument(jax.jit(f), gate=gate)
    with capture() as records:
        for n in range(3):
            function(jnp.float32(n))
    points = {(r.tag, r.step): float(r.value) for r in records}
    assert points == {("x", 0): 1, ("y", 0): 0, ("z", 0): 0, ("x", 2): 3, ("y", 2): 2}


def test_step_on_the_device():
    """A program that computes its own step skips reports that are not due."""

    def f(state, x):
        jb.histogram("h", x, every=3)
        return state + 1

    by_device = jb.instrument(jax.jit(f), step=lambda state, x: state)
    with capture() as records:
        state = jnp.int32(5)
        for _ in range(6):
            state = by_device(state, X)
    assert [r.step for r in records] == [6, 9]
    jaxpr = by_device._programs.device_step().trace(state, X).jaxpr
    assert [eqn.primitive.name for eqn in jaxpr.eqns].count("cond") == 1


def test_on_a_mesh():
    """The points of a sharded value are those of the whole value."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = NamedSharding(mesh, PartitionSpec("d"))

    @functools.partial(jb.instrument, gate="cond")
    @jax.jit
    def f(x):
        jb.histogram("h", x, every=2)
        jb.scalar("w", x.sum(), every=2, reduce="sum")
        return x + 1

    x = jax.device_put(jnp.arange(16.0), rows)
    with capture() as records:
        for _ in range(3):
            x = f(x)
    assert x.sharding.is_equivalent_to(rows, 1)
    histograms = [(r.step, int(r.value.counts.sum())) for r in records if r.tag == "h"]
    assert histograms == [(0, 16), (2, 16)]
    assert [(r.step, float(r.value)) for r in records if r.tag == "w"] == [(0, 120.0), (2, 288.0)]


def test_shard_map():
    """A sampled report in a ``shard_map`` makes points only at steps where it is due."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def shard(x):
        jb.histogram("h", x, every=2)
        return x + 1

    @functools.partial(jb.instrument, gate="cond")
    @jax.jit
    def f(x):
        jb.scalar("sum", x.sum())
        spec = PartitionSpec("d")
        return jax.shard_map(shard, mesh=mesh, in_specs=spec, out_specs=spec)(x)

    x = jnp.arange(16.0)
    with capture() as records:
        for _ in range(3):
            x = f(x)
    histograms = [(r.step, int(r.value.counts.sum())) for r in records if r.tag == "h"]
    assert histograms == [(0, 16), (2, 16)]


@jax.custom_vjp
def observe_gradient(x):
    """Return ``x``, and report its gradient."""
    return x


def observe_backward(_, gradient):
    jb.histogram("gradient", gradient, every=3)
    return (gradient,)


observe_gradient.defvjp(lambda x: (x, None), observe_backward)


def remat_step(w, x):
    """Take a step with a report in its recomputation, that is, in a differentiated remat equation."""

    @jax.checkpoint
    def loss(w):
        y = observe_gradient(jnp.tanh(x @ w))
        jb.histogram("activations", y, every=2)
        return (y**2).mean()

    value, gradient = jax.value_and_grad(loss)(w)
    jb.scalar("loss", value, reduce="last")
    return w - gradient, value


def test_remat_under_grad():
    """A sampled report in a differentiated remat is harvested: the program has no callback."""
    gated = jb.instrument(jax.jit(remat_step), gate="cond")
    points = run_steps(gated, 0)
    assert_same(points, run_steps(jb.instrument(jax.jit(remat_step)), 0))
    assert {key for key in points[1] if key[0] == "gradient"} == {
        ("gradient", n) for n in (0, 3, 6)
    }
    lowered = gated._programs.gated(NO_WINDOWS, 2).lower((put_on_device(0), ()), W, X)
    assert "callback" not in lowered.as_text()


def test_remat_in_a_streamed_loop():
    """A sampled report in a differentiated remat is gated by the step of each streamed iteration."""

    def train(w, xs):
        return lax.scan(remat_step, w, xs)

    xs = np.stack([X * n for n in range(7)])
    with capture() as records:
        w, _ = jb.instrument(jax.jit(train), stream=3)(W, xs)
    np.testing.assert_array_equal(w, jax.jit(train)(W, xs)[0])
    steps = {tag: [r.step for r in records if r.tag == tag] for tag in ("gradient", "activations")}
    assert steps == {"gradient": [0, 3, 6], "activations": [0, 2, 4, 6]}


def test_invalid_gate():
    """A gate other than "compile" and "cond" raises an error that names both."""
    with pytest.raises(jb.UsageError) as error:
        jb.instrument(gate="if")  # pyright: ignore[reportArgumentType]
    assert str(error.value) == "instrument(gate='if'): expected 'compile' or 'cond'."
