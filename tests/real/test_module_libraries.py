"""Modules of Haiku and Penzai: scopes and names. ``tests/integrations`` has those of Flax and Equinox."""

# pyright: reportMissingImports=false

import pathlib
import re

import jax
import jax.numpy as jnp
import pytest

import jaxboard as jb
from jaxboard.integrations import haiku
from jaxboard.testing import capture

pytestmark = pytest.mark.real

DOCS = pathlib.Path(__file__).parents[2] / "docs"


def test_haiku():
    """Each module has its name as the prefix: under ``hk.scan``, and called by one that does not contain it."""
    hk = pytest.importorskip("haiku")

    class Block(hk.Module):
        def __init__(self, name=None):
            self.before_the_name = 1
            super().__init__(name)
            self.linear = hk.Linear(2, w_init=hk.initializers.Constant(1.0))

        def __call__(self, x):
            return self.scaled(self.linear(x))

        def scaled(self, x):
            jb.scalar("max", x.max())
            return x / 2

    class Net(hk.Module):
        def __call__(self, x):
            jb.scalar("input", x.max())
            x = hk.Sequential([Block(), Block()])(x)
            looped = Block("looped")
            return hk.scan(lambda x, _: (looped(x), None), looped(x), None, length=2)[0]

    @hk.transform
    def forward(x):
        return Net()(x)

    model = hk.without_apply_rng(forward)
    x = jnp.ones((1, 2))
    with jb.silent():
        params = model.init(jax.random.key(0), x)

    @jb.instrument
    @jax.jit
    def step(params):
        with haiku.scopes():
            return jax.grad(lambda params: model.apply(params, x).sum())(params)

    with capture() as records:
        step(params)
    assert {record.tag: float(record.value) for record in records} == {
        "net/input": 1.0,
        "net/sequential/block/max": 2.0,
        "net/sequential/block_1/max": 2.0,
        "net/looped/max": 2.0,
    }


def test_the_page_on_haiku(tmp_path, monkeypatch):
    """The code on the page runs as printed."""
    pytest.importorskip("haiku")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(
        r"^```python haiku\n(.*?)^```", (DOCS / "equinox.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    exec("\n".join(blocks), {"__name__": "__main__"})


def test_penzai():
    """Parameters have their path in the model, or their label in a tuple, and named arrays have no name of their own."""
    pz = pytest.importorskip("penzai.pz")
    mlps = pytest.importorskip("penzai.models.simple_mlp")
    model = mlps.MLP.from_config(name="mlp", init_base_rng=jax.random.key(0), feature_sizes=[2, 3])
    _, params = pz.unbind_params(model, freeze=True)
    with capture() as records:
        jb.watch("model", model, what="max")
        jb.watch("params", params, what="max")
        jb.scalars("loss", {"named": pz.nx.wrap(jnp.float32(1.0))})
    assert {record.tag for record in records} == {
        "model/max",
        "model/max/sublayers/0/sublayers/0/weights",
        "model/max/sublayers/0/sublayers/2/bias",
        "params/max",
        "params/max/mlp/Affine_0/AddBias.bias",
        "params/max/mlp/Affine_0/Linear.weights",
        "loss/named",
    }
