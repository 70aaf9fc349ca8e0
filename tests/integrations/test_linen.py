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


class Sowing(nn.Module):
    @nn.compact
    def __call__(self, x):
        self.sow("intermediates", "max", x.max())
        self.sow("intermediates", "all", {"x": x, "pair": (x.min(), x.max())})
        return 2 * x


class Twice(nn.Module):
    @nn.compact
    def __call__(self, x):
        block = Sowing(name="block")
        return block(block(x))


def test_sown():
    """Sown values have their paths as tags: numbers as scalars, arrays as histograms, all calls in one point."""

    @jb.instrument
    @jax.jit
    def step(x):
        _, variables = Twice().apply({}, x, mutable=["intermediates"])
        linen.sown(variables)
        linen.sown({})

    with capture() as records:
        step(jnp.array([1.0, 2.0]))
    found: dict[str, Any] = {record.tag: record.value for record in records}
    assert found.pop("block/all/x").counts.sum() == 4
    assert found == {"block/max": 3.0, "block/all/pair/0": 1.5, "block/all/pair/1": 3.0}


def test_overview():
    """Parameters with metadata have the same table as those without, abstract ones too."""
    init = nn.with_partitioning(nn.initializers.ones, (None, None))
    params = jax.eval_shape(nn.Dense(3, kernel_init=init).init, jax.random.key(0), jnp.ones(2))
    assert linen.overview(params).splitlines()[2:] == [
        "| `params/bias` | (3,) | float32 | 3 | 12 |",
        "| `params/kernel` | (2, 3) | float32 | 6 | 24 |",
        "| **total** | | | **9** | **36** |",
    ]
