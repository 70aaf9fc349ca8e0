"""Separate lanes have the values that the inner reducer gives each lane alone."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxboard._frame import Composite, ReportSpec
from jaxboard._reduce import REDUCTIONS, HistogramOptions, StackOptions, State, reducer
from jaxboard._reduce.stack import Stack
from jaxboard.records import Histogram, Kind

LANES, INNER = 3, 2
SPECS = [ReportSpec(Kind.SCALAR, "x", name) for name in REDUCTIONS]
SPECS += [
    ReportSpec(Kind.HISTOGRAM, "x", "last", options=HistogramOptions()),
    ReportSpec(Kind.HISTOGRAM, "x", "last", options=HistogramOptions(4)),
    ReportSpec(Kind.HISTOGRAM, "x", "last", options=HistogramOptions((-1.0, 0.0, 2.0))),
    ReportSpec(Composite.STACK, "x", "stack", options=StackOptions(("lane",))),
]

reports = st.tuples(
    st.lists(st.integers(-4, 4), min_size=LANES * INNER, max_size=LANES * INNER),
    st.none() | st.lists(st.integers(0, 2), min_size=LANES * INNER, max_size=LANES * INNER),
)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """An integer that is part of the structure of a tree: a weight that is known while JAX traces."""

    value: int


@functools.cache
def compiled(function):
    """Return a function of states, compiled once for each structure; static weights stay integers."""
    hide = lambda state: jax.tree.map(lambda x: Static(x) if isinstance(x, int) else x, state)  # noqa: E731
    show = lambda state: jax.tree.map(  # noqa: E731
        lambda x: x.value if isinstance(x, Static) else x,
        state,
        is_leaf=lambda x: isinstance(x, Static),
    )
    program = jax.jit(lambda *states: hide(function(*map(show, states))))
    return lambda *states: show(program(*map(hide, states)))


@functools.cache
def compiled_start(reducer):
    return compiled(lambda values, weights: reducer.start(values, weights, 0))


def started(reducer, values, weights):
    as_lanes = lambda x, dtype: np.array(x, dtype).reshape(LANES, INNER)  # noqa: E731
    weights = None if weights is None else as_lanes(weights, np.int32)
    return compiled_start(reducer)(as_lanes(values, np.float32), weights)


def one_lane(reducer, values, weights, lane):
    part = slice(lane * INNER, (lane + 1) * INNER)
    weights = None if weights is None else np.array(weights[part], np.int32)
    return compiled_start(reducer)(np.array(values[part], np.float32), weights)


def on_host(state):
    return jax.tree.map(lambda x: x if isinstance(x, int) else np.asarray(x), state)


def plain(value):
    if isinstance(value, Histogram):
        return value.edges.tolist(), value.counts.tolist(), value.zeros
    if isinstance(value, Stack):
        return value.places.tolist(), value.values.tolist()
    return float(value)


def alone(inner, state):
    state = on_host(state)
    return plain(inner.finish(state)) if np.all(np.asarray(state.weight) > 0) else None


def each(lanes, state):
    found = dict.fromkeys(range(LANES))
    return list((found | {k: plain(v) for k, v in lanes.items(on_host(state))}).values())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind.name}-{spec.reduce}")
@settings(max_examples=25, deadline=None)
@given(first=reports, second=reports, host=st.booleans(), loop=st.booleans())
def test_each_lane_is_as_if_alone(spec, first, second, host, loop):
    """Each lane equals a lane alone: merged in pairs or along an axis, on the device or the host, with or without weights."""
    inner, lanes = reducer(spec), reducer(dataclasses.replace(spec, lanes=LANES))
    a, b = (started(lanes, *report) for report in (first, second))
    separate = [
        [one_lane(inner, values, weights, lane) for values, weights in (first, second)]
        for lane in range(LANES)
    ]
    same_structure = jax.tree.structure(a) == jax.tree.structure(b)
    if loop and same_structure and not isinstance(a.weight, int):
        stacked = jax.tree.map(lambda x, y: jnp.stack([x, y]), a, b)
        merged = compiled(lanes.collapse)(stacked)
        wanted = [
            compiled(inner.collapse)(jax.tree.map(lambda x, y: jnp.stack([x, y]), *p))
            for p in separate
        ]
    elif host:
        merged = lanes.merge(on_host(a), on_host(b))
        wanted = [inner.merge(*map(on_host, pair)) for pair in separate]
    else:
        merged = compiled(lanes.merge)(a, b)
        wanted = [compiled(inner.merge)(*pair) for pair in separate]
    found = each(lanes, merged)
    assert found == [alone(inner, state) for state in wanted]


def test_the_empty_state_is_neutral():
    """Merging the empty state changes no lane, and the empty state has no lane."""
    for spec in SPECS:
        lanes = reducer(dataclasses.replace(spec, lanes=LANES))
        state = started(lanes, range(LANES * INNER), [0, 0, 1, 1, 2, 1])
        empty = compiled(lanes.empty)(state)
        assert each(lanes, State(empty.value, empty.weight)) == [None] * LANES
        assert each(lanes, compiled(lanes.merge)(empty, state)) == each(lanes, state)
