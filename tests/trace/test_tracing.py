"""The user's function is traced as often as without jaxboard, however many programs it needs."""

# pyright: reportFunctionMemberAccess=false, reportAttributeAccessIssue=false

from __future__ import annotations

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from compilations import compilations
from flax import nnx
from jax import lax

import jaxboard as jb
from jaxboard._log import forget_warnings
from jaxboard.testing import capture

X = jnp.arange(4.0)


@pytest.fixture(autouse=True)
def _count_again():
    chex.clear_trace_counter()


def report_all(x):
    """Report in a loop, with two cadences, so that there are two programs: for steps on which nothing is due, and others."""

    def body(c, x):
        jb.scalar("each", x)
        jb.scalar("window", x, every=3)
        jb.scalar("last", x, every=2, reduce="last")
        jb.histogram("histogram", x * c, every=3)
        return c + jb.tap("tap", x, every=2), None

    return jax.grad(lambda x: lax.scan(body, 1.0, x)[0])(x)


TAGS = {"each", "window", "last", "histogram", "tap"}

DELIVERIES = {
    "output": ({}, 2),
    "gate": ({"gate": "cond"}, 1),
    "callback": ({"delivery": "callback"}, 1),
    "stream": ({"stream": 2}, 1),
    "a step on the device": ({"step": lambda x, n: jnp.asarray(n)}, 1),
}


@pytest.mark.parametrize(("options", "programs"), DELIVERIES.values(), ids=DELIVERIES)
def test_each_delivery(options, programs):
    """One trace serves all programs of a delivery."""

    @chex.assert_max_traces(1)
    def counted(x, n):
        return report_all(x)

    step = jb.instrument(jax.jit(counted), **options)
    with compilations("counted") as seen, capture() as records:
        for n in range(7):
            step(X, n)
        jax.effects_barrier()
    assert len(seen) == programs
    assert {r.tag for r in records} == TAGS


def test_precompile():
    """One trace serves the programs that ``precompile`` compiles, and the calls after it."""

    @chex.assert_max_traces(1)
    def counted(x):
        jb.histogram("histogram", x, every=2)
        jb.scalar("window", x.sum(), every=2)
        return 2 * x

    step = jb.instrument(jax.jit(counted))
    step.precompile(X)
    with capture() as records:
        for _ in range(3):
            step(X)
    assert [r.step for r in records if r.tag == "window"] == [0, 2]


@pytest.mark.parametrize("jit", [nnx.jit, eqx.filter_jit], ids=["nnx", "equinox"])
def test_each_library(jit):
    """A function is traced once for each shape of its arguments, as without jaxboard."""
    traces = []

    def counted(x):
        traces.append(x.shape)
        jb.histogram("histogram", x, every=2)
        jb.scalar("window", x.sum(), every=3)
        return 2 * x

    counts = []
    for step in (jit(counted), jb.instrument(jit(counted))):
        traces.clear()
        with capture():
            for n in range(14):
                step(X[: 2 + n // 7])
            jax.effects_barrier()
        counts.append(len(traces))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    "options", [{"compiler_options": {"xla_embed_ir_in_executable": True}}, {"inline": True}]
)
def test_each_option_of_jit(options):
    """With options of ``jax.jit`` that change how it is traced, a function is traced once, too."""

    @chex.assert_max_traces(1)
    def counted(x):
        jb.histogram("histogram", x, every=2)
        jb.scalar("window", x.sum(), every=2)
        return 2 * x

    step = jb.instrument(jax.jit(counted, **options))
    with capture() as records:
        for _ in range(4):
            step(X)
    assert [r.step for r in records if r.tag == "histogram"] == [0, 2]


@pytest.mark.parametrize("options", [{}, {"exact": True}], ids=["inexact", "exact"])
def test_a_call_without_reports_takes_one_more_trace(options):
    """Calls while no run is open, and the results of ``exact=True``, come from a trace without the reports."""
    traces = []

    def counted(x):
        traces.append(1)
        jb.histogram("histogram", x, every=2)
        return 2 * x

    step = jb.instrument(jax.jit(counted), **options)
    forget_warnings()
    with pytest.warns(jb.JaxboardWarning, match="no run is open"):
        step(X)
    assert len(traces) == 1
    with capture():
        for _ in range(4):
            step(X)
    assert len(traces) == 2
