"""``integrations.linen``: scopes from the paths of modules."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import jaxboard as jb
from jaxboard.integrations import linen
from jaxboard.testing import capture


class Block(nn.Module):
    def setup(self):
        self.dense = nn.Dense(2, kernel_init=nn.initializers.ones)

    def __call__(self, x):
        return self.scaled(self.dense(x))

    def scaled(self, x):
        jb.scalar("max", x.max())
        return x / 2


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        jb.scalar("input", x.max())
        for _ in range(2):
            x = Block()(x)
        return nn.remat(Block)(name="last")(x)


def test_scopes():
    """Each module has its path as the prefix, in jitted code and under a transformation; without the block, none has."""
    model, x = Model(), jnp.ones((1, 2))
    with jb.silent():
        params = model.init(jax.random.key(0), x)

    def loss(params):
        y: Any = model.apply(params, x)
        return y.sum()

    @jb.instrument
    @jax.jit
    def step(params):
        with linen.scopes():
            jax.grad(loss)(params)
        loss(params)

    with capture() as records:
        step(params)
    assert {record.tag: float(record.value) for record in records} == {
        "input": 1.0,
        "Block_0/max": 2.0,
        "Block_1/max": 2.0,
        "last/max": 2.0,
        "max": 2.0,
    }
