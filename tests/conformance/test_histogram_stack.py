"""``histogram(reduce="stack")`` keeps the histograms of lanes, iterations and devices separate."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard.testing import capture

XS = np.array([3.0, 1.0, 2.0, 6.0], np.float32)


def stack(x, tag, bins=(0, 5, 20), **options):
    jb.histogram(tag, jnp.stack([x, 10 * x]), bins=bins, reduce="stack", **options)
    return x


def program(xs):
    def layer(carry, x):
        stack(carry * x, "blocks/{}/act", bins=None)
        return lax.cond(x > 1, lambda x: stack(x, "branch") + carry, lambda x: x + carry, x), None

    jax.grad(lambda x: lax.scan(jax.checkpoint(layer), x, xs)[0])(1.0)
    jax.vmap(lambda x: stack(x, "lanes", where=x > 1))(xs)
    rows = xs.reshape(2, 2)
    for wide in (rows, rows.reshape(1, 4) + 2):
        jax.vmap(jax.vmap(lambda x: stack(x, "shapes")))(wide)
    lax.while_loop(
        lambda rows: rows[0, 0] < 5,
        jax.vmap(lambda row: stack(row.sum(), "trips") + row),
        rows,
    )
    stack(xs[0], "once/{}/act")
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
    scan = lambda xs: lax.scan(lambda c, x: (c, stack(x, "devices")), 0.0, xs)[1]  # noqa: E731
    return jax.shard_map(scan, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(xs)


EXPECTED = {
    **{f"blocks/0{n}/act": [x] for n, x in enumerate([3, 4, 10, 42])},
    **{f"branch/iteration_0{n}": [x] for n, x in enumerate(XS) if x > 1},
    **{f"lanes/lane_0{n}": [x] for n, x in enumerate(XS) if x > 1},
    "shapes/lane_00/lane_00": [3, 5],
    "shapes/lane_00/lane_01": [1, 3],
    "shapes/lane_00/lane_02": [4],
    "shapes/lane_00/lane_03": [8],
    "shapes/lane_01/lane_00": [2],
    "shapes/lane_01/lane_01": [6],
    "trips/lane_00": [4],
    "trips/lane_01": [8],
    "once/act": [3],
    **{f"devices/device_0{n // 2}/iteration_0{n % 2}": [x] for n, x in enumerate(XS)},
}
"""Tag -> the numbers x whose histograms are merged there, each of the elements x and 10 x."""


def found(records):
    return {
        (r.run, r.tag, r.step): (r.value.sum, int(r.value.counts.sum()) + r.value.outside)
        for r in records
    }


def test_histograms():
    """Each place has a histogram of its own, at the steps that are due, and an empty place has none."""
    step = jb.instrument(jax.jit(program), every=2)
    with capture() as records:
        results = [step(XS) for _ in range(3)]
    np.testing.assert_array_equal(results, [XS] * 3)
    expected = {tag: (11 * sum(xs), 2 * len(xs)) for tag, xs in EXPECTED.items()}
    assert found(records) == {("", tag, s): expected[tag] for tag in expected for s in (0, 2)}
    by_tag = {r.tag: r.value for r in records}
    assert by_tag["shapes/lane_00/lane_03"].counts.tolist() == [0, 1]
    assert by_tag["blocks/03/act"].edges[[0, -1]].tolist() == [42, 420]


def test_own_steps_and_seed_runs():
    """Lanes of the outermost map may be seed runs, and reports of a scan may have steps of their own."""

    def seed(xs):
        lax.scan(lambda c, x: (c, stack(x, "rows")), 0.0, xs)
        lax.scan(lambda c, x: (c, stack(x, "own", step=x.astype(int), runs=False)), 0.0, xs)

    with capture() as records:
        jax.jit(jb.instrument(jax.jit(jax.vmap(seed)), runs="vmap"))(XS.reshape(2, 2))
    numbers = {(f"seed_{n // 2}", f"rows/iteration_0{n % 2}", 0): x for n, x in enumerate(XS)}
    # Merged lanes share a step, that of the last one.
    numbers |= {("", f"own/lane_0{n // 2}", 3 if n % 2 == 0 else 6): x for n, x in enumerate(XS)}
    assert found(records) == {key: (11 * x, 2) for key, x in numbers.items()}


def test_plain_python():
    """Outside transformations there is nothing to stack; an unknown reduction and counts raise."""
    with capture() as records:
        jb.histogram("blocks/{}", {"a": np.arange(3.0)}, reduce="stack", step=1)
        jax.vmap(lambda x: stack(x, "lanes"))(XS[:2])
    assert found(records) == {
        ("", "blocks/a", 1): (3, 3),
        ("", "lanes/lane_00", 0): (33, 2),
        ("", "lanes/lane_01", 0): (11, 2),
    }
    with pytest.raises(
        jb.ReportError, match="expected reduce= to be 'merge' or 'stack', got 'mean'"
    ):
        jb.histogram("x", XS, reduce="mean")  # pyright: ignore[reportArgumentType]
    with pytest.raises(jb.ReportError, match="need no values, bins=, range=, reduce="):
        jb.histogram("x", counts=[1], edges=[0, 1], reduce="stack")
