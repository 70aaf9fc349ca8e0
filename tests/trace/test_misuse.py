"""``instrument`` refuses objects that are certainly not a step, and accepts every other callable."""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flax import nnx

import jaxboard as jb
from jaxboard.testing import capture


class Trainer:
    def step(self, x):
        jb.histogram("x", x)
        return x

    def __call__(self, x):
        return self.step(x)


@pytest.mark.parametrize(
    ("passed", "name"),
    [
        (jax.jit, "jax.jit"),
        (functools.partial(jax.jit, static_argnums=0), "jax.jit"),
        (jax.grad, "jax.grad"),
        (jax.custom_jvp, "jax.custom_jvp"),
        (nnx.jit, "flax.nnx.jit"),
        (nnx.jit(static_argnums=0), "flax.nnx.jit"),
        (eqx.filter_jit, "equinox.filter_jit"),
    ],
    ids=["jit", "partial of jit", "grad", "custom_jvp", "nnx.jit", "nnx.jit()", "filter_jit"],
)
def test_transformations(passed, name):
    """A transformation in the place of a step raises an error that shows both right spellings."""
    with pytest.raises(jb.UsageError) as error:

        @jb.instrument(passed)
        def step(x):
            return x

    assert str(error.value) == (
        f"instrument({name}): expected a function that is a step, got a transformation of such functions. Put "
        f"@jaxboard.instrument on the line above @{name}, or write jaxboard.instrument({name}(step))."
    )


@pytest.mark.parametrize(
    ("passed", "message"),
    [
        (
            jb.scalar,
            (
                "instrument(jaxboard.scalar): expected a function that is a step, got a part of jaxboard. Instrument the "
                "function that uses it."
            ),
        ),
        (
            jb.Run,
            (
                "instrument(jaxboard.Run): expected a function that is a step, got a part of jaxboard. Instrument the "
                "function that uses it."
            ),
        ),
        (
            Trainer,
            (
                f"instrument({Trainer!r}): expected a function that is a step, got a class. Put @jaxboard.instrument "
                "above the method that is the step."
            ),
        ),
        (3, "instrument(3): expected a function."),
    ],
    ids=["verb", "part", "class", "value"],
)
def test_other_objects(passed, message):
    """A part of jaxboard, a class or a value in the place of a step raises an error that names it."""
    with pytest.raises(jb.UsageError) as error:
        jb.instrument(passed)
    assert str(error.value) == message


CALLABLES = {
    "object": Trainer(),
    "bound method": Trainer().step,
    "partial": functools.partial(Trainer.step, Trainer()),
    "partial of a verb": functools.partial(jb.histogram, "x"),
    "lambda": lambda x: jb.histogram("x", x),
    "jax.jit": jax.jit(Trainer().step),
    "jax.vmap": jax.vmap(Trainer()),
    "jax.custom_vjp": jax.custom_vjp(Trainer().step),
    "jax.named_scope": jax.named_scope("scope")(Trainer().step),
    "jb.scope": jb.scope("scope")(Trainer().step),
    "nnx.jit": nnx.jit(Trainer().step),
    "eqx.filter_jit": eqx.filter_jit(Trainer()),
}


@pytest.mark.parametrize("step", CALLABLES.values(), ids=CALLABLES)
def test_callables(step):
    """Any other callable is a step: an object, a partial, a bound method, the result of a transformation."""
    if isinstance(step, jax.custom_vjp):
        step.defvjp(lambda x: (x, None), lambda _, gradient: (gradient,))
    with capture() as records:
        jb.instrument(step)(jnp.ones(1))
    assert {record.step for record in records} == {0}
