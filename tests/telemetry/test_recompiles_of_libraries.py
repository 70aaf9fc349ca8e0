"""Recompile alarms of ``eqx.filter_jit`` and ``nnx.jit`` name the arguments that the user passed."""

import functools
import re
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from by_hand import Started
from flax import nnx

import jaxboard as jb
from jaxboard._host.observers import Call, registry
from jaxboard._telemetry.compilations import Compilation
from jaxboard._telemetry.recompiles import RecompileDetector
from jaxboard.sinks import MemorySink


def lines_of(sink):
    entries = [r.value for r in sink.records if r.tag.startswith("jaxboard/recompiles/")]
    return [re.findall(r"^- `(.*)`$", entry, re.MULTILINE) for entry in entries]


def test_filter_jit():
    """Static values, leaves that appear, and shapes are named as in the user's call."""

    class Model(eqx.Module):
        weight: jax.Array
        bias: jax.Array | None
        size: int

    @jb.instrument
    @eqx.filter_jit
    def step(model, x, i):
        return model.weight.sum() * x

    sink, x = MemorySink(), jnp.ones(3)
    model = Model(x, None, 1)
    with jb.Run(None, sinks=[sink]):
        step(model, x, 0)
        step(model, x, i=1)
        step(Model(x, x, 1), x, 0)
        step(Model(x, None, 2), x, 0)
        step(model, jnp.ones((2, 3)), 0)
    assert lines_of(sink) == [
        ["i: 0 -> 1 (static value)"],
        ["model.bias: absent -> float32[3] (structure)"],
        ["model.size: 1 -> 2 (static value)"],
        ["x: float32[3] -> float32[2,3] (shape)"],
    ]


def test_nnx_jit():
    """Attributes of modules, of an optimizer that shares them, and other arguments have their paths."""

    class Model(nnx.Module):
        def __init__(self, **options):
            self.a = nnx.Linear(3, 3, rngs=nnx.Rngs(0), **options)
            self.flag = 0

    @jb.instrument
    @functools.partial(nnx.jit, static_argnames="n")
    def step(model, optimizer, batch, *, n):
        gradients = nnx.grad(lambda model: (model.a(batch["x"]) ** 2).mean())(model)
        optimizer.update(model, gradients)

    model, sink = Model(), MemorySink()
    tx = optax.sgd(0.1)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)
    with jb.Run(None, sinks=[sink]):
        step(model, optimizer, {"x": jnp.ones((4, 3))}, n=1)
        step(model, optimizer, {"x": jnp.ones((3, 3))}, n=1)
        step(model, optimizer, {"x": jnp.ones((3, 3))}, n=2)
        model.flag = 1
        step(model, optimizer, {"x": jnp.ones((3, 3))}, n=2)
        other = Model(use_bias=False)
        other.flag = 1
        step(other, nnx.Optimizer(other, tx, wrt=nnx.Param), {"x": jnp.ones((3, 3))}, n=2)
    lines = lines_of(sink)
    assert lines[:3] == [
        ["batch['x']: float32[4,3] -> float32[3,3] (shape)"],
        ["n: 1 -> 2 (static value)"],
        ["model.flag: 0 -> 1 (static value)"],
    ]
    assert "model.a.bias: float32[3] -> absent (structure)" in lines[3]
    assert "model.a.use_bias: True -> False (static value)" in lines[3]


class Texts:
    def __init__(self):
        self.tags = []

    def text(self, step, tag, value):
        self.tags.append(tag)


def test_two_threads_that_compile_the_same_program():
    """Threads that compile one program at the same time raise no alarm; a later compilation does."""
    function, texts = jb.instrument(jax.jit(lambda x: x), name="step"), Texts()
    detector = RecompileDetector(texts)  # type: ignore[arg-type] (all that it uses)
    compilations = [Compilation(function.__name__, 0.0, 0.0, 0.0, cached=False)]  # type: ignore[attr-defined]

    def examine(since):
        call = Call(
            function,  # type: ignore[arg-type]
            "step",
            0,
            advance=True,
            args=(jnp.ones(2),),
            kwargs={},
            program=function._fn,  # type: ignore[attr-defined]
            since=since,
        )
        detector.examine(call, 0, compilations)

    before = registry.note_compilation() - 1
    examine(before)
    examine(before)
    assert texts.tags == []
    examine(registry.events)
    assert texts.tags == ["recompiles/step"]


def test_calls_on_threads_raise_no_alarm():
    """Calls with the same arguments on several threads raise no alarm."""
    sink, gate = MemorySink(), threading.Barrier(4)
    step = jb.instrument(jax.jit(lambda x: functools.reduce(lambda x, _: x @ x, range(50), x)))

    def call():
        gate.wait(60)
        for _ in range(3):
            step(jnp.ones((4, 4)))

    with jb.Run(None, sinks=[sink]):
        for thread in [Started(call) for _ in range(4)]:
            thread.join()
    assert lines_of(sink) == []
