"""``jaxboard.integrations.optax``: reports from inside an optimizer do not change it."""

from __future__ import annotations

import re
from collections.abc import Hashable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxboard as jb
from jaxboard.integrations.optax import report, report_hyperparams
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


def injected(rate, **options):
    return optax.inject_hyperparams(optax.sgd)(rate, **options)


def test_hyperparameters_at_any_depth():
    """Injected numbers are found in every state, and have the values of the update; several states have distinct names."""
    schedule = optax.linear_schedule(1.0, 0.0, transition_steps=4)
    labels = {"w": "fast", "b": "slow"}
    groups: dict[Hashable, optax.GradientTransformation] = {
        "fast": injected(schedule),
        "slow": optax.chain(optax.clip(1.0), injected(0.25)),
    }
    optimizers = {
        "alone": injected(schedule),
        "chain": optax.chain(
            report("chain/in"), injected(schedule, momentum=0.5), report("chain/out")
        ),
        "groups": optax.multi_transform(groups, labels),
        "steps": optax.MultiSteps(optax.multi_transform(groups, labels), every_k_schedule=2),
        "two": optax.chain(injected(1.0), injected(2.0)),
        "none": optax.sgd(schedule),
    }

    @jb.instrument
    @jax.jit
    def step(states):
        for name, optimizer in optimizers.items():
            _, states[name] = optimizer.update(GRADS, states[name], PARAMS)
            report_hyperparams(states[name], tag=name)
        return states

    with capture() as records:
        states = {name: optimizer.init(PARAMS) for name, optimizer in optimizers.items()}
        for _ in range(3):
            states = step(states)
    rates = {}
    for record in records:
        if record.tag.endswith(("rate", "momentum")):
            rates.setdefault(record.tag, []).append(float(record.value))
    assert rates == {
        "alone/learning_rate": [1.0, 0.75, 0.5],
        "chain/learning_rate": [1.0, 0.75, 0.5],
        "chain/momentum": [0.5, 0.5, 0.5],
        "groups/fast/learning_rate": [1.0, 0.75, 0.5],
        "groups/slow/learning_rate": [0.25, 0.25, 0.25],
        "steps/fast/learning_rate": [1.0, 1.0, 1.0],
        "steps/slow/learning_rate": [0.25, 0.25, 0.25],
        "two/0/learning_rate": [1.0, 1.0, 1.0],
        "two/1/learning_rate": [2.0, 2.0, 2.0],
    }
    in_chain = [float(r.value) for r in records if r.tag == "chain/in/norm"]
    assert in_chain == [13.0, 13.0, 13.0]


@pytest.mark.parametrize("names", ["momentum", ["momentum"], ("momentum",)], ids=repr)
def test_selected_hyperparameters(names):
    """Only the hyperparameters with the given names are reported, from every state that has them."""
    optimizer = optax.chain(injected(1.0, momentum=0.5), injected(2.0))
    with capture() as records:
        report_hyperparams(optimizer.init(PARAMS), names=names)
    assert [(r.tag, float(r.value)) for r in records] == [("hyperparams/0/momentum", 0.5)]


@pytest.mark.parametrize("names", ["lr", ["learning_rate", "lr"], 3])
def test_names_that_no_hyperparameter_has(names):
    """The error has the names that the state has; a state without injected hyperparameters has nothing to report."""
    message = re.escape(f"names={names!r}") + ".* The state has 'learning_rate', 'momentum'\\."
    with capture() as records, pytest.raises(jb.ReportError, match=message):
        report_hyperparams(injected(1.0, momentum=0.5).init(PARAMS), names=names)
    report_hyperparams(optax.sgd(1.0).init(PARAMS), names=names)
    assert list(records) == []


def test_hyperparameters_of_an_nnx_optimizer():
    """The state of ``nnx.Optimizer`` is accepted as it is."""
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, injected(0.5), wrt=nnx.Param)

    @jb.instrument
    @nnx.jit
    def step(model, optimizer):
        gradients = nnx.grad(lambda model: model(jnp.ones(2)).sum())(model)
        optimizer.update(model, gradients)
        report_hyperparams(optimizer.opt_state, every=2)

    with capture() as records:
        step(model, optimizer)
    assert [(r.tag, float(r.value)) for r in records] == [("hyperparams/learning_rate", 0.5)]
