"""Results of instrumented training steps, compared bit by bit, on models whose rounding is sensitive."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from optimized import optimized_jit

import jaxboard as jb
from jaxboard.testing import capture

STEPS = 3


class ConvNet(nn.Module):
    """A convolution, batch normalization and a linear layer."""

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(16, (3, 3))(x.reshape(-1, 8, 8, 1))
        x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        return nn.Dense(10)(x.reshape(len(x), -1))


class MLP(nn.Module):
    """Two linear layers."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(32)(x)))


class Attention(nn.Module):
    """Attention over rows, with layer normalization and a residual."""

    @nn.compact
    def __call__(self, x):
        x = x.reshape(-1, 8, 8)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        return nn.Dense(10)(nn.gelu(x).mean(1))


class Recurrent(nn.Module):
    """A recurrent network: a scan over rows."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(jnp.asarray(nn.RNN(nn.GRUCell(16))(x.reshape(-1, 8, 8)))[:, -1])


MODELS = [ConvNet(), MLP(), Attention(), Recurrent()]
NAMES = [type(model).__name__ for model in MODELS]


class Training(NamedTuple):
    """The step function of a model, and its first state."""

    step: Callable[..., Any]
    state: Any


X = np.random.default_rng(0).random((64, 64), np.float32)


@functools.cache
def initial_variables(model):
    # Random numbers from NumPy, because `init` takes longer to compile than a step.
    shapes = jax.eval_shape(model.init, jax.random.key(1), X)
    random = np.random.default_rng(1)
    return jax.tree.map(lambda x: jnp.asarray(random.normal(0, 0.2, x.shape), x.dtype), shapes)


def training(model, report, *, extra=lambda grads: None):
    """Return the training of a model.

    Args:
        model: the model.
        report: called with the loss and the gradients.
        extra: returns what the step returns besides its state.
    """
    x = jnp.asarray(X)
    y = jnp.arange(64) % 10
    variables = initial_variables(model)
    optimizer = optax.adamw(5e-3, 0.9)

    def step(variables, optimizer_state):
        def loss_of(params):
            out, new = model.apply({**variables, "params": params}, x, mutable="batch_stats")
            return optax.softmax_cross_entropy_with_integer_labels(out, y).mean(), new

        (loss, new), grads = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        report(loss, grads)
        updates, optimizer_state = optimizer.update(grads, optimizer_state, variables["params"])
        params = optax.apply_updates(variables["params"], updates)
        return ({**new, "params": params}, optimizer_state), (loss, extra(grads))

    return Training(step, (variables, optimizer.init(variables["params"])))


def run(step, state):
    """Return the bytes of the state and the loss after each of a few steps."""
    trace = []
    with capture():
        for _ in range(STEPS):
            state, (loss, _) = step(*state)
            trace.append([np.asarray(x).tobytes() for x in jax.tree.leaves((state, loss))])
    return trace


def nothing(loss, grads):
    """Report nothing."""


@functools.cache
def run_bare(model, *, returns_gradients=False):
    """Return what ``run`` returns for the jitted step that reports nothing."""
    extra = (lambda grads: grads) if returns_gradients else lambda grads: None
    step, state = training(model, nothing, extra=extra)
    return run(optimized_jit(step), state)


def report_loss(loss, grads):
    """Report a value that the program returns anyway."""
    jb.scalar("loss", loss)


def report_histograms(loss, grads):
    """Keep the gradients alive."""
    jb.histogram("grads", grads)


def report_watch(loss, grads):
    """Keep the gradients alive, and measure them."""
    jb.watch("grads", grads)


@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_scalars_of_results(model):
    """Reporting a scalar that exists anyway leaves the results bit-identical."""
    step, state = training(model, report_loss)
    assert run(jb.instrument(optimized_jit(step)), state) == run_bare(model)


@pytest.mark.parametrize(
    ("model", "report"),
    [
        (MODELS[0], report_histograms),
        (MODELS[1], report_histograms),
        (MODELS[1], report_watch),
        (MODELS[2], report_watch),
    ],
    ids=["ConvNet-histograms", "MLP-histograms", "MLP-watch", "Attention-watch"],
)
def test_values_kept_alive(model, report):
    """With a histogram or watch, the results are bit-identical to those of a program that returns the values."""
    step, state = training(model, report)
    want = run_bare(model, returns_gradients=True)
    assert run(jb.instrument(optimized_jit(step)), state) == want


@pytest.mark.parametrize(
    ("options", "donate"), [({}, ()), ({}, (0, 1)), ({"gate": "cond"}, ()), ({"every": 2}, (0, 1))]
)
def test_exact(options, donate):
    """With exact=True, the results are bit-identical to those of the bare program, and all reports arrive."""

    def report(loss, grads):
        report_loss(loss, grads)
        report_watch(loss, grads)

    step, state = training(MODELS[0], report)
    step = jb.instrument(optimized_jit(step, donate_argnums=donate), exact=True, **options)
    assert run(step, jax.tree.map(jnp.copy, state)) == run_bare(MODELS[0])


def test_reports_of_exact():
    """exact=True reports what one program would, at the same steps, with each kind of step."""

    def body(n, x):
        jb.scalar("mean", x, every=2)
        jb.histogram("h", jnp.full(3, x), every=3)
        return n + 1, 2 * x

    steps: tuple[Any, ...] = ("auto", lambda n, x: n, lambda n, x: int(n))
    for step in steps:
        found = []
        for exact in (False, True):
            f = jb.instrument(optimized_jit(body), exact=exact, step=step)
            n, x = jnp.int32(0), 1.0
            with capture() as records:
                for _ in range(7):
                    n, x = f(n, x)
            found.append([(r.tag, r.step, str(r.value)) for r in records])
        assert found[0] == found[1]


def test_exact_needs_two_programs():
    """exact=True is refused where one program cannot be separated."""
    step = jax.jit(lambda x: x)
    refused: list[dict[str, Any]] = [
        {"stream": 2},
        {"delivery": "callback"},
        {"delivery": "output"},
    ]
    for options in refused:
        with pytest.raises(jb.UsageError, match="exact=True"):
            jb.instrument(step, exact=True, **options)
    with pytest.raises(jb.UsageError, match="exact=True"):
        jb.instrument(lambda x: x, exact=True)


def test_exact_in_a_trace():
    """A traced caller gets the reports of exact=True by callback."""
    inner = jb.instrument(jax.jit(lambda x: (jb.scalar("x", x), 2 * x)[1]), exact=True)
    with capture() as records:
        assert jax.jit(inner)(3.0) == 6.0
        jax.effects_barrier()
    assert [float(r.value) for r in records] == [3.0]


def test_exact_under_debug_nans():
    """exact=True reports NaN where JAX checks the results."""
    step = jb.instrument(
        optimized_jit(lambda x: (jb.scalar("x", x / 0.0 - x / 0.0), x)[1]), exact=True
    )
    with jax.debug_nans(True), capture() as records:
        assert step(1.0) == 1.0
    assert [np.isnan(r.value) for r in records] == [True]
