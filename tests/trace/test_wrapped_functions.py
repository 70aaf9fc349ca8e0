"""Every call of an instrumented function has its own step, however the jitted function is wrapped."""

import functools
import time
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxboard as jb
from jaxboard.testing import capture

STEPS = 30


def body(w, i):
    for _ in range(4):
        w = jnp.tanh(w @ w)
    jb.scalar("i", i.astype(jnp.float32))
    return w


class Trainer:
    def __init__(self, step):
        self._step = step

    def step(self, w, i):
        return self._step(w, i)


def timed(function):
    @functools.wraps(function)
    def wrapper(*args):
        began = time.perf_counter()
        result = function(*args)
        wrapper.seconds = time.perf_counter() - began
        return result

    return wrapper


WRAPPERS = {
    "method": lambda jitted: Trainer(jitted).step,
    "lambda": lambda jitted: lambda w, i: jitted(w, i),
    "partial": functools.partial,
    "functools.wraps": timed,
    "partial of a wrapper": lambda jitted: functools.partial(timed(jitted)),
}


def sharded_weights():
    mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    weights = jnp.ones((2, 200, 200)) / 200
    return jax.device_put(weights, NamedSharding(mesh, PartitionSpec("d")))


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_each_value_is_at_its_step(wrap):
    """Values that leave by callback from several devices are at the step of the call that made them."""
    step = jb.instrument(wrap(jax.jit(body)))
    w = sharded_weights()
    with warnings.catch_warnings(), capture() as records:
        warnings.simplefilter("ignore", jb.JaxboardWarning)
        for i in range(STEPS):
            w = step(w, jnp.asarray(i))
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(STEPS)]


def test_steps_set_by_hand_around_a_jitted_function():
    """Without instrument, ``run.step = i`` gives each call's values that step."""
    step = jax.jit(body)
    w = sharded_weights()
    with capture() as records:
        for i in range(STEPS):
            jb.current_run().step = i
            w = step(w, jnp.asarray(i))
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(STEPS)]


@pytest.mark.parametrize("wrap", [functools.partial, timed], ids=["partial", "functools.wraps"])
def test_a_wrapped_jitted_function_reports_as_hidden_outputs(wrap):
    """A partial of a jitted function, or a wrapper that names it, needs no callback and no warning."""
    step = jb.instrument(wrap(jax.jit(body)))
    with capture() as records:
        for i in range(3):
            step(jnp.ones((2, 4, 4)), jnp.asarray(i))
    assert [float(record.value) for record in records] == [0, 1, 2]


def test_cached_partial():
    """``nnx.cached_partial`` takes a step at each call and reports each loss."""
    model = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, x):
        def loss_fn(model):
            loss = (model(x) ** 2).mean()
            jb.scalar("loss", loss)
            return loss

        optimizer.update(model, nnx.grad(loss_fn)(model))

    step = jb.instrument(nnx.cached_partial(train_step, model, optimizer))
    with capture() as records:
        for _ in range(20):
            step(jnp.ones((8, 4)))
    assert [record.step for record in records] == list(range(20))
    values = [float(record.value) for record in records]
    assert values == sorted(values, reverse=True)
    assert values[-1] < values[0]


def test_a_timed_nnx_jit():
    """A wrapper made with ``functools.wraps`` around ``nnx.jit`` is called, and each call is a step."""
    model = nnx.Linear(2, 1, rngs=nnx.Rngs(0))

    @timed
    @nnx.jit
    def evaluate(model, x):
        jb.scalar("x", x.sum())
        return model(x)

    evaluate = jb.instrument(evaluate)
    with capture() as records:
        for i in range(4):
            evaluate(model, jnp.full((1, 2), float(i)))
    assert [(record.step, float(record.value)) for record in records] == [(i, 2 * i) for i in range(4)]


def test_filter_jit_of_a_module():
    """``eqx.filter_jit`` of a callable module reports each call at its step."""

    class Model(eqx.Module):
        weight: jax.Array

        def __call__(self, x):
            jb.scalar("x", x)
            return self.weight * x

    step = jb.instrument(eqx.filter_jit(Model(jnp.float32(2))))
    with capture() as records:
        for i in range(4):
            assert float(step(jnp.float32(i))) == 2 * i
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(4)]


def test_a_compiled_program():
    """What ``lower().compile()`` of the bare function returns takes steps when it is instrumented."""

    def step(w, i):
        jb.scalar("i", i.astype(jnp.float32))
        return w + 1

    compiled = jax.jit(step).lower(jnp.ones(2), jnp.int32(0)).compile()
    step = jb.instrument(compiled)
    with warnings.catch_warnings(), capture() as records:
        warnings.simplefilter("ignore", jb.JaxboardWarning)
        for i in range(10):
            step(jnp.ones(2), jnp.int32(i))
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(10)]


def test_instrumented_twice_through_a_wrapper():
    """A wrapper around an instrumented function that is instrumented again counts each call once."""
    with capture() as records:
        inner = jb.instrument(jax.jit(lambda x: (jb.scalar("x", x), x)[1]))
        try:
            outer = jb.instrument(timed(inner))
        except jb.UsageError:
            return
        for i in range(4):
            outer(jnp.float32(i))
        assert jb.current_run().step == 4
    assert [(record.step, float(record.value)) for record in records] == [(i, i) for i in range(4)]


def test_results_are_those_of_the_bare_function():
    """Waiting for callbacks changes no result."""
    jitted = jax.jit(body)
    step = jb.instrument(lambda w, i: jitted(w, i))
    w = bare = jnp.ones((2, 8, 8)) / 8
    with warnings.catch_warnings(), capture():
        warnings.simplefilter("ignore", jb.JaxboardWarning)
        for i in range(3):
            w = step(w, jnp.asarray(i))
    for i in range(3):
        bare = jitted(bare, jnp.asarray(i))
    assert np.asarray(w).tobytes() == np.asarray(bare).tobytes()
