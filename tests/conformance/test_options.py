"""``where=``, ``weight=`` and ``step=`` pass through transformations together with the value."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard.records import Kind
from jaxboard.testing import capture

XS = np.array([3.0, 1.0, 2.0, 6.0, 4.0, 8.0, 5.0, 7.0], np.float32)
WEIGHTS = np.array([0.0, 2.0, 1.0, 0.0, 3.0, 1.0, 2.0, 0.0], np.float32)

WEIGHTED = {
    "mean": lambda x, w: np.average(x, weights=w),
    "sum": lambda x, w: np.sum(x * w),
    "std": lambda x, w: np.sqrt(np.average((x - np.average(x, weights=w)) ** 2, weights=w)),
}
MASKED = {"min": np.min, "max": np.max, "count": len, "last": lambda x: x[-1]}


def report(x, weight):
    for name in WEIGHTED:
        jb.scalar(name, x, weight=weight, reduce=name)
    for name in MASKED:
        jb.scalar(name, x, where=weight > 0, reduce=name)
    jb.histogram("histogram", x[None], where=weight > 0)
    jb.image("image", jnp.full((1, 1, 1), x).astype(jnp.uint8), where=weight > 0)
    jb.watch("watch", x[None], what=("norm", "max"), where=weight > 0)
    return jnp.sin(x)


def expected(x, w):
    kept = x[w > 0]
    points = {name: f(x, w) for name, f in WEIGHTED.items()}
    points |= {name: f(kept) for name, f in MASKED.items()}
    points["histogram"] = (kept.min(), kept.max(), len(kept))
    points["watch/norm"], points["watch/max"] = np.sqrt(np.mean(kept**2)), kept.max()
    return points


def vmap(xs, ws):
    return jax.vmap(report)(xs, ws)


def vmap_of_vmap(xs, ws):
    return jax.vmap(jax.vmap(report))(xs.reshape(4, 2), ws.reshape(4, 2))


def vmap_with_shared_weights(xs, ws):
    """Give all inner lanes the weight of their outer lane."""
    return jax.vmap(lambda xs, w: jax.vmap(lambda x: report(x, w))(xs))(
        xs.reshape(4, 2), ws.reshape(4, 2)[:, 0]
    )


def scan(xs, ws):
    return lax.scan(lambda c, xw: (c, report(*xw)), 0.0, (xs, ws))[1]


def scan_of_vmap(xs, ws):
    split = (xs.reshape(2, 4), ws.reshape(2, 4))
    return lax.scan(lambda c, xw: (c, jax.vmap(report)(*xw)), 0.0, split)[1]


def vmap_of_grad_of_remat(xs, ws):
    return jax.vmap(jax.grad(jax.checkpoint(report)))(xs, ws)


def while_loop(xs, ws):
    return lax.fori_loop(0, jnp.int32(ws.size), lambda i, c: c + report(xs[i], ws[i]), 0.0)


def shard_map(xs, ws):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    shard = lambda x, w: report(x[0], w[0])[None]  # noqa: E731
    return jax.shard_map(shard, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(xs, ws)


PROGRAMS = [
    vmap,
    vmap_of_vmap,
    vmap_with_shared_weights,
    scan,
    scan_of_vmap,
    vmap_of_grad_of_remat,
    while_loop,
    shard_map,
]


def plain(record) -> Any:
    if record.kind is Kind.HISTOGRAM:
        edges, counts = record.value.edges, record.value.counts
        return float(edges[0]), float(edges[-1]), int(counts.sum())
    return float(record.value)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_weights(program, prepare):
    """Weighted and masked reductions equal NumPy's, and masked values appear nowhere."""
    with capture() as records:
        prepare(program)(XS, WEIGHTS)
    points = {r.tag: plain(r) for r in records if r.kind is not Kind.IMAGE}
    weights = np.repeat(WEIGHTS[::2], 2) if program is vmap_with_shared_weights else WEIGHTS
    wanted = expected(XS, weights)
    if program is shard_map:
        # Callbacks of several devices arrive in no particular order.
        del wanted["last"], points["last"]
    assert points == {tag: pytest.approx(value, rel=1e-6) for tag, value in wanted.items()}
    images = [r.value for r in records if r.kind is Kind.IMAGE]
    assert len(images) == 1
    assert set(np.unique(images[0])) <= set(XS[weights > 0])


@pytest.mark.parametrize("program", [vmap, scan], ids=lambda f: f.__name__)
def test_zero_weights(program, prepare):
    """If all weights are zero, there is no point."""
    with capture() as records:
        prepare(program)(XS, 0 * WEIGHTS)
    assert not records


def steps_in_scan(xs):
    return lax.scan(lambda c, i: (c, stepped(xs[i], 10 * i)), 0.0, jnp.arange(8))[1]


def steps_in_vmap_of_scan(xs):
    def lane(xs):
        return lax.scan(lambda c, i: (c, stepped(xs[i], i)), 0.0, jnp.arange(4))[1]

    return jax.vmap(lane)(xs.reshape(2, 4))


def steps_in_scan_of_scan(xs):
    def outer(c, i):
        return lax.scan(lambda c, j: (c, stepped(xs[4 * i + j], 4 * i + j)), c, jnp.arange(4))

    return lax.scan(outer, 0.0, jnp.arange(2))[1]


def steps_in_cond_in_scan(xs):
    def body(c, i):
        return c, lax.cond(xs[i] > 3, lambda: stepped(xs[i], i), lambda: xs[i])

    return lax.scan(body, 0.0, jnp.arange(8))[1]


def steps_in_grad_of_scan(xs):
    def total(xs):
        return lax.scan(lambda c, i: (c + stepped(xs[i], i), None), 0.0, jnp.arange(8))[0]

    return jax.grad(total)(xs)


def stepped(x, step):
    jb.scalar("mean", x, step=step)
    jb.histogram("histogram", x[None], step=step)
    return jnp.sin(x)


def points_per_step(steps, values):
    return {step: (value, value, value, 1) for step, value in zip(steps, values, strict=True)}


STEPS = {
    steps_in_scan: points_per_step(range(0, 80, 10), XS),
    steps_in_vmap_of_scan: {
        i: ((a + b) / 2, min(a, b), max(a, b), 2)
        for i, (a, b) in enumerate(zip(XS[:4], XS[4:], strict=True))
    },
    steps_in_scan_of_scan: points_per_step(range(8), XS),
    steps_in_cond_in_scan: points_per_step(np.flatnonzero(XS > 3), XS[XS > 3]),
    steps_in_grad_of_scan: points_per_step(range(8), XS),
}
"""Program -> step -> mean, smallest and largest value, and count."""


@pytest.mark.parametrize("program", STEPS, ids=lambda program: program.__name__)
def test_steps(program, prepare):
    """A report with a traced ``step=`` makes one point for each step that it names."""
    with capture() as records:
        result = prepare(program)(XS)
    means = {r.step: float(r.value) for r in records if r.tag == "mean"}
    others = {r.step: plain(r) for r in records if r.tag == "histogram"}
    assert {step: (means[step], *others[step]) for step in means} == STEPS[program]
    assert len(records) == 2 * len(STEPS[program])
    assert np.all(np.isfinite(result))


@pytest.mark.parametrize("outer", [lambda f: f, jax.jit], ids=["output", "callback"])
@pytest.mark.parametrize("reduce", ["sum", "mean", "min", "max", "std", "last", "count"])
def test_repeated_steps(reduce, outer):
    """Values of one report that name the same step within one instrumented call make one point."""
    xs, steps = np.array([1.0, 5.0, 3.0, 9.0], np.float32), np.array([7, 5, 7, 5])

    def loop(xs, steps):
        def body(c, row):
            x, step = row
            jb.scalar("x", x, step=step, reduce=reduce)
            jb.histogram("h", x * np.arange(3), step=step)
            return c + x, None

        return lax.scan(body, jnp.float32(0), (xs, steps))[0]

    with capture() as records:
        outer(jb.instrument(jax.jit(loop)))(xs, steps)
    reducer = {"last": lambda x: x[-1], "count": len}.get(reduce) or getattr(np, reduce)
    found = {(r.tag, r.step): plain(r) for r in records}
    assert len(found) == len(records) == 4
    for step in (5, 7):
        assert found["x", step] == pytest.approx(float(reducer(xs[steps == step])))
        assert found["h", step] == (0.0, float(2 * xs[steps == step].max()), 6)
