"""Points of many values: a hint if nothing counts steps, none where many values are intended, and their merging."""

# pyright: reportOptionalMemberAccess=false

from __future__ import annotations

import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._log import forget_warnings
from jaxboard.records import Scalars
from jaxboard.sinks import MemorySink, Sink
from jaxboard.testing import capture


def report(x):
    jb.scalar("loss", x)
    jb.scalar("accuracy", x)
    return x + 1


def plain_loop():
    for i in range(100):
        report(float(i))


def loop_of_arrays():
    for _ in range(100):
        jb.histogram("loss", jnp.ones(2))


def jitted_loop():
    step = jax.jit(report)
    for i in range(100):
        step(jnp.float32(i))
    jax.effects_barrier()


@pytest.fixture(autouse=True)
def _all_warnings():
    forget_warnings()


@pytest.mark.parametrize("loop", [plain_loop, loop_of_arrays, jitted_loop])
def test_a_forgotten_step_is_logged_once(loop, caplog):
    """Many values of one tag without a step are logged once, with the tag and what to do."""
    with caplog.at_level(logging.WARNING, logger="jaxboard"), capture() as records:
        loop()
        loop()
    (message,) = [text for text in caplog.messages if "merged into one point" in text]
    assert re.search("values of '(loss|accuracy)' are merged into one point at step 0", message)
    for cure in ("for run.step in range(n)", "step=", "@jaxboard.instrument"):
        assert cure in message
    assert {record.step for record in records} == {0}


def evaluation():
    step = jb.instrument(jax.jit(report), advance=False)
    for i in range(300):
        step(jnp.float32(i))


def evaluation_on_the_host():
    jb.instrument(jax.jit(report))(1.0)
    for i in range(300):
        report(float(i))


def scan():
    body = lambda carry, x: (carry, report(x))  # noqa: E731
    jb.instrument(jax.jit(lambda xs: jax.lax.scan(body, 0, xs)))(jnp.arange(300.0))


def lanes():
    jb.instrument(jax.jit(jax.vmap(report)))(jnp.arange(300.0))
    jax.vmap(report)(jnp.arange(300.0))


def own_steps():
    for i in range(300):
        jb.scalar("loss", float(i), step=i // 200)


def epochs():
    run = jb.current_run()
    for run.step in range(2):
        for i in range(300):
            report(np.float32(i))


@pytest.mark.parametrize(
    "program", [evaluation, evaluation_on_the_host, scan, lanes, own_steps, epochs]
)
def test_points_of_many_values_on_purpose(program, caplog):
    """Evaluations, scans, lanes and explicit steps make points of many values, and no hint."""
    with caplog.at_level(logging.WARNING, logger="jaxboard"), capture():
        program()
    assert caplog.messages == []


def by_device(_, i):
    return i // 3


def by_host(_, i):
    return int(i) // 3


REPORTS = {
    "mean": (lambda x: jb.scalar("x", x), [1, 4, 6]),
    "sum": (lambda x: jb.scalar("x", x, reduce="sum"), [3, 12, 6]),
    "last": (lambda x: jb.scalar("x", x, reduce="last"), [2, 5, 6]),
    "histogram": (lambda x: jb.histogram("x", x), [3, 3, 1]),
    "window": (lambda x: jb.scalar("x", x, every=2), [1, 4.5]),
    "sampled": (lambda x: jb.scalar("x", x, every=2, reduce="last"), [2, 6]),
}


@pytest.mark.parametrize(
    ("step", "options"),
    [
        (by_host, {}),
        (by_host, {"gate": "cond"}),
        (by_device, {}),
        (by_device, {"delivery": "callback"}),
    ],
)
@pytest.mark.parametrize("kind", REPORTS)
def test_calls_with_one_step(kind, step, options):
    """The calls for which step= returns the same step make one point, as in gradient accumulation."""
    report, expected = REPORTS[kind]
    train = jb.instrument(jax.jit(lambda x, i: report(x)), step=step, **options)
    with capture() as records:
        for i in range(7):
            train(jnp.float32(i), jnp.int32(i) if step is by_device else i)
    counts = kind == "histogram"
    values = [int(r.value.counts.sum()) if counts else float(r.value) for r in records]
    assert [record.step for record in records] == ([0, 2] if len(expected) == 2 else [0, 1, 2])
    assert values == expected


class Batches(Sink):
    """Keeps the batches as they are."""

    def __init__(self):
        self.items = []

    def write(self, batch):
        self.items += batch

    def flush(self):
        pass

    def close(self):
        pass


def test_calls_with_one_step_and_a_flush_between_them():
    """A flush writes what there is of the last step; its last point has all values."""
    sink = MemorySink()
    train = jb.instrument(jax.jit(lambda i: jb.scalar("x", i.astype(float))), step=lambda i: i // 3)
    with jb.Run(None, sinks=[sink], flush_secs=3600) as run:
        for i in range(6):
            train(jnp.int32(i))
            if i == 4:
                run.flush()
    assert [(r.step, float(r.value)) for r in sink.records] == [(0, 1), (1, 3.5), (1, 4)]


@pytest.mark.parametrize("step", [lambda i: i, int], ids=["device", "host"])
def test_steps_of_single_calls_are_written_in_columns(step):
    """If each call has a step of its own, all points but the last are written in columns, and in order."""
    sink = Batches()

    def report(i):
        jb.scalar("x", jnp.float32(i))
        jb.histogram("h", i, every=10)

    train = jb.instrument(jax.jit(report), step=step)
    with jb.Run(None, sinks=[sink], flush_secs=3600) as run:
        for i in range(100):
            train(jnp.int32(i))
            if i == 50:
                run.flush()
    columns = [item.steps.tolist() for item in sink.items if isinstance(item, Scalars)]
    assert columns == [list(range(50)), list(range(51, 99))]
    records = [item for item in sink.items if not isinstance(item, Scalars)]
    assert [record.step for record in records if record.tag == "x"] == [50, 99]
    assert [record.step for record in records if record.tag == "h"] == list(range(0, 100, 10))


def test_an_evaluation_between_the_steps_is_written_in_order():
    """Evaluations with one call for each step are in the order of their steps, among several flushes."""
    sink = MemorySink()
    train = jb.instrument(jax.jit(lambda i: jb.scalar("x", i.astype(float))))
    evaluate = jb.instrument(jax.jit(lambda i: jb.scalar("y", i.astype(float))), advance=False)
    with jb.Run(None, sinks=[sink], flush_secs=3600) as run:
        for i in range(60):
            train(jnp.int32(i))
            if i % 5 == 0:
                evaluate(jnp.int32(i))
            if i in (17, 32, 40):
                run.flush()
    points = [(record.step, float(record.value)) for record in sink.records if record.tag == "y"]
    assert points == [(i, i) for i in range(0, 60, 5)]


def test_two_functions_with_steps_of_their_own():
    """Functions that share steps and tags share points; others do not disturb each other."""
    generator = jb.instrument(jax.jit(lambda x, i: jb.scalar("loss", x)), step=by_host)
    critic = jb.instrument(jax.jit(lambda x, i: jb.scalar("loss", 10 * x)), step=by_host)
    other = jb.instrument(jax.jit(lambda x, i: jb.scalar("other", x)), step=lambda _, i: 100 + i)
    with capture() as records:
        for i in range(6):
            generator(jnp.float32(i), i)
            critic(jnp.float32(i), i)
            other(jnp.float32(i), i)
    loss = [(r.step, float(r.value)) for r in records if r.tag == "loss"]
    assert loss == [(0, 5.5), (1, 22)]
    assert [r.step for r in records if r.tag == "other"] == list(range(100, 106))
