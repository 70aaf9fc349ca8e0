"""Points of many values: a hint if nothing counts steps, none where many values are intended."""

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
