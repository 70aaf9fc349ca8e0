"""``runs="vmap"``: each lane is a seed run; the mean, minimum and maximum of the lanes are runs too."""

from __future__ import annotations

import functools
import itertools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard.sinks import Kind, MemorySink
from jaxboard.testing import capture

XS = np.array([3.0, 1.0, 2.0, 6.0], np.float32)
ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)

report = functools.partial(jb.scalar, "x", runs="vmap")


def reported(x, **options):
    report(x, **options)
    return x


def points(records):
    """Return the steps and values of scalars by run and tag."""
    found = {}
    for record in records:
        found.setdefault((record.run, record.tag), []).append((record.step, float(record.value)))
    return found


def expected(tag, steps):
    """Return the points of a tag from the lanes' values at each step; None is a lane without a value."""
    found = {}
    for step, lanes in steps:
        values = [np.float32(value) for value in lanes if value is not None]
        for lane, value in enumerate(lanes):
            if value is not None:
                found.setdefault((f"seed_{lane}", tag), []).append((step, float(value)))
        for run, function in (
            {"mean": np.mean, "min": np.min, "max": np.max}.items() if values else ()
        ):
            found.setdefault((run, tag), []).append((step, float(function(values))))
    return found


# ------------------------------------------------------------------------------- transformations


def vmap(xs):
    return jax.vmap(reported)(xs)


def vmap_of_grad(xs):
    return jax.vmap(jax.grad(lambda x: reported(x) ** 2))(xs)


def grad_of_vmap(xs):
    return jax.grad(lambda xs: jax.vmap(lambda x: reported(x) ** 2)(xs).sum())(xs)


def remat(xs):
    return jax.grad(lambda xs: jax.vmap(jax.checkpoint(lambda x: jnp.sin(reported(x))))(xs).sum())(
        xs
    )


def vmap_over_last_axis(xs):
    return jax.vmap(lambda x: reported(x.sum()), in_axes=1)(jnp.stack([xs, xs]))


def inner_axis_merges(xs):
    seed = jax.vmap(lambda x: reported(x, reduce="sum"))
    return jax.vmap(seed)(jnp.stack([xs, 2 * xs, 3 * xs], axis=1))


def scan_in_vmap(xs):
    return jax.vmap(
        lambda x: lax.scan(lambda c, _: (c + 1, reported(c, reduce="max")), x, length=3)
    )(xs)


def vmap_in_scan(xs):
    def iteration(xs, _):
        return xs + 1, jax.vmap(lambda x: reported(x, reduce="last"))(xs)

    return lax.scan(iteration, xs, length=3)


def std_of_a_scan(xs):
    return jax.vmap(
        lambda x: lax.scan(lambda c, k: (c, reported(x * k, reduce="std")), 0.0, jnp.arange(3.0))
    )(xs)


def while_in_vmap(xs):
    """Lanes that have finished do not count; the last iteration of each starts below six."""
    return jax.vmap(
        lambda x: lax.while_loop(lambda x: x < 6, lambda x: reported(x, reduce="max") + 1, x)
    )(xs)


def vmap_in_while(xs):
    return lax.while_loop(
        lambda xs: xs[0] < 5, jax.vmap(lambda x: reported(x, reduce="sum") + 1), xs
    )


def cond_in_vmap(xs):
    return jax.vmap(lambda x: lax.cond(x > 1, reported, jnp.negative, x))(xs)


def vmap_in_cond(xs):
    return lax.cond(xs[0] > 1, jax.vmap(reported), jnp.negative, xs)


def vmap_in_cond_not_taken(xs):
    return lax.cond(xs[0] < 1, jax.vmap(reported), jnp.negative, xs)


def where(xs):
    return jax.vmap(lambda x: reported(x, where=x > 1))(xs)


def weight(xs):
    def seed(x):
        return jax.vmap(lambda y: reported(y, weight=y))(jnp.stack([x - 1, x]))

    return jax.vmap(seed)(xs)


def nowhere(xs):
    return jax.vmap(lambda x: reported(x, where=x > 10))(xs)


def twice(xs):
    return jax.vmap(lambda x: reported(reported(x) + 2))(xs)


def masked_and_not(xs):
    return jax.vmap(lambda x: reported(reported(x, where=x > 1, reduce="sum") + 2, reduce="sum"))(
        xs
    )


def integers(xs):
    return jax.vmap(lambda x: reported(x.astype(jnp.int32), reduce="sum"))(xs)


def sharded(xs):
    mesh = jax.make_mesh((4,), ("seeds",), axis_types=(AxisType.Auto,))
    return jax.vmap(reported)(lax.with_sharding_constraint(xs, NamedSharding(mesh, P("seeds"))))


LANES = P("d")


def on_devices(function, in_specs: Any = LANES, out_specs: Any = LANES):
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs)


def lanes_on_devices(xs):
    return on_devices(jax.vmap(reported))(xs)


def lanes_alike_on_devices(xs):
    def device(xs, part):
        return jax.vmap(reported)(lax.pmean(xs * part[0], "d"))

    return on_devices(device, (P(), P("d")), P())(xs, jnp.array([0.5, 1.5]))


def masked_lanes_on_devices(xs):
    return on_devices(lambda xs: lax.cond(xs[0] > 2, jax.vmap(reported), jnp.negative, xs))(xs)


def pmap(xs):
    return jax.pmap(jax.vmap(reported))(xs.reshape(2, 2))


PROGRAMS = {
    vmap: [3, 1, 2, 6],
    vmap_of_grad: [3, 1, 2, 6],
    grad_of_vmap: [3, 1, 2, 6],
    remat: [3, 1, 2, 6],
    vmap_over_last_axis: [6, 2, 4, 12],
    inner_axis_merges: [18, 6, 12, 36],
    scan_in_vmap: [5, 3, 4, 8],
    vmap_in_scan: [5, 3, 4, 8],
    std_of_a_scan: [x * np.float32(np.sqrt(2 / 3)) for x in XS],
    while_in_vmap: [5, 5, 5, None],
    vmap_in_while: [7, 3, 5, 13],
    cond_in_vmap: [3, None, 2, 6],
    vmap_in_cond: [3, 1, 2, 6],
    vmap_in_cond_not_taken: [None] * 4,
    where: [3, None, 2, 6],
    weight: [13 / 5, 1, 5 / 3, 61 / 11],
    nowhere: [None] * 4,
    twice: [4, 2, 3, 7],
    masked_and_not: [8, 3, 6, 14],
    integers: [3, 1, 2, 6],
    sharded: [3, 1, 2, 6],
    lanes_on_devices: [3, 1, 2, 6],
    lanes_alike_on_devices: [3, 1, 2, 6],
    masked_lanes_on_devices: [3, 1, None, None],
    pmap: [3, 1, 2, 6],
}


def close(found, wanted):
    assert found.keys() == wanted.keys()
    for key, points in wanted.items():
        np.testing.assert_allclose(found[key], points, rtol=2e-7)


WAYS = {
    "output": lambda program: jb.instrument(jax.jit(program)),
    "callback": lambda program: jax.jit(jb.instrument(jax.jit(program))),
    "gate": lambda program: jb.instrument(jax.jit(program), gate="cond"),
}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_transformations(program, way):
    """Each lane has the points that it would have alone, and results are those without reports."""
    function = WAYS[way](program)
    bare = jax.jit(program)(XS)
    jax.effects_barrier()  # its callbacks would report to the run below
    with capture() as records:
        results = [function(XS) for _ in range(2)]
    close(points(records), expected("x", [(step, PROGRAMS[program]) for step in range(2)]))
    for result in results:
        jax.tree.map(np.testing.assert_array_equal, result, bare)


UNINSTRUMENTED = (
    vmap,
    grad_of_vmap,
    inner_axis_merges,
    where,
    sharded,
    lanes_on_devices,
    lanes_alike_on_devices,
    masked_lanes_on_devices,
    pmap,
)


@pytest.mark.parametrize("program", UNINSTRUMENTED, ids=lambda program: program.__name__)
@pytest.mark.parametrize("way", ["jit", "eager"])
def test_without_instrument(program, way):
    """Without instrument, by callback and eagerly, lanes are separate too, on any device."""
    with capture() as records:
        (jax.jit(program) if way == "jit" else program)(XS)
        jax.effects_barrier()
    close(points(records), expected("x", [(0, PROGRAMS[program])]))


# --------------------------------------------------------------------------- instrument(runs="vmap")


def test_instrument_applies_to_all_reports():
    """A value that depends on no mapped axis stays in the run; a vmap inside a lane merges."""

    def seed(x):
        jb.scalar("loss", x)
        jb.scalar("shared", 7.0)
        jax.vmap(lambda y: jb.scalar("inner", x + y, reduce="sum"))(jnp.arange(3.0))
        return x * 2

    step = jb.instrument(jax.jit(jax.vmap(seed)), runs="vmap")
    with capture() as records:
        step(XS)
    wanted = expected("loss", [(0, XS)]) | expected("inner", [(0, 3 * XS + 3)])
    close(points(records), wanted | {("", "shared"): [(0, 7.0)]})


@pytest.mark.parametrize("plain", [True, False])
def test_instrument_under_vmap(plain):
    """The lanes of a vmap around an instrumented function are seed runs; those of a vmap inside merge."""

    def seed(x):
        jb.scalar("loss", x, reduce="sum")
        jax.vmap(lambda y: jb.scalar("inner", x + y, reduce="sum", where=y > 0))(jnp.arange(3.0))
        jax.vmap(lambda y: jb.scalar("own", y, reduce="sum"))(jnp.arange(3.0))
        return x * 2

    seed = seed if plain else jax.jit(seed)
    step = jb.instrument(seed, delivery="callback", runs="vmap", advance=False)
    with capture() as records:
        jax.vmap(step)(XS)
        jax.effects_barrier()
    found = points(records)
    wanted = expected("loss", [(0, XS)]) | expected("inner", [(0, 2 * XS + 3)])
    assert {key: found[key] for key in wanted} == wanted
    # JAX maps no value that depends on no lane; a packed frame is mapped as a whole.
    inner = [0, 1, 2] if plain else [3, 3, 3, 3]
    assert {k: v for k, v in found.items() if k[1] == "own"} == expected("own", [(0, inner)])


def test_an_instrumented_function_in_another():
    """An instrumented function called by another inherits its runs=."""
    inner = jb.instrument(jax.jit(lambda x: jb.scalar("x", x)), advance=False)
    outer = jb.instrument(jax.jit(jax.vmap(lambda x: (inner(x), x)[1])), runs="vmap")
    with capture() as records:
        outer(XS)
    close(points(records), expected("x", [(0, XS)]))


def test_without_vmap():
    """A report outside of vmap goes to the run itself, in plain Python and in traced code."""

    @functools.partial(jb.instrument, runs="vmap")
    @jax.jit
    def step(x):
        jb.scalar("traced", x)
        return lax.scan(lambda c, x: (c, reported(x)), 0.0, jnp.stack([x, x + 2]))

    with capture() as records:
        step(1.0)
        report(4.0, step=3)
        report(jnp.float32(5.0), step=4)
    assert points(records) == {
        ("", "traced"): [(0, 1.0)],
        ("", "x"): [(0, 2.0), (3, 4.0), (4, 5.0)],
    }


# ------------------------------------------------------------------------------------ steps


@pytest.mark.parametrize("gate", ["compile", "cond"])
def test_windows(gate):
    """Each lane's window holds its values of all steps, except those excluded by where=."""

    @functools.partial(jb.instrument, gate=gate, runs="vmap")
    @jax.jit
    @jax.vmap
    def step(x):
        jb.scalar("mean", x, every=3)
        jb.scalar("sum", x, every=3, reduce="sum", where=x > 4)
        jb.scalar("last", x, every=3, reduce="last")
        return x + 1

    xs = XS
    with capture() as records:
        for _ in range(6):
            xs = step(xs)
    wanted = expected("mean", [(0, XS), (3, XS + 2), (5, XS + 4.5)])
    wanted |= expected("last", [(0, XS), (3, XS + 3)])
    kept = lambda steps: [sum(x + s for s in steps if x + s > 4) or None for x in XS]  # noqa: E731
    wanted |= expected("sum", [(s, kept(w)) for s, w in [(0, [0]), (3, [1, 2, 3]), (5, [4, 5])]])
    close(points(records), wanted)


def test_windows_of_a_step_computed_on_the_device():
    """The host merges the values of the steps lane by lane."""

    @functools.partial(jb.instrument, step=lambda state: state[0], runs="vmap")
    @jax.jit
    def step(state):
        number, xs = state
        jax.vmap(
            lambda x: (jb.scalar("x", x, every=3), jb.scalar("std", x, every=3, reduce="std"))
        )(xs)
        return number + 1, xs + 1

    state = jnp.int32(1), jnp.asarray(XS)
    with capture() as records:
        for _ in range(3):
            state = step(state)
    wanted = expected("x", [(3, XS + 1)]) | expected("std", [(3, [np.sqrt(2 / 3)] * 4)])
    close(points(records), wanted)


def test_steps_of_a_loop():
    """With step=, each iteration of a mapped loop is a point of each lane."""

    def train(x):
        def update(carry, number):
            jb.scalar("x", carry * number, step=10 * number, where=carry * number > 1)
            return carry + 1, None

        return lax.scan(update, x, jnp.arange(3))

    step = jb.instrument(jax.jit(jax.vmap(train)), runs="vmap")
    with capture() as records:
        step(XS)
    rows = [[v if (v := (x + k) * k) > 1 else None for x in XS] for k in range(3)]
    close(points(records), expected("x", [(10 * k, row) for k, row in enumerate(rows)]))


@pytest.mark.parametrize(
    ("way", "mapped"),
    [
        ("output", "vmap"),
        ("output", "devices"),
        ("callback", "vmap"),
        ("callback", "devices"),
        ("jit", "vmap"),
    ],
)
def test_steps_of_each_lane(way, mapped):
    """A lane's points are at its own steps; the runs over all lanes have points at common steps only."""

    def seed(x):
        def update(carry, number):
            own = x.astype(jnp.int32) * number
            report(carry, step=own, every=2, reduce="last")
            jb.histogram("histogram", carry, step=own, every=2, runs="vmap")
            inner = lambda y: jb.watch("w", carry * y, what="max", step=own, runs="vmap")  # noqa: E731
            jax.vmap(inner)(jnp.arange(3.0))
            return carry + 1, None

        return lax.scan(update, x, jnp.arange(3))

    program = jax.vmap(seed)
    if mapped == "devices":
        program = on_devices(program)
    function = jax.jit(program)
    if way != "jit":
        function = jb.instrument(function)
        function = function if way == "output" else jax.jit(function)
    with capture() as records:
        function(XS)
        jax.effects_barrier()
    wanted, norms = {}, {}
    for lane, x in enumerate(XS):
        made = [(int(x) * k, float(x) + k) for k in range(3)]
        wanted[f"seed_{lane}", "x"] = sorted({k: v for k, v in made if k % 2 == 0}.items())
        norms[f"seed_{lane}", "w/max"] = [(k, 2 * v) for k, v in made]
    for run, function in {"mean": np.mean, "min": np.min, "max": np.max}.items():
        wanted[run, "x"] = [(0, float(function(XS)))]
        norms[run, "w/max"] = [(0, 2 * float(function(XS)))]
    histograms = [r for r in records if r.tag == "histogram"]
    found = points([r for r in records if r.tag != "histogram"])
    close({key: sorted(dict(rows).items()) for key, rows in found.items()}, wanted | norms)
    edges = {(f"seed_{lane}", "x"): [] for lane in range(4)}
    for record in sorted(histograms, key=lambda r: r.step):
        edges[record.run, "x"].append((record.step, float(record.value.edges[0])))
    assert edges == {key: wanted[key] for key in edges}


def test_windows_of_lanes_at_different_steps():
    """All lanes share a window, which ends at the largest of their steps."""

    def seed(x):
        def update(carry, number):
            report(carry, step=x.astype(jnp.int32) * number, every=6, reduce="sum")
            return carry + 1, None

        return lax.scan(update, x, jnp.arange(3))

    with capture() as records:
        jb.instrument(jax.jit(jax.vmap(seed)))(XS)
    close(points(records), expected("x", [(6 * k, XS + k) for k in range(3)]))


@pytest.mark.parametrize("own", [False, True])
def test_stream(own):
    """Each iteration of a mapped and streamed training run is a step in each lane."""

    def train(x):
        def update(carry, number):
            jb.scalar("x", carry * number, step=2 * number if own else None)
            jb.scalar("sum", carry, every=2, reduce="sum")
            return carry + 1, None

        return lax.scan(update, x, jnp.arange(5))

    run = jb.instrument(jax.jit(jax.vmap(train)), stream=2, runs="vmap")
    with capture() as records:
        run(XS)
    wanted = expected("x", [((2 if own else 1) * k, (XS + k) * k) for k in range(5)])
    wanted |= expected("sum", [(0, XS), (2, 2 * XS + 3), (4, 2 * XS + 7)])
    close(points(records), wanted)


# ------------------------------------------------------------------------------------ kinds


def test_other_kinds():
    """Histograms and images are per lane; norms and stacks also have mean, minimum and maximum."""

    def seed(x):
        jb.scalars("tree", {"a": x, "b": -x})
        jb.histogram("histogram", jnp.stack([x, 2 * x]))
        jb.image("image", jnp.full((2, 2, 1), x).astype(jnp.uint8), where=x > 1)
        jb.watch("watch", {"w": jnp.stack([x, x]), "half": x / 2}, what="max")
        jax.vmap(lambda y: jb.scalar("stack", x * y, reduce="stack"))(jnp.arange(1.0, 3.0))
        return jax.grad(lambda x: 3 * jb.tap("tap", x) ** 2)(x)

    step = jb.instrument(jax.jit(jax.vmap(seed)), runs="vmap")
    with capture() as records:
        step(XS)
    kinds = {kind: [r for r in records if r.tag == kind] for kind in ("histogram", "image")}
    wanted = {}
    for tag, factor in {
        "tree/a": 1,
        "tree/b": -1,
        "watch/max": 1,
        "watch/max/w": 1,
        "watch/max/half": 0.5,
        "tap": 6,
    }.items():
        wanted |= expected(tag, [(0, factor * XS)])
    wanted |= expected("stack/lane_00", [(0, XS)]) | expected("stack/lane_01", [(0, 2 * XS)])
    close(points([r for r in records if r.tag not in kinds]), wanted)
    found = {
        r.run: (r.value.edges[0], r.value.edges[-1], r.value.counts.sum())
        for r in kinds["histogram"]
    }
    assert found == {f"seed_{lane}": (x, 2 * x, 2) for lane, x in enumerate(XS)}
    pictures = {r.run: int(r.value[0, 0, 0, 0]) for r in kinds["image"]}
    assert pictures == {"seed_0": 3, "seed_2": 2, "seed_3": 6}


def test_repeated_calls_merge_by_lane():
    """The batches of an evaluation merge to one point per lane, for every kind."""

    @functools.partial(jb.instrument, advance=False, runs="vmap")
    @jax.jit
    @jax.vmap
    def evaluate(x):
        jb.scalar("mean", x)
        jb.scalar("std", x, reduce="std", where=x > 1)
        jb.scalar("last", x, reduce="last")
        jb.histogram("histogram", x)
        jb.scalar("stack", x, reduce="stack")
        jb.watch("watch", x, what="max")

    with capture() as records:
        evaluate(XS)
        evaluate(XS + 2)
    histograms = {r.run: r.value for r in records if r.tag == "histogram"}
    assert {run: tuple(h.edges[[0, -1]]) for run, h in histograms.items()} == {
        f"seed_{lane}": (x, x + 2) for lane, x in enumerate(XS)
    }
    wanted = expected("mean", [(0, XS + 1)]) | expected("last", [(0, XS + 2)])
    wanted |= expected("stack", [(0, XS + 1)]) | expected("watch/max", [(0, XS + 2)])
    wanted |= expected("std", [(0, [1, 0, 1, 1])])
    close(points([r for r in records if r.tag != "histogram"]), wanted)


# ------------------------------------------------------------------------------------ devices


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_lanes_over_eight_devices(kind):
    """With a sharded mapped axis, results keep their sharding and every lane reports."""
    mesh = jax.make_mesh((8,), ("seeds",), axis_types=(kind,))
    place = NamedSharding(mesh, P("seeds"))
    xs = jax.device_put(jnp.arange(16.0), place)

    def seed(x):
        jb.scalar("x", x)
        jb.scalar("window", x, every=2, reduce="sum")
        jb.histogram("histogram", jnp.stack([x, x + 1]), where=x >= 0)
        jb.histogram("{}/stack", x, where=x > 0, reduce="stack", runs=False)
        return x + 1

    step = jb.instrument(jax.jit(jax.vmap(seed)), runs="vmap")
    with capture() as records:
        first = xs
        for _ in range(3):
            xs = step(xs)
    assert xs.sharding == place
    first = np.asarray(first)
    wanted = expected("x", [(k, first + k) for k in range(3)])
    wanted |= expected("window", [(0, first), (2, 2 * first + 3)])
    close(points([r for r in records if r.kind is not Kind.HISTOGRAM]), wanted)
    assert sum(r.tag == "histogram" for r in records) == 3 * 16
    stacked = {(r.tag, r.step): r.value.sum for r in records if r.tag.endswith("stack")}
    lanes = itertools.product(range(16), range(3))
    assert stacked == {(f"{n:02}/stack", k): n + k for n, k in lanes if n + k > 0}


# ------------------------------------------------------------------------------------ invalid input


def test_too_many_lanes():
    """More lanes than can be seed runs raise while tracing, with advice."""
    step = jb.instrument(jax.jit(jax.vmap(reported)))
    with (
        capture(),
        pytest.raises(
            jb.ReportError, match=re.escape("report 'x': runs='vmap' would make a run of")
        ),
    ):
        step(jnp.zeros(257))


def test_unknown_runs():
    """A value of runs= other than "vmap" raises, in reports and in instrument."""
    with pytest.raises(
        jb.ReportError, match=r"report 'x' \(test_runs.py:\d+\): expected runs= to be 'vmap'"
    ):
        jb.scalar("x", 1.0, runs="pmap")  # pyright: ignore[reportArgumentType]
    with pytest.raises(jb.UsageError, match=r"instrument\(runs='seeds'\): expected 'vmap' or None"):
        jb.instrument(jax.jit(vmap), runs="seeds")  # pyright: ignore[reportCallIssue, reportArgumentType]


# ------------------------------------------------------------------------------------ non-finite values


def test_a_non_finite_value_is_reported_with_its_lane():
    """The text names the lane with the non-finite value, not the mean over it, and its previous value."""
    messages, sink = [], MemorySink()
    step = jb.instrument(jax.jit(jax.vmap(lambda x: reported(jnp.log(x)))), runs="vmap")
    with jb.Run(None, sinks=[sink], on_nonfinite=messages.append) as run:
        step(np.array([1.0, 1.0], np.float32))
        run.flush()
        step(np.array([1.0, -1.0], np.float32))
    assert messages == [
        "x of seed_1 is nan at step 1; at step 0 it was 0. The text entry 'jaxboard/nonfinite' has all."
    ]
    (text,) = (record for record in sink.records if record.tag == "jaxboard/nonfinite")
    assert text.run == ""
    assert "| `x of seed_1` | 1 | nan | 0 | 0 |" in text.value


def test_runs_false_merges_one_report():
    """With instrument(runs="vmap"), a report with runs=False still merges its lanes."""

    @functools.partial(jb.instrument, runs="vmap")
    @jax.jit
    def f(xs):
        def lane(x):
            jb.scalar("separate", x)
            jb.scalar("merged", x, runs=False)
            return x

        return jax.vmap(lane)(xs)

    with capture() as records:
        f(XS)
    assert [(r.run, float(r.value)) for r in records if r.tag == "merged"] == [("", 3.0)]
    assert len([r for r in records if r.tag == "separate"]) == len(XS) + 3
