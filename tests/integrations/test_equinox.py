"""``integrations.equinox``: scopes from the paths of modules, tables of parameters."""

from __future__ import annotations

import copy
import pickle

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard.integrations.equinox import overview, scopes
from jaxboard.testing import capture


class Block(eqx.Module):
    w: jax.Array

    def __call__(self, x):
        return self.scaled(x)

    def scaled(self, x):
        jb.scalar("max", x.max())
        return x * self.w

    @eqx.filter_jit
    def jitted(self, x):
        return self.scaled(x)

    @staticmethod
    def half(x):
        return x / 2

    @property
    def number(self):
        return 2.0


class Model(eqx.Module):
    blocks: list[Block]
    stacked: Block
    norm: eqx.nn.BatchNorm
    head: Block

    def __init__(self):
        self.blocks = [Block(jnp.full(2, 2.0)), Block(jnp.full(2, 2.0))]
        self.stacked = eqx.filter_vmap(Block)(jnp.full((3, 2), 2.0))
        self.norm = eqx.nn.BatchNorm(2, "batch", mode="batch")
        self.head = Block(jnp.ones(2))

    def __call__(self, x, state):
        jb.scalar("input", x.max())
        for block in self.blocks:
            x = block(x)
        arrays, static = eqx.partition(self.stacked, eqx.is_array)
        x, _ = lax.scan(lambda x, each: (eqx.combine(each, static)(x), None), x, arrays)
        _, state = self.norm(x, state)
        x = self.head.jitted(self.head.half(x) / self.head.number)
        return x.sum(), state


TAGS = {
    "input": 1.0,
    "blocks/0/max": 1.0,
    "blocks/1/max": 2.0,
    "stacked/max": 28 / 3,  # the mean of 4, 8 and 16
    "head/max": 8.0,
}


def loss(model, x, state):
    batched = jax.vmap(model, axis_name="batch", in_axes=(0, None), out_axes=(0, None))
    values, state = batched(x, state)
    return values.mean(), state


@jb.instrument(step=lambda model, number, *_: number)
@eqx.filter_jit
def step(model, number, x, state):
    return eqx.filter_grad(loss, has_aux=True)(model, x, state)


@jb.instrument
@eqx.filter_jit
def step_with_scopes(model, x, state):
    return eqx.filter_grad(lambda model: loss(scopes(model), x, state), has_aux=True)(model)


def test_scopes():
    """Each module has its path as the prefix, under all transformations, and results do not change."""
    model, state = eqx.nn.make_with_state(Model)()
    x, scoped = jnp.ones((4, 2)), scopes(model)
    with capture() as records:
        gradient, new_state = step(scoped, 7, x, state)
        step_with_scopes(model, x, state)
    for number in (7, 8):
        found = {r.tag: float(r.value) for r in records if r.step == number}
        assert found == pytest.approx(TAGS)
    with jb.silent():
        expected, expected_state = step(model, 7, x, state)
    for trees in ((gradient, expected), (new_state, expected_state)):
        for leaf, other in zip(*map(jax.tree.leaves, trees), strict=True):
            np.testing.assert_array_equal(leaf, other)
    # The gradient has the structure of the model that it belongs to.
    assert jax.tree.structure(gradient) == jax.tree.structure(eqx.filter(scoped, eqx.is_array))
    assert type(model.head) is Block
    assert isinstance(scoped.head, Block)


def test_several_models():
    """The keys of a dict begin the prefixes, and a scoped model can be scoped again."""
    models = scopes({"a": Block(jnp.ones(2)), "b": scopes([Block(jnp.ones(2))])})
    with capture() as records:
        models["a"](jnp.ones(2))
        models["b"][0](jnp.ones(2))
    assert [record.tag for record in records] == ["a/max", "b/0/max"]


def test_a_model_with_scopes_is_pickled():
    """A model with scopes can be copied and pickled, and has the same structure and arrays afterwards."""
    model = scopes([eqx.nn.Linear(2, 2, key=jax.random.key(0)), eqx.nn.Dropout()])
    assert pickle.loads(pickle.dumps(type(model[0]))) is type(model[0])
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert jax.tree.structure(other) == jax.tree.structure(model)
        assert eqx.tree_equal(other, model)


def test_overview():
    """The table lists the arrays of a model, abstract ones too, and leaves out functions."""
    model = eqx.filter_eval_shape(eqx.nn.MLP, 2, 1, 3, 1, key=jax.random.key(0))
    assert overview(model).splitlines()[2:] == [
        "| `layers/0/weight` | (3, 2) | float32 | 6 | 24 |",
        "| `layers/0/bias` | (3,) | float32 | 3 | 12 |",
        "| `layers/1/weight` | (1, 3) | float32 | 3 | 12 |",
        "| `layers/1/bias` | (1,) | float32 | 1 | 4 |",
        "| **total** | | | **13** | **52** |",
    ]
