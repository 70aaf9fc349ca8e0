"""Steps on which nothing is due run exactly the program of the function without reports."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import optax
import pytest
from flax import nnx
from jax import lax

import jaxboard as jb
from jaxboard._trace import context
from jaxboard.testing import capture

X = jnp.linspace(-1.0, 1.0, 12).reshape(3, 4)


def value(report, x):
    y = jnp.tanh(x)
    report(y)
    return (y**2).sum()


def gradient(report, x):
    return jax.grad(lambda x: value(report, x))(x)


def scanned(report, x):
    def body(c, row):
        report(row * c)
        return c + row.sum(), row * 2

    return lax.scan(body, 1.0, x)


def looped(report, x):
    def body(state):
        i, x = state
        report(x)
        return i + 1, x * 1.5

    return lax.while_loop(lambda state: state[0] < 5, body, (0, x))


def branched(report, x):
    def one(x):
        report(x)
        return x * 2

    return lax.cond(x.sum() > 0, one, lambda x: x, x)


def mapped(report, x):
    return jax.vmap(lambda row: value(report, row))(x)


def rematerialized(report, x):
    layer = jax.checkpoint(lambda x: value(report, x) * x)
    return jax.grad(lambda x: layer(layer(x)).sum())(x)


def custom(report, x):
    @jax.custom_vjp
    def f(x):
        return jnp.sin(x)

    def forward(x):
        report(x)
        return jnp.sin(x), x

    def backward(x, ct):
        report(ct)
        return (ct * jnp.cos(x),)

    f.defvjp(forward, backward)
    return jax.grad(lambda x: f(x).sum())(x)


def optimized(report, x):
    optimizer = optax.adam(1e-2)
    state = optimizer.init(x)
    updates, state = optimizer.update(gradient(report, x), state, x)
    report(updates)
    return optax.apply_updates(x, updates), state


def tapped(report, x):
    """Differentiate through a tap under a map whose lanes are the second axis."""

    def loss(column):
        report(column)
        column = jb.tap("tap", column, every=10, reduce="last")
        return jnp.tanh(jnp.sin(column) @ jnp.arange(6.0).reshape(3, 2)).sum()

    return jax.grad(lambda x: jax.vmap(loss, in_axes=1)(x).sum())(x)


def scanned_gradient(report, x):
    def layer(row, _):
        y = jnp.tanh(row @ x.T @ x)
        report(y)
        return y, None

    return jax.grad(lambda row: lax.scan(layer, row, length=3)[0].sum())(x[0])


def report_all(x):
    jb.histogram("histogram", x, every=10)
    jb.watch("watch", {"x": x}, every=10)
    jb.scalar("last", x.sum(), every=10, reduce="last")
    jb.image("image", jnp.broadcast_to(x.reshape(-1)[:1, None, None], (2, 2, 1)), every=10)


def optimized_hlo(program, *args):
    """Return the program as XLA runs it, without the metadata of its source."""
    text = program.lower(*args).compile().as_text()
    text = re.sub(r", metadata=\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "", text)
    # The module and the computations are named after the functions.
    text = re.sub(r"HloModule \S+,", "HloModule,", text)
    body, *_ = re.split(r"\n(?=FileNames|StackFrames)", text)
    return body


STEPS = [
    value,
    gradient,
    scanned,
    looped,
    branched,
    mapped,
    rematerialized,
    custom,
    optimized,
    tapped,
    scanned_gradient,
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_nothing_due_leaves_nothing_in_the_program(step):
    """When nothing is due, the optimized HLO equals that of the step without its reports."""

    def reporting(x):
        return step(report_all, x)

    def bare(x):
        with context.override(silenced=True):
            return step(lambda _: None, x)

    instrumented = jb.instrument(jax.jit(reporting))
    not_due = optimized_hlo(instrumented._programs.plain(frozenset({10})), X)
    due = optimized_hlo(instrumented._programs.plain(frozenset()), X)
    expected = optimized_hlo(jax.jit(bare), X)
    assert not_due == expected
    assert due != expected


def test_nothing_due_under_nnx_jit():
    """The compiled program of a step of nnx.jit is the one without reports if nothing is due."""

    def step(report, model, x):
        def loss(model):
            y = model(x)
            report(y)
            return (y**2).mean()

        gradients = nnx.grad(loss)(model)
        report(gradients["kernel"][...])
        model.kernel[...] = model.kernel[...] - gradients["kernel"][...]

    def reporting(model, x):
        step(report_all, model, x)

    def bare(model, x):
        step(lambda _: None, model, x)

    def hlo(wrapper, choose):
        """Return the HLO of a program of the function in nnx's wrapper, lowered where the wrapper calls it."""
        texts = []
        inner = wrapper.jitted_fn

        def lowered(*args):
            texts.append(optimized_hlo(choose(inner), *args))
            return inner(*args)

        wrapper.jitted_fn = lowered
        with capture():
            wrapper(nnx.Linear(4, 2, rngs=nnx.Rngs(0)), X)
        return texts[0]

    not_due = hlo(jb.instrument(nnx.jit(reporting)), lambda f: f._programs.plain(frozenset({10})))
    assert not_due == hlo(nnx.jit(bare), lambda f: f)
