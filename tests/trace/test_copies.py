"""Copies of instrumented functions, and functions in another process."""

# pyright: reportAttributeAccessIssue=false, reportFunctionMemberAccess=false

from __future__ import annotations

import copy
import functools

import cloudpickle
import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from compilations import compilations
from flax import nnx

import jaxboard as jb
from jaxboard.testing import capture


def report_and_add(x):
    jb.scalar("x", x, every=2)
    return x + 1


class Trainer:
    @jb.instrument
    @functools.partial(jax.jit, static_argnums=0)
    def train_step(self, x):
        return report_and_add(x)


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "cloudpickle": lambda function: cloudpickle.loads(cloudpickle.dumps(function)),
}
FUNCTIONS = {
    "jit": lambda: jb.instrument(jax.jit(report_and_add, donate_argnums=0)),
    "exact": lambda: jb.instrument(jax.jit(report_and_add), exact=True),
    "partial": lambda: jb.instrument(functools.partial(jax.jit(report_and_add))),
    "method": lambda: Trainer().train_step,
    "filter_jit": lambda: jb.instrument(eqx.filter_jit(report_and_add)),
    "own steps": lambda: jb.instrument(jax.jit(report_and_add), step=lambda x: x.astype(int)),
}


def points_of(function):
    """Return the points of three calls."""
    with capture() as records:
        x = jnp.float32(0)
        for _ in range(3):
            x = function(x)
    return [(record.step, float(record.value)) for record in records]


@pytest.mark.parametrize("make", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_reports_as_the_function(copied, make):
    """A copy of an instrumented function is instrumented, as the copy of a jitted function is jitted."""
    function = make()
    expected = [(0, 0.0), (2, 1.5)]
    assert points_of(copied(function)) == expected
    assert points_of(function) == expected
    assert points_of(copied(function)) == expected


def test_a_shallow_copy_shares_the_programs():
    """A shallow copy compiles nothing that the function has compiled."""
    function = jb.instrument(jax.jit(report_and_add))
    with compilations("report_and_add") as compiled:
        points_of(function)
        points_of(copy.copy(function))
    assert len(compiled) == 2  # the window is due, or not


def test_a_copy_has_the_name_and_the_options():
    """A copy has the name and the signature that ``jax.jit`` resolves the names of static arguments with."""

    def add(x, n=1):
        jb.scalar(f"x{n}", x)
        return x + n

    copied = copy.deepcopy(
        jb.instrument(
            jax.jit(add, static_argnums=1, compiler_options={"xla_embed_ir_in_executable": True})
        )
    )
    assert copied.__name__ == "add"
    with capture() as records:
        copied(copied(0.0, 2), n=3)
    assert [(record.tag, float(record.value)) for record in records] == [("x2", 0.0), ("x3", 2.0)]


@pytest.mark.parametrize("step", ["auto", lambda x: x.astype(int)], ids=["", "step"])
def test_nnx_jit_in_another_process(step):
    """A result of ``nnx.jit`` can be pickled; Flax does not run a copy."""
    function = jb.instrument(nnx.jit(report_and_add), step=step)
    assert points_of(cloudpickle.loads(cloudpickle.dumps(function))) == [(0, 0.0), (2, 1.5)]
