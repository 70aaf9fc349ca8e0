"""``precompile``: no later call waits for the compiler."""

# pyright: reportAttributeAccessIssue=false, reportFunctionMemberAccess=false

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations
from flax import nnx

import jaxboard as jb
from jaxboard.testing import capture


@pytest.mark.parametrize("windowed", [True, False])
@pytest.mark.parametrize("shapes", [True, False])
def test_whatever_is_due(windowed, shapes):
    """After precompile() no step compiles anything, whatever is due on it."""

    @jb.instrument
    @jax.jit
    def prepared(x):
        jb.histogram("h", x, every=2)
        jb.image("i", x[:, None, None], every=3)
        if windowed:
            jb.scalar("w", x.sum(), every=6)
        return x * 2

    x = jnp.arange(4.0)
    with compilations("prepared") as seen:
        prepared.precompile(jax.ShapeDtypeStruct(x.shape, x.dtype) if shapes else x)
    assert len(seen) == 2  # due: nothing; something
    with compilations("prepared") as seen, capture() as records:
        for _ in range(13):
            prepared(x)
    assert seen == []
    assert [r.step for r in records if r.tag == "h"] == [0, 2, 4, 6, 8, 10, 12]
    assert [r.step for r in records if r.tag == "i"] == [0, 3, 6, 9, 12]
    assert [r.step for r in records if r.tag == "w"] == ([0, 6, 12] if windowed else [])


def training(state, xs):
    """Report in a loop each value, a window of two steps, and a sample on every third step."""

    def body(total, x):
        jb.scalar("x", x)
        jb.scalar("window", x, every=2)
        jb.scalar("sample", x, every=3, reduce="last")
        return total + x, None

    total, _ = jax.lax.scan(body, state["total"], xs)
    return {"step": state["step"] + 1, "total": total}


DELIVERIES = {
    # due: nothing; something
    "output": ({}, 2),
    "a step from an argument": ({"step": lambda state, xs: xs.ndim}, 2),
    "a step read from an array": ({"step": lambda state, xs: int(state["step"])}, 2),
    "a step on the device": ({"step": lambda state, xs: state["step"]}, 1),
    "a step computed on the device": ({"step": lambda state, xs: 2 * state["step"] + 1}, 1),
    "gate": ({"gate": "cond"}, 1),
    "callback": ({"delivery": "callback"}, 1),
    "stream": ({"stream": 2}, 1),
    # the same, and the program without reports
    "exact": ({"exact": True}, 3),
}


@pytest.mark.parametrize(("options", "count"), DELIVERIES.values(), ids=DELIVERIES)
def test_every_delivery(options, count):
    """Whatever the delivery, precompile() compiles exactly the programs that calls run."""
    step = jb.instrument(jax.jit(training, donate_argnums=0), **options)
    state, xs = {"step": jnp.int32(0), "total": jnp.float32(0)}, jnp.arange(3.0)
    with compilations("training") as seen:
        step.precompile(*jax.eval_shape(lambda *args: args, state, xs))
    assert len(seen) == count
    with compilations("training") as seen, capture() as records:
        for _ in range(7):
            state = step(state, xs)
        jax.block_until_ready(state)
        jax.effects_barrier()
    assert seen == []
    assert float(state["total"]) == 21.0
    assert {r.tag for r in records} >= {"x", "window"}


@pytest.mark.parametrize("options", [{}, {"stream": 2}], ids=["output", "stream"])
def test_while_results_are_checked(options):
    """Under jax_debug_nans the programs that calls then run are compiled."""
    step = jb.instrument(jax.jit(training), **options)
    state, xs = {"step": jnp.int32(0), "total": jnp.float32(0)}, jnp.arange(3.0)
    with jax.debug_nans(True):
        with compilations("training") as seen:
            step.precompile(state, xs)
        assert len(seen) == 1
        with compilations("training") as seen, capture():
            for _ in range(3):
                state = step(state, xs)
            jax.block_until_ready(state)
            jax.effects_barrier()
    assert seen == []


@pytest.mark.parametrize("kind", ["output", "gate", "stream", "a step on the device"])
def test_after_a_call(kind):
    """precompile() may follow a call, takes arrays too, and compiles what is missing."""
    options, _ = DELIVERIES[kind]
    step = jb.instrument(jax.jit(training), **options)
    state, xs = {"step": jnp.int32(0), "total": jnp.float32(0)}, jnp.arange(3.0)
    with capture():
        step(state, xs)
        step.precompile(state, jnp.arange(5.0))
        with compilations("training") as seen:
            for _ in range(7):
                step(state, jnp.arange(5.0))
            jax.effects_barrier()
    assert seen == []


def test_under_nnx_jit():
    """precompile() does not change a module, and no later step compiles anything."""

    @jb.instrument
    @nnx.jit
    def prepared(model, x):
        jb.scalar("w", (model(x) ** 2).mean(), every=3)
        model.kernel[...] = model.kernel[...] * 2

    model = nnx.Linear(4, 2, rngs=nnx.Rngs(0))
    before = np.asarray(model.kernel[...])
    with compilations("prepared") as seen:
        prepared.precompile(model, jnp.ones((3, 4)))
    assert len(seen) == 2
    np.testing.assert_array_equal(model.kernel[...], before)
    with compilations("prepared") as seen, capture() as records:
        for _ in range(5):
            prepared(model, jnp.ones((3, 4)))
    assert seen == []
    np.testing.assert_array_equal(model.kernel[...], before * 32)
    assert [r.step for r in records] == [0, 3, 4]


def test_three_cadences_under_nnx_jit():
    """A network that is watched, with histograms and images of another cadence, has one program besides the quiet one."""

    @jb.instrument
    @nnx.jit
    def train(model, images):
        def loss_fn(model):
            loss = model(images).mean()
            jb.scalar("loss", loss)
            jb.histogram("images", images, every=10)
            jb.image("image", images, every=25)
            return loss

        grads = nnx.grad(loss_fn)(model)
        jb.watch("gradients", grads, every=10)
        model.bias[...] -= grads["bias"][...]

    model = nnx.Conv(1, 2, (3, 3), rngs=nnx.Rngs(0))
    with compilations("train") as seen, capture() as records:
        for _ in range(51):
            train(model, jnp.ones((1, 4, 4, 1)))
    assert len(seen) == 2
    points = {tag: [r.step for r in records if r.tag == tag] for tag in ("image", "images")}
    assert points == {"image": [0, 25, 50], "images": [0, 10, 20, 30, 40, 50]}


def test_a_plain_function():
    """A function that is not jitted has no program to compile."""
    with pytest.raises(
        jb.UsageError, match="f.precompile..: a plain function has nothing to compile"
    ):
        jb.instrument(lambda x: x, name="f").precompile(1.0)
