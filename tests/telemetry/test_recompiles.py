"""Recompile alarms name the argument that changed, appear once per cause, and are never false."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink

X = np.arange(4, dtype=np.float32)


class Alarms:
    """The recompile alarms of a run: text entries with their lines, and log messages."""

    def __init__(self, caplog):
        self.sink = MemorySink()
        self.caplog = caplog

    @property
    def entries(self):
        return [
            (record.step, record.tag, re.findall(r"^- `(.*)`$", record.value, re.MULTILINE))
            for record in self.sink.records
            if record.tag.startswith("jaxboard/recompiles/")
        ]

    @property
    def lines(self):
        return [lines for _, _, lines in self.entries]

    @property
    def logged(self):
        return [re.sub(r"\d+\.\d\d s", "T s", r.getMessage()) for r in self.caplog.records]


@pytest.fixture
def alarms(caplog):
    caplog.set_level(logging.WARNING, logger="jaxboard")
    return Alarms(caplog)


@contextlib.contextmanager
def run_with(alarms, **options):
    with jb.Run(None, sinks=[alarms.sink], **options) as run:
        yield run


@jax.jit
def total(batch, scale=1.0):
    return batch["x"].sum() * scale


def test_a_loop_that_recompiles(alarms):
    """Each alarm names what changed and how: shape, dtype, weak type, sharding, static value, structure."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, P("data"))

    @jb.instrument
    @partial(jax.jit, static_argnames="mode")
    def train_step(batch, scale, mode="sum"):
        return getattr(batch["x"], mode)() * scale

    x = np.ones((8, 4), np.float32)
    one = jnp.float32(1)
    with run_with(alarms):
        train_step({"x": x}, one)
        train_step({"x": x}, one)
        train_step({"x": x[:6]}, one)
        train_step({"x": x.astype(np.float16)}, one)
        train_step({"x": x}, 1.0)
        train_step({"x": jax.device_put(x, split)}, one)
        train_step({"x": x}, one, mode="mean")
        train_step({"x": x}, one, mode="max")
        train_step({"x": x, "mask": x}, one)
        train_step({"x": x}, scale=one)
        train_step({"x": x}, one)
    assert alarms.entries == [
        (step, "jaxboard/recompiles/train_step", [line])
        for step, line in [
            (2, "batch['x']: float32[8,4] -> float32[6,4] (shape)"),
            (3, "batch['x']: float32[8,4] -> float16[8,4] (dtype)"),
            (4, "scale: float32[] -> weak float32[] (weak type)"),
            (
                5,
                (
                    "batch['x']: float32[8,4] on no device in particular -> float32[8,4] on "
                    "mesh(data=8) as P('data') (sharding)"
                ),
            ),
            (6, "mode: not given -> 'mean' (structure)"),
            (7, "mode: 'mean' -> 'max' (static value)"),
            (8, "batch['mask']: absent -> float32[8,4] (structure)"),
            (9, "scale: given by position -> given by keyword (structure)"),
        ]
    ]
    assert len(alarms.logged) == 8


def test_the_message(alarms):
    """The message has the function, the step, the change, the step it is compared with, and advice."""
    step = jb.instrument(total)
    with run_with(alarms):
        for rows in (32, 32, 17):
            step({"x": np.ones((rows, 2), np.float32)})
    (message,) = alarms.logged
    assert message == (
        "jaxboard: total was compiled again at step 2 (T s). Changed since step 0:\n"
        "    batch['x']: float32[32,2] -> float32[17,2] (shape)\n"
        "    Pad or drop smaller batches (often the last one), or round lengths up to a few sizes."
    )
    (entry,) = [r for r in alarms.sink.records if r.kind is Kind.TEXT]
    assert re.sub(r"\d+\.\d\d s", "T s", entry.value) == (
        "**total** was compiled again at step 2 (T s). Changed since step 0:\n\n"
        "- `batch['x']: float32[32,2] -> float32[17,2] (shape)`\n\n"
        "Pad or drop smaller batches (often the last one), or round lengths up to a few sizes."
    )


def test_once_per_cause(alarms):
    """A shape that never repeats is logged once; each compilation has a text entry."""
    step = jb.instrument(total)
    with run_with(alarms):
        for rows in range(1, 6):
            step({"x": np.ones((rows, 2), np.float32)})
    assert len(alarms.logged) == 1
    assert [step for step, _, _ in alarms.entries] == [1, 2, 3, 4]


def test_shapes_that_come_back(alarms):
    """Alternating shapes compile twice and raise one alarm."""
    step = jb.instrument(total)
    with run_with(alarms):
        for rows in (4, 5, 4, 5, 4):
            step({"x": np.ones((rows, 2), np.float32)})
    assert len(alarms.entries) == 1


def test_comparison_with_the_nearest_call(alarms):
    """The alarm compares with the known call that differs least."""
    step = jb.instrument(total)
    x = np.ones((4, 2), np.float32)
    with run_with(alarms):
        step({"x": x}, np.float32(1))
        step({"x": x.astype(np.int32)}, np.float32(1))
        step({"x": x}, np.int32(1))
    assert alarms.lines[1] == ["scale: float32[] -> int32[] (dtype)"]


def test_several_changes_in_one_call(alarms):
    """An alarm lists the first eight of several changes."""
    step = jb.instrument(jax.jit(lambda xs: sum(x.sum() for x in xs)))
    with run_with(alarms):
        step([np.ones(2)] * 10)
        step([np.ones(3)] * 10)
    (lines,) = alarms.lines
    assert lines[:2] == [
        "xs[0]: float32[2] -> float32[3] (shape)",
        "xs[1]: float32[2] -> float32[3] (shape)",
    ]
    assert len(lines) == 9
    assert lines[8] == "and 2 more"


def test_static_metadata_of_a_pytree(alarms):
    """If only a static field differs, the alarm shows where the structures differ."""

    @partial(jax.tree_util.register_dataclass, data_fields=["w"], meta_fields=["name"])
    @dataclasses.dataclass
    class State:
        w: jax.Array
        name: str

    step = jb.instrument(jax.jit(lambda state: state.w * 2))
    with run_with(alarms):
        step(State(jnp.ones(2), "first"))
        step(State(jnp.ones(2), "second"))
    ((line,),) = alarms.lines
    assert line.startswith("state: ...")
    assert "first" in line
    assert "second" in line
    assert line.endswith("(structure)")


def test_own_variants_raise_no_alarm(alarms):
    """A second program of jaxboard, for steps with a due histogram, raises no alarm."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        jb.scalar("mean", x.mean())
        jb.histogram("x", x, every=3)
        return x * 2

    with run_with(alarms, telemetry=True):
        for _ in range(7):
            train_step(jnp.ones(4))
    assert alarms.entries == []
    assert alarms.logged == []
    counts = [r.value for r in alarms.sink.records if r.tag.endswith("train_step/count")]
    assert counts == [1, 2]


def test_the_second_program_is_logged(alarms):
    """The program that is compiled after the first is logged once, at level INFO, with its step and duration."""
    alarms.caplog.set_level(logging.INFO, logger="jaxboard")

    def sampling(x):
        jb.scalar("mean", x.mean(), every=2)
        jb.histogram("x", x, every=3)

    functions: list[Any] = [jb.instrument(jax.jit(sampling)) for _ in range(2)]
    train_step, prepared = functions
    with run_with(alarms) as run:
        for _ in range(13):
            train_step(X)
        run.step = 0
        prepared.precompile(X)
        for _ in range(13):
            prepared(X)
    (line,) = [line for line in alarms.logged if "program" in line]
    assert line == (
        "jaxboard: sampling compiled another program at step 1 (T s). One is for the steps on which a report with "
        "every= is due, one for the others. Its precompile() compiles both before the loop."
    )


def test_own_variants_of_several_shapes(alarms):
    """With two shapes, each with and without a histogram, only the shape raises an alarm."""

    @jb.instrument
    @jax.jit
    def train_step():
        return 1

    @jb.instrument(advance=False)
    @jax.jit
    def evaluate(x):
        jb.histogram("x", x, every=2)
        return x * 2

    with run_with(alarms):
        for _ in range(4):
            train_step()
            for rows in (4, 5):
                evaluate(np.ones(rows))
    assert alarms.entries == [
        (0, "jaxboard/recompiles/evaluate", ["x: float32[4] -> float32[5] (shape)"])
    ]


@pytest.mark.parametrize("axis_type", [AxisType.Auto, AxisType.Explicit])
def test_another_spelling_of_a_sharding_is_no_change(alarms, axis_type):
    """JAX compiles once for P("model") and P("model", None): neither is the cause of a compilation."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(axis_type,) * 2)
    step = jb.instrument(jax.jit(lambda x: x + 1), name="step")
    first, same, other = (
        jax.device_put(jnp.zeros((8, 8)), NamedSharding(mesh, spec))
        for spec in (P("model", None), P("model"), P("data"))
    )
    with run_with(alarms):
        step(first)
        jax.clear_caches()
        step(same)
        step(other)
    assert alarms.lines == [
        [],
        [
            (
                "x: float32[8,8] on mesh(data=2, model=4) as P('model', None) -> float32[8,8] on "
                "mesh(data=2, model=4) as P('data') (sharding)"
            )
        ],
    ]
    unchanged, sharding = alarms.logged
    assert unchanged.startswith(
        "jaxboard: step was compiled again at step 1 (T s). None of its arguments changed."
    )
    assert sharding.endswith(
        "\n    Give the argument the same sharding in each call: jax.device_put(x, sharding) before the loop."
    )


def test_the_second_program_with_another_spelling(alarms):
    """The second program of a step raises no alarm if the step returns its state with another spelling."""
    mesh = jax.make_mesh((2, 4), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    @jb.instrument
    @jax.jit
    def step(w):
        jb.scalar("w", w.sum(), every=2)
        return w

    with run_with(alarms):
        for spec in (P("model", None), P("model"), P("model")):
            step(jax.device_put(jnp.zeros((8, 8)), NamedSharding(mesh, spec)))
    assert not alarms.logged


def test_an_axis_of_one_device_is_in_the_type(alarms):
    """An explicit mesh axis of one device changes the type of an array, though not where it is."""
    mesh = jax.make_mesh((8, 1), ("data", "model"), axis_types=(AxisType.Explicit,) * 2)
    step = jb.instrument(jax.jit(lambda x: x + 1), name="step")
    with run_with(alarms):
        for spec in (P("data"), P("data", "model")):
            step(jax.device_put(jnp.zeros((8, 8)), NamedSharding(mesh, spec)))
    assert alarms.lines == [
        [
            (
                "x: float32[8,8] on mesh(data=8, model=1) as P('data') -> float32[8,8] on "
                "mesh(data=8, model=1) as P('data', 'model') (sharding)"
            )
        ]
    ]


def test_donated_arguments(alarms):
    """The shapes of donated arrays are compared after the call."""

    @jb.instrument
    @partial(jax.jit, donate_argnums=0)
    def train_step(state, x):
        return jax.tree.map(lambda leaf: leaf + x.sum(), state)

    with run_with(alarms):
        state = {"w": jnp.ones(3)}
        for rows in (2, 2, 1):
            state = train_step(state, np.ones(rows, np.float32))
    assert alarms.lines == [["x: float32[2] -> float32[1] (shape)"]]


def test_a_plain_function(alarms):
    """For a plain function, only programs that are compiled again raise an alarm."""
    inner = jax.jit(lambda x: x.sum())

    @jb.instrument
    def train_step(x, first):
        if not first:
            jnp.cumsum(np.ones(3))  # compiled for the first time at the second step
        return inner(x)

    with run_with(alarms):
        train_step(np.ones(4), True)
        train_step(np.ones(4), False)
        train_step(np.ones(5), False)
    assert alarms.lines == [["x: float32[4] -> float32[5] (shape)"]]


def test_functions_of_one_name(alarms):
    """Two functions with the same name have separate histories."""
    one, other = (jb.instrument(jax.jit(lambda x: x + 1), name="step") for _ in range(2))
    with run_with(alarms):
        one(np.ones(2))
        other(np.ones(3))
    assert alarms.entries == []


def test_functions_that_were_compiled_earlier(alarms):
    """New shapes raise an alarm for functions that were compiled ahead of time or in an earlier run."""
    step = jb.instrument(jax.jit(lambda x: x + 1), name="step")
    with jb.Run(None, sinks=[MemorySink()]):
        step(np.ones(2))
    ahead = jb.instrument(jax.jit(lambda x: x + 2), name="ahead")
    ahead.precompile(np.ones(2))  # type: ignore[attr-defined]
    with run_with(alarms):
        for each in (step, ahead):
            each(np.ones(2))
            each(np.ones(3))
    assert alarms.lines == [["x: float32[2] -> float32[3] (shape)"]] * 2


def test_a_recompile_without_a_change(alarms):
    """A recompile for unchanged arguments is reported with its possible causes."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        jb.scalar("mean", x.mean(), every=2)
        jb.histogram("x", x, every=3)
        return x * 2

    with run_with(alarms):
        for _ in range(7):
            train_step(np.ones(4))
        assert alarms.logged == []
        with jax.default_matmul_precision("highest"):
            train_step(np.ones(4))
    assert alarms.entries == [(7, "jaxboard/recompiles/train_step", [])]
    (message,) = alarms.logged
    assert message == (
        "jaxboard: train_step was compiled again at step 7 (T s). None of its arguments changed. "
        "Possible causes: jax.clear_caches(), a different "
        "jb.scope, or a changed JAX setting."
    )


def test_nested_runs(alarms):
    """An alarm goes to the run that the call belongs to, and compares calls of that run."""
    step = jb.instrument(total)
    outer = MemorySink()
    with jb.Run(None, sinks=[outer]):
        step({"x": np.ones((2, 2))})
        with run_with(alarms):
            step({"x": np.ones((3, 2))})
            step({"x": np.ones((4, 2))})
    assert alarms.lines == [["batch['x']: float32[3,2] -> float32[4,2] (shape)"]]
    assert outer.records == []


def test_alarms_can_be_disabled(alarms):
    """With telemetry=False there is no alarm."""
    step = jb.instrument(total)
    with run_with(alarms, telemetry=False):
        step({"x": np.ones((2, 2))})
        step({"x": np.ones((3, 2))})
    assert (alarms.sink.records, alarms.logged) == ([], [])
