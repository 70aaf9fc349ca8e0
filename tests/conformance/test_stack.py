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


def shard_map(xs):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    shard = lambda x: stack(x.sum())[None]  # noqa: E731
    return jax.shard_map(shard, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(xs)


VALUES = {
    scan: [3, 1, 2, 6],
    reverse_scan: [6, 2, 1, 3],
    vmap: [3, 1, 2, 6],
    vmap_where: [3, None, 2, 6],
    cond_in_scan: [3, None, 2, 6],
    vmap_of_cond: [3, None, 2, 6],
    scan_of_vmap: [3, 1, 2, 6],
    two_reports: [4, 2, 2, 6],
    while_of_vmap: [3.5, 1.5, 2.5, 6.5],
    shard_map: [3, 1, 2, 6],
}
"""Program -> the value at each position of its stack, None where there is none."""


@pytest.mark.parametrize("program", VALUES, ids=lambda program: program.__name__)
@pytest.mark.parametrize("delivery", ["output", "callback"])
def test_stack(program, delivery):
    """Each position has its own tag, whose value is the mean of the values at that position; an empty position has no point."""
    function = jb.instrument(jax.jit(program))
    function = function if delivery == "output" else jax.jit(function)
    with capture() as records:
        for _ in range(2):
            function(XS)
    expected = [(f"x/{i}", value) for i, value in enumerate(VALUES[program]) if value is not None]
    points = [(record.tag, record.step, record.value) for record in records]
    assert sorted(points) == sorted((tag, s, value) for tag, value in expected for s in range(2))


def test_plain_python():
    """Outside transformations, a value is the only one of its stack."""
    with capture() as records:
        jb.scalar("x", 2.0, reduce="stack", step=1)
        jb.scalar("x", 4.0, reduce="stack", step=1)
    assert [(record.tag, record.step, float(record.value)) for record in records] == [
        ("x/0", 1, 2.0),
        ("x/0", 1, 4.0),
    ]


def mapped_over_devices(x):
    jb.scalar("devices", x, reduce="stack")
    jax.vmap(lambda x: jb.scalar("lanes", x, reduce="stack"))(jnp.stack([x, x + 10]))
    return x


@pytest.mark.parametrize("instrument", [jb.instrument, lambda f: f])
def test_devices_without_a_harvest(instrument):
    """Under ``jax.pmap`` that is not jitted, each device is a place too."""
    with capture() as records:
        instrument(jax.pmap(mapped_over_devices))(jnp.arange(4.0))
        jax.effects_barrier()
    found = {record.tag: float(record.value) for record in records}
    expected = {f"devices/{n}": n for n in range(4)}
    expected |= {f"lanes/{2 * n + k}": n + 10 * k for n in range(4) for k in range(2)}
    assert found == expected
