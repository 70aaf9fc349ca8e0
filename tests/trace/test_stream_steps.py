"""``instrument(stream=N, step=f)``: the steps of the iterations are values that the loops carry."""

# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jaxboard as jb
from jaxboard.testing import capture


def update(state, _=None):
    """Add 1 to the value and 64 to the environment steps, and report the value before."""
    jb.scalar("x", state["x"])
    jb.scalar("window", state["x"], every=128, reduce="sum")
    jb.scalar("sampled", state["x"], every=192, reduce="last")
    return {"x": state["x"] + 1, "env": state["env"] + 64}, None


def scanned(state, length):
    return lax.scan(update, state, length=length)[0]


def reversed_(state, length):
    return lax.scan(update, state, jnp.zeros(length), reverse=True)[0]


def until(state, length):
    stop = state["x"] + length
    return lax.while_loop(lambda state: state["x"] < stop, lambda s: update(s)[0], state)


def new_state(env=1000):
    return {"x": jnp.float32(0), "env": jnp.int32(env)}


def points(records, tag):
    return [(r.step, float(r.value)) for r in records if r.tag == tag]


@pytest.mark.parametrize("loop", [scanned, reversed_, until], ids=lambda loop: loop.__name__)
def test_environment_steps(loop):
    """Each iteration has the step that the carry holds at its start; windows and samples follow these steps, over calls too."""
    train = jb.instrument(
        jax.jit(loop, static_argnames="length"),
        stream=4,
        step=lambda state, length: state["env"],
    )
    state = new_state()
    with capture() as records:
        for length in (6, 3):
            state = train(state, length=length)
            jb.scalar("evaluation", state["x"])
    assert (float(state["x"]), int(state["env"])) == (9, 1000 + 9 * 64)
    steps = [1000 + 64 * n for n in range(9)]
    assert points(records, "x") == [(step, n) for n, step in enumerate(steps)]
    assert points(records, "evaluation") == [(steps[5], 6), (steps[8], 9)]
    windows = {}
    for n, step in enumerate(steps):
        end = min(-(-step // 128) * 128, steps[-1])
        windows[end] = windows.get(end, 0) + n
    assert points(records, "window") == list(windows.items())
    assert points(records, "sampled") == [(s, n) for n, s in enumerate(steps) if s % 192 == 0]


def test_iterations_with_the_same_step():
    """Iterations with the same step make one point, also if they are in several chunks."""

    @jb.instrument(stream=3, step=lambda state: state[1] // 2)
    @jax.jit
    def train(state):
        def body(state, _):
            x, env = state
            jb.scalar("mean", x)
            jb.scalar("count", x, reduce="count")
            return (x + 1, jnp.where(x % 4 == 3, env + 20, env)), None

        return lax.scan(body, state, length=12)

    with capture() as records:
        train((jnp.int32(0), jnp.int32(10)))
    assert points(records, "mean") == [(5, 1.5), (15, 5.5), (25, 9.5)]
    assert points(records, "count") == [(5, 4), (15, 4), (25, 4)]


def test_two_loops():
    """The second loop continues with the carry of the first. Reports around them have the steps of the nearest iteration."""

    @functools.partial(jb.instrument, stream=2, step=lambda state, scale: state["env"] * scale)
    @functools.partial(jax.jit, static_argnums=1, donate_argnums=0)
    def train(state, scale):
        jb.scalar("before", 1.0)
        state = scanned(state, 3)
        jb.scalar("between", 2.0)
        state = until(state, 2)
        jb.scalar("after", 3.0)
        return state

    with capture() as records:
        train(new_state(4), 10)
    assert points(records, "x") == [(40 + 640 * n, n) for n in range(5)]
    around = [points(records, tag) for tag in ("before", "between", "after")]
    assert around == [[(40, 1)], [(40 + 640 * 2, 2)], [(40 + 640 * 4, 3)]]


def test_a_loop_that_carries_something_else():
    """Without the argument in the carry, iterations count up from it, with a warning; from a constant, without."""

    def train(x, first):
        return lax.scan(lambda x, _: (x + 1, jb.scalar("x", x)), x, length=5)[0]

    streamed = jb.instrument(jax.jit(train), stream=2, step=lambda x, first: first, name="counts")
    with (
        capture() as records,
        pytest.warns(jb.JaxboardWarning, match="counts: no streamed loop carries an argument"),
    ):
        streamed(0.0, 100)
    assert points(records, "x") == [(100 + n, n) for n in range(5)]
    constant = jb.instrument(jax.jit(train), stream=2, step=lambda x, first: 7)
    with capture() as records:
        constant(0.0, 100)
    assert points(records, "x") == [(7 + n, n) for n in range(5)]


@pytest.mark.parametrize("result", [1.5, np.zeros(2, int), "x"], ids=str)
def test_results_that_are_not_steps(result):
    """A result that is not an integer raises an error that names the function."""
    train = jb.instrument(jax.jit(scanned, static_argnums=1), stream=2, step=lambda *_: result)
    with capture(), pytest.raises(jb.UsageError, match="scanned: instrument.step=.... returned"):
        train(new_state(), 3)


class Model(nnx.Module):
    """A model that counts its environment steps."""

    def __init__(self):
        self.x, self.env = nnx.Param(jnp.float32(0)), nnx.Variable(jnp.int32(100))


def test_modules():
    """``step=`` gets the modules of NNX and Equinox, as without ``stream=``."""

    @jb.instrument(stream=2, step=lambda model: model.env)
    @nnx.jit
    def train(model):
        @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)
        def body(model, _):
            jb.scalar("x", model.x[...])
            model.x[...] += 1
            model.env[...] += 10
            return model

        body(model, jnp.arange(3))

    class Agent(eqx.Module):
        x: jax.Array
        env: jax.Array
        name: str = eqx.field(static=True)

    @jb.instrument(stream=2, step=lambda agent, length: agent.env)
    @eqx.filter_jit
    def train_agent(agent, length):
        def body(agent, _):
            jb.scalar("agent", agent.x)
            return Agent(agent.x + 1, agent.env + 10, agent.name), None

        return lax.scan(body, agent, length=length)[0]

    with capture() as records:
        train(Model())
        train_agent(Agent(jnp.float32(0), jnp.int32(7), "a"), 3)
    assert points(records, "x") == [(100, 0), (110, 1), (120, 2)]
    assert points(records, "agent") == [(7, 0), (17, 1), (27, 2)]
