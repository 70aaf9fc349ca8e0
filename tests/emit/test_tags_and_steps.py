"""Tags and steps that no event file can hold raise at the call, and cost no other report."""

# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import jaxboard as jb
from jaxboard.testing import capture

NOT_UTF8 = os.fsdecode(b"caf\xe9.png")


def scalars(logdir):
    events = EventAccumulator(logdir, size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(point.step, point.value) for point in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


@pytest.mark.parametrize("traced", [True, False])
def test_a_tag_that_is_not_utf8(logdir, traced):
    """A tag that no event file can hold raises at the call and names the tag."""

    def step(x):
        jb.scalar("loss", x)
        with pytest.raises(jb.ReportError, match="UTF-8"):
            jb.scalar(f"score/{NOT_UTF8}", x)
        return x

    step = jb.instrument(jax.jit(step) if traced else step)
    with jb.Run(logdir):
        for i in range(5):
            step(float(i))
    assert scalars(logdir) == {"loss": [(i, float(i)) for i in range(5)]}


@pytest.mark.parametrize(
    "report",
    [
        lambda tag: jb.scalars("x", {tag: 1.0}),
        lambda tag: jb.histogram("x", {tag: np.ones(2)}),
        lambda tag: jb.watch("x", {tag: np.ones(2)}),
        lambda tag: jb.tap("x", {tag: jnp.ones(2)}),
        lambda tag: jb.tap(tag, jnp.ones(2)),
        lambda tag: jb.text(tag, "x"),
        lambda tag: jb.figure(tag, matplotlib.figure.Figure()),
        lambda tag: jb.image(tag, np.ones((2, 2, 1))),
        jb.scope,
    ],
)
@pytest.mark.parametrize(
    ("tag", "problem"), [(NOT_UTF8, "UTF-8"), ("a/JitTracer(~int32[])", "traced")]
)
def test_every_verb_checks_tags(report, tag, problem):
    """Every verb checks its tag, also the names of leaves, and scopes check theirs."""
    with capture() as records, pytest.raises(jb.ReportError, match=problem):
        report(tag)
    assert records == []


def test_tags_of_any_language():
    """A tag may have any characters that UTF-8 has."""
    with capture() as records:
        jb.scalar("verlust/größe 🙂", 1.0)
        jb.scalar("Tracer/x", 1.0)
    assert [record.tag for record in records] == ["verlust/größe 🙂", "Tracer/x"]


@pytest.mark.parametrize(
    ("transform", "argument"),
    [
        (jax.jit, jnp.ones(())),
        (jax.vmap, jnp.ones(2)),
        (jax.grad, jnp.ones(())),
        (lambda f: jax.jit(jax.vmap(f)), jnp.ones(2)),
        (jax.checkpoint, jnp.ones(())),
    ],
    ids=["jit", "vmap", "grad", "jit of vmap", "checkpoint"],
)
@pytest.mark.parametrize("where", ["tag", "leaf", "scope"])
def test_a_tracer_in_a_tag(transform, argument, where):
    """A tag that was formatted from a traced value is refused under every transformation."""

    def body(x):
        name = f"layer_{x}"
        if where == "scope":
            with jb.scope(name):
                jb.scalar("x", x)
        elif where == "leaf":
            jb.scalars("x", {name: x})
        else:
            jb.scalar(f"{name}/norm", x)
        return x.sum()

    with capture(), pytest.raises(jb.ReportError, match="reduce='stack' to keep iterations"):
        transform(body)(argument)


@pytest.mark.parametrize("step", [2**63, 10**30, -(2**63) - 1])
def test_a_step_beyond_64_bits(logdir, step):
    """A step that no event can hold raises at the call, and the reports around it are written."""
    with jb.Run(logdir):
        for i in range(5):
            jb.scalar("loss", float(i), step=i)
        with pytest.raises(jb.ReportError, match="64 bits"):
            jb.scalar("x", 1.0, step=step)
        for i in range(5, 10):
            jb.scalar("loss", float(i), step=i)
    assert scalars(logdir) == {"loss": [(i, float(i)) for i in range(10)]}


def set_step():
    jb.current_run().step = 2**63


@pytest.mark.parametrize(
    "give",
    [
        set_step,
        lambda: jb.Run(None, sinks=[], step=2**63),
        lambda: jb.instrument(jax.jit(lambda x: x), step=lambda x: 2**63)(1.0),
        lambda: jb.instrument(lambda x: x, step=lambda x: -(2**63) - 1)(1.0),
    ],
    ids=["run.step", "Run(step=)", "instrument(step=)", "instrument(step=) of a plain function"],
)
def test_a_step_of_the_run_beyond_64_bits(give):
    """A step that is given to the run, or that a step function returns, is checked too."""
    with capture(), pytest.raises(jb.UsageError, match="64 bits"):
        give()


@pytest.mark.parametrize(
    "step", [np.uint64(2**63), np.array(2**63, np.uint64), True, "3", None.__class__]
)
@pytest.mark.parametrize("verb", [jb.scalar, jb.histogram, jb.watch])
def test_steps_of_other_types(verb, step):
    """Unsigned steps, bools and texts are checked in every verb."""
    with capture(), pytest.raises(jb.ReportError, match="step="):
        verb("x", np.float32(1.0), step=step)


def test_a_step_may_be_any_integer():
    """A step is anything that Python takes for an index."""

    class Index:
        def __index__(self):
            return 7

    with capture() as records:
        for step in (7, np.int8(7), np.array(7), jnp.int32(7), Index()):
            jb.scalar("x", 1.0, step=step)
            jb.text("t", "x", step=step)
    assert {record.step for record in records} == {7}
