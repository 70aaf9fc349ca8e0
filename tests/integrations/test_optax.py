"""``jaxboard.integrations.optax``: reports from inside an optimizer do not change it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxboard as jb
from jaxboard.integrations.optax import report
from jaxboard.testing import capture

PARAMS = {"w": jnp.array([6.0, 8.0]), "b": jnp.zeros(2)}
GRADS = {"w": jnp.array([3.0, 4.0]), "b": jnp.array([0.0, 12.0])}


def test_each_report_shows_its_place_in_the_chain():
    """Each report in a chain shows the output of the transformation before it; updates do not change."""
    bare = optax.chain(optax.scale(2.0), optax.scale(-0.5))
    reporting = optax.chain(report("in"), optax.scale(2.0), report("twice"), optax.scale(-0.5))

    @jb.instrument
    @jax.jit
    def step(grads, params, state):
        return reporting.update(grads, state, params)[0]

    with capture() as records:
        updates = step(GRADS, PARAMS, reporting.init(PARAMS))
    want = bare.update(GRADS, bare.init(PARAMS), PARAMS)[0]
    jax.tree.map(np.testing.assert_array_equal, updates, want)
    assert {record.tag: float(record.value) for record in records} == {
        "in/norm": 13.0,
        "in/norm/w": 5.0,
        "in/norm/b": 12.0,
        "in/ratio": 1.3,
        "in/ratio/w": 0.5,
        "twice/norm": 26.0,
        "twice/norm/w": 10.0,
        "twice/norm/b": 24.0,
        "twice/ratio": 2.6,
        "twice/ratio/w": 1.0,
    }


def test_without_parameters():
    """Without parameters there is no ratio; what= and every= are passed to watch."""
    optimizer = report("updates", what=("max", "nonfinite"), every=2)
    with capture() as records:
        for _ in range(3):
            jb.instrument(jax.jit(lambda g: optimizer.update(g, optax.EmptyState())[0]))(GRADS["b"])
    assert [(record.tag, record.step, float(record.value)) for record in records] == [
        ("updates/max", 0, 12.0),
        ("updates/nonfinite", 0, 0.0),
        ("updates/max", 2, 12.0),
        ("updates/nonfinite", 2, 0.0),
    ]


def test_inside_other_transformations():
    """Reports work inside Optax transformations that have a state."""
    inner = optax.chain(report("updates"), optax.sgd(1.0))
    optimizer = optax.apply_if_finite(inner, 2)

    @jb.instrument
    @jax.jit
    def step(grads, state):
        return optimizer.update(grads, state, PARAMS)

    with capture() as records:
        state = optimizer.init(PARAMS)
        for _ in range(2):
            _, state = step(GRADS, state)
    points = [(r.step, float(r.value)) for r in records if r.tag == "updates/norm"]
    assert points == [(0, 13.0), (1, 13.0)]
