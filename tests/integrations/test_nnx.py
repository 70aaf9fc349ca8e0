"""``integrations.nnx``: scopes from the paths of modules, sown values, tables of parameters."""

import contextlib
import pathlib
import pickle
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxboard as jb
from jaxboard.integrations.nnx import overview, scopes, sown
from jaxboard.testing import capture


class Block(nnx.Module):
    def __init__(self, rngs):
        self.w = nnx.Param(2 * jnp.ones(2))
        self.count = nnx.BatchStat(jnp.int32(0))

    def __call__(self, x):
        self.count[...] += 1
        return self.scaled(x)

    def scaled(self, x):
        jb.scalar("max", x.max())
        return x * self.w[...]


class Model(nnx.Module):
    def __init__(self, rngs):
        self.blocks = nnx.List([Block(rngs), Block(rngs)])
        self.stacked = nnx.vmap(lambda _: Block(rngs))(jnp.arange(3))
        self.head = Block(rngs)

    def __call__(self, x):
        jb.scalar("input", x.max())
        for block in self.blocks:
            x = block(x)
        x = nnx.scan(lambda x, block: block(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(
            x, self.stacked
        )
        return self.head.scaled(nnx.remat(lambda block, x: block(x))(self.head, x)).sum()


TAGS = {
    "input": 1.0,
    "blocks/0/max": 1.0,
    "blocks/1/max": 2.0,
    "stacked/max": 28 / 3,  # the mean of 4, 8 and 16
    "head/max": 48.0,  # the mean of 32 and 64
}


def values(records):
    return {record.tag: float(record.value) for record in records}


def gradient(model, x):
    return nnx.grad(lambda model: model(x))(model)


@jb.instrument
@nnx.jit
def step(model, x):
    with scopes(model):
        return gradient(model, x)


plain_step = jb.instrument(nnx.jit(gradient))


def test_scopes():
    """Each module has its path as the prefix, under all transformations; results and the model do not change."""
    model, bare, x = Model(nnx.Rngs(0)), Model(nnx.Rngs(0)), jnp.ones(2)
    structure = nnx.graphdef(model)
    with capture() as records:
        result = step(model, x)
    assert values(records) == pytest.approx(TAGS)
    assert nnx.graphdef(model) == structure
    expected = nnx.jit(gradient)(bare, x)
    for trees in ((result, expected), (nnx.state(model), nnx.state(bare))):
        jax.tree.map(np.testing.assert_array_equal, *trees)


def test_scopes_around_the_jitted_function():
    """A block around the calls has the same tags, and the next call without it has none."""
    model, x = Model(nnx.Rngs(0)), jnp.ones(2)
    with capture() as records:
        with scopes({"net": model}), jb.scope("train"):
            plain_step(model, x)
        plain_step(model, x)
    first = {f"train/net/{tag}": value for tag, value in TAGS.items() if tag != "input"}
    # The model is not the outermost object, so it has a prefix, too.
    first["train/net/input"] = 1.0
    assert values([r for r in records if r.step == 0]) == pytest.approx(first)
    assert {r.tag for r in records if r.step == 1} == {"input", "max"}


def test_modules_that_refuse_subclasses():
    """A module whose class has no subclasses reports in the scope of the module around it."""

    class Final(nnx.Module):
        def __init_subclass__(cls, **_):
            raise TypeError

        def __call__(self, x):
            jb.scalar("x", x)
            return x

    class Pair(nnx.Module, pytree=False):
        def __init__(self):
            self.final = Final()

        def __call__(self, x):
            return self.final(x)

    model = nnx.Sequential(Pair(), Pair())
    with capture() as records, scopes(model):
        model(1.0)
    assert {record.tag for record in records} == {"layers/0/x", "layers/1/x"}


def test_scopes_of_several_threads():
    """Blocks of two threads may end in any order: each has its tags to its end, and none is left afterwards."""
    model, x = Model(nnx.Rngs(0)), jnp.ones(2)
    first, second = scopes(model), scopes({"net": model})
    with capture() as records:
        with contextlib.ExitStack() as stack:
            first.__enter__()
            stack.enter_context(second)
            first.__exit__(None, None, None)
            model.head(x)
        model.head(x)
    assert [record.tag for record in records] == ["net/head/max", "max"]
    assert type(model.head) is Block


def test_a_model_is_pickled_in_a_block():
    """A model that is pickled in a block has the classes that it has outside, and so has its graph definition."""
    model = Model(nnx.Rngs(0))
    with scopes(model):
        pickled = pickle.dumps((model, nnx.graphdef(model)))
    other, structure = pickle.loads(pickled)
    assert nnx.graphdef(other) == structure == nnx.graphdef(model)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, nnx.state(other), nnx.state(model)))


def test_sown():
    """Sown values have their paths as tags: numbers as scalars, arrays as histograms, all calls in one point."""
    block = nnx.Dict(
        max=nnx.Intermediate((jnp.float32(1.0), jnp.float32(3.0))),
        all=nnx.Intermediate(({"x": jnp.arange(4.0), "pair": (1.0, 2.0)},)),
        kernel=nnx.Param(jnp.ones(2)),
    )
    model = nnx.Dict(blocks=nnx.List([block]))
    for source in (model, nnx.state(model)):
        with capture() as records:
            sown(source)
        found: dict[str, Any] = {record.tag: record.value for record in records}
        assert found.pop("blocks/0/all/x").counts.sum() == 4
        assert found == {
            "blocks/0/max": 2.0,
            "blocks/0/all/pair/0": 1.0,
            "blocks/0/all/pair/1": 2.0,
        }


def test_sown_of_a_filter():
    """``only=`` selects other variables, and ``every=`` the steps."""
    model = nnx.Dict(a=nnx.Cache(jnp.ones(2)), b=nnx.Intermediate(jnp.float32(2.0)))
    with capture() as records:
        for _ in range(2):
            jb.instrument(sown)(model, only=nnx.Cache, every=2)
    assert [(record.tag, record.step) for record in records] == [("a", 0)]


@pytest.mark.skipif(not hasattr(nnx, "capture"), reason="Flax before 0.12.6")
def test_sown_of_a_capture(tmp_path, monkeypatch):
    """The code on the page that needs ``nnx.capture`` runs as printed."""
    monkeypatch.chdir(tmp_path)
    page = (pathlib.Path(__file__).parents[2] / "docs" / "nnx.md").read_text()
    (block,) = re.findall(r"^```python capture\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(block, {"__name__": "__main__", "jb": jb, "nnx": nnx, "sown": sown, "x": jnp.ones((8, 4))})


def test_overview():
    """An abstract model has the same table; a filter selects variables, and ``...`` all of them."""
    model = nnx.eval_shape(
        lambda: nnx.Dict(dense=nnx.Linear(2, 3, rngs=nnx.Rngs(0)), rng=nnx.Rngs(0))
    )
    rows = overview(model).splitlines()
    assert rows[2:] == [
        "| `dense/bias` | (3,) | float32 | 3 | 12 |",
        "| `dense/kernel` | (2, 3) | float32 | 6 | 24 |",
        "| **total** | | | **9** | **36** |",
    ]
    assert len(overview(nnx.state(model), only=...).splitlines()) == len(rows) + 2
