"""``instrument(step=)`` over a state whose step starts as an integer of Python or NumPy."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from compilations import compilations
from flax.training.train_state import TrainState

import jaxboard as jb
from jaxboard.testing import capture


class State(NamedTuple):
    weights: Any
    step: Any


def states():
    adam = optax.adam(0.1)
    weights = {"w": jnp.ones(4)}
    yield TrainState.create(apply_fn=lambda p, x: x @ p["w"], params=weights, tx=adam)
    yield State(weights, 0)
    yield {"weights": weights, "step": 7}
    yield State(weights, np.int32(4))
    yield {"weights": weights, "step": np.array(5)}


def update(state, x):
    jb.scalar("loss", x.sum())
    if isinstance(state, TrainState):
        return state.apply_gradients(grads=state.params)
    if isinstance(state, State):
        return State(state.weights, state.step + 1)
    return {**state, "step": state["step"] + 1}


def step_of(state, *_):
    return state["step"] if isinstance(state, dict) else state.step


@pytest.mark.parametrize("donate", [(), (0,)], ids=["kept", "donated"])
@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("state", list(states()), ids=lambda state: type(state).__name__)
def test_one_compilation(state, offset, donate):
    """A step that is an integer in the first state and an array afterwards needs one program, as without jaxboard."""
    state = jax.tree.map(
        lambda leaf: leaf if isinstance(leaf, int | np.generic) else leaf.copy(), state
    )
    jitted = jax.jit(update, donate_argnums=donate)
    step = jb.instrument(jitted, step=lambda state, *_: step_of(state) + offset)
    first = int(step_of(state) + offset)
    x = jnp.ones((8, 4))
    with capture() as records, compilations("update") as compiled:
        for _ in range(4):
            state = step(state, x)
    assert len(compiled) == 1
    assert [record.step for record in records] == [first, first + 1, first + 2, first + 3]


def test_an_integer_of_the_call_is_known_to_the_host():
    """An integer argument stays a step of the host, and step= is called once per call."""
    calls = []

    def count(i, state):
        calls.append(i)
        return i

    step = jb.instrument(jax.jit(lambda i, state: update(state, state.weights["w"])), step=count)
    state = State({"w": jnp.ones(4)}, 0)
    with capture() as records:
        for i in range(10, 13):
            state = step(i, state)
    assert calls == [10, 11, 12]
    assert [record.step for record in records] == [10, 11, 12]


def test_a_function_that_counts():
    """``step=`` may count its calls: it is called once for each call."""
    numbers = iter(range(100, 200))
    step = jb.instrument(jax.jit(update), step=lambda *_: next(numbers))
    state = State({"w": jnp.ones(4)}, 0)
    with capture() as records:
        for _ in range(3):
            state = step(state, jnp.ones(4))
    assert [record.step for record in records] == [100, 101, 102]
