"""``reduce="stack"`` keeps the values of lanes, iterations and devices separate."""

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


def stack(x, **options):
    jb.scalar("x", x, reduce="stack", **options)
    return x


def scan(xs):
    return lax.scan(lambda c, x: (c, stack(x)), 0.0, xs)


def reverse_scan(xs):
    return lax.scan(lambda c, x: (c, stack(x)), 0.0, xs, reverse=True)


def vmap(xs):
    return jax.vmap(stack)(xs)


def vmap_where(xs):
    return jax.vmap(lambda x: stack(x, where=x > 1))(xs)


def cond_in_scan(xs):
    return lax.scan(lambda c, x: (c, lax.cond(x > 1, stack, jnp.negative, x)), 0.0, xs)


def vmap_of_cond(xs):
    return jax.vmap(lambda x: lax.cond(x > 1, stack, jnp.negative, x))(xs)


def scan_of_vmap(xs):
    return lax.scan(lambda c, row: (c, jax.vmap(stack)(row)), 0.0, xs.reshape(2, 2))


def two_reports(xs):
    return vmap(xs), vmap(xs[:2] + 2)


def while_of_vmap(xs):
    return lax.while_loop(lambda xs: xs[0] < 5, lambda xs: jax.vmap(stack)(xs) + 1, xs)


def two_shapes(xs):
    rows = xs.reshape(2, 2)
    return jax.vmap(vmap)(rows), jax.vmap(vmap)(rows.reshape(1, 4) + 2)


def nothing_to_stack(xs):
    return stack(xs[0]), stack(xs[1])


def over_devices(function, count):
    mesh = jax.make_mesh((count,), ("d",), axis_types=(AxisType.Auto,))
    return jax.shard_map(function, mesh=mesh, in_specs=P("d"), out_specs=P("d"))


def shard_map(xs):
    return over_devices(lambda x: stack(x.sum())[None], 4)(xs)


def pmap(xs):
    return jax.pmap(stack)(xs)


def scan_in_shard_map(xs):
    return over_devices(lambda xs: scan(xs)[1], 2)(xs)


def the_same_on_all_devices(xs):
    return over_devices(lambda x: x + stack(jax.lax.psum(x.sum(), "d")), 4)(xs)


VALUES = {
    scan: {"iteration_00": 3, "iteration_01": 1, "iteration_02": 2, "iteration_03": 6},
    reverse_scan: {"iteration_00": 6, "iteration_01": 2, "iteration_02": 1, "iteration_03": 3},
    vmap: {"lane_00": 3, "lane_01": 1, "lane_02": 2, "lane_03": 6},
    vmap_where: {"lane_00": 3, "lane_02": 2, "lane_03": 6},
    cond_in_scan: {"iteration_00": 3, "iteration_02": 2, "iteration_03": 6},
    vmap_of_cond: {"lane_00": 3, "lane_02": 2, "lane_03": 6},
    scan_of_vmap: {
        "iteration_00/lane_00": 3,
        "iteration_00/lane_01": 1,
        "iteration_01/lane_00": 2,
        "iteration_01/lane_01": 6,
    },
    two_reports: {"lane_00": 4, "lane_01": 2, "lane_02": 2, "lane_03": 6},
    two_shapes: {
        "lane_00/lane_00": 4,
        "lane_00/lane_01": 2,
        "lane_00/lane_02": 4,
        "lane_00/lane_03": 8,
        "lane_01/lane_00": 2,
        "lane_01/lane_01": 6,
    },
    while_of_vmap: {"lane_00": 3.5, "lane_01": 1.5, "lane_02": 2.5, "lane_03": 6.5},
    nothing_to_stack: {"": 2},
    shard_map: {"device_00": 3, "device_01": 1, "device_02": 2, "device_03": 6},
    pmap: {"device_00": 3, "device_01": 1, "device_02": 2, "device_03": 6},
    scan_in_shard_map: {
        "device_00/iteration_00": 3,
        "device_00/iteration_01": 1,
        "device_01/iteration_00": 2,
        "device_01/iteration_01": 6,
    },
    the_same_on_all_devices: {"": 12},
}
"""Program -> the values of its stack, by the end of their tags."""


@pytest.mark.parametrize("program", VALUES, ids=lambda program: program.__name__)
@pytest.mark.parametrize("delivery", ["output", "callback"])
def test_stack(program, delivery):
    """Each place has a tag that names its device, iteration or lane, and the mean of the values there; an empty place has no point."""
    function = jb.instrument(jax.jit(program))
    function = function if delivery == "output" else jax.jit(function)
    with capture() as records:
        for _ in range(2):
            function(XS)
    expected = {f"x/{name}" if name else "x": value for name, value in VALUES[program].items()}
    points = [(record.tag, record.step, record.value) for record in records]
    assert sorted(points) == sorted((tag, s, v) for tag, v in expected.items() for s in range(2))


def test_plain_python():
    """Outside transformations there is nothing to stack, and the tag has no index."""
    with capture() as records:
        jb.scalar("x", 2.0, reduce="stack", step=1)
        jb.scalar("x", 4.0, reduce="stack", step=1)
    assert [(record.tag, record.step, float(record.value)) for record in records] == [
        ("x", 1, 2.0),
        ("x", 1, 4.0),
    ]


@pytest.mark.parametrize("step", [7, None])
def test_own_steps(step):
    """Reports of a scan with steps of their own make one point for each step, with the lanes in it."""

    def row(carry, pair):
        number, row = pair
        jax.vmap(lambda x: stack(x, step=number if step is None else jnp.int32(step)))(row)
        return carry, None

    pairs = jnp.arange(2), XS.reshape(2, 2)
    with capture() as records:
        jb.instrument(jax.jit(lambda pairs: lax.scan(row, 0.0, pairs)))(pairs)
    points = sorted((record.tag, record.step, record.value) for record in records)
    if step is None:
        assert points == [
            ("x/lane_00", 0, 3),
            ("x/lane_00", 1, 2),
            ("x/lane_01", 0, 1),
            ("x/lane_01", 1, 6),
        ]
    else:
        assert points == [("x/lane_00", 7, 2.5), ("x/lane_01", 7, 3.5)]


def test_tags_in_order():
    """An index has at least two digits, so that tags sorted as text are in order up to 100 places."""
    with capture() as records:
        jb.instrument(jax.jit(vmap))(jnp.arange(101.0))
    names = [record.tag for record in records]
    assert names[:100] == sorted(names[:100])
    assert (names[7], names[100]) == ("x/lane_07", "x/lane_100")


@pytest.mark.parametrize("runs", [None, "vmap"])
def test_seed_runs(runs):
    """With seed runs, the lanes of the outermost vmap are runs, and inner lanes are stacked."""
    with capture() as records:
        jb.instrument(jax.jit(jax.vmap(vmap)), runs=runs)(XS.reshape(2, 2))
    found = {(r.run, r.tag): r.value for r in records if not r.run or r.run.startswith("seed")}
    keys = [(i, k) for i in range(2) for k in range(2)]
    if runs is None:
        expected = {("", f"x/lane_{i:02}/lane_{k:02}"): XS[2 * i + k] for i, k in keys}
    else:
        expected = {(f"seed_{i}", f"x/lane_{k:02}"): XS[2 * i + k] for i, k in keys}
    assert found == expected


def mapped_over_devices(x):
    jb.scalar("devices", x, reduce="stack")
    jax.vmap(lambda x: jb.scalar("lanes", x, reduce="stack"))(jnp.stack([x, x + 10]))
    return x


@pytest.mark.parametrize("instrument", [jb.instrument, lambda f: f])
def test_devices_without_a_harvest(instrument):
    """Under ``jax.pmap`` that is not jitted, each device has a tag too."""
    with capture() as records:
        instrument(jax.pmap(mapped_over_devices))(jnp.arange(4.0))
        jax.effects_barrier()
    found = {record.tag: float(record.value) for record in records}
    expected = {f"devices/device_0{n}": n for n in range(4)}
    expected |= {f"lanes/device_0{n}/lane_0{k}": n + 10 * k for n in range(4) for k in range(2)}
    assert found == expected


def test_the_index_has_a_place_in_the_tag():
    """The indices take the place of braces in a tag, or in a scope around the report; without an index there is none."""

    @jb.instrument
    @jax.jit
    def program(xs):
        def layer(carry, x):
            jb.scalar("blocks/{}/rms", x, reduce="stack")
            with jb.scope("layers/{}"):
                jb.max_logit("logit", x[None], reduce="stack")
            jax.vmap(lambda y: jb.scalar("pairs/{}", y, reduce="stack"))(jnp.stack([x, -x]))
            return carry, None

        lax.scan(layer, 0.0, xs)
        jb.scalar("once/{}/rms", xs[0], reduce="stack")

    with capture() as records:
        program(XS[:2])
    assert {r.tag: float(r.value) for r in records} == {
        "blocks/00/rms": 3,
        "blocks/01/rms": 1,
        "layers/00/logit": 3,
        "layers/01/logit": 1,
        "pairs/00/00": 3,
        "pairs/00/01": -3,
        "pairs/01/00": 1,
        "pairs/01/01": -1,
        "once/rms": 3,
    }
