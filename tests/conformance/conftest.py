"""Fixtures of the conformance tests."""

from __future__ import annotations

import jax
import pytest

import jaxboard as jb
from jaxboard._log import forget_warnings


@pytest.fixture(params=["output", "callback", "no_instrument"])
def prepare(request):
    """Return a function that prepares a program so that its reports take one of three deliveries."""
    deliveries = {
        "output": lambda f: jb.instrument(jax.jit(f)),
        "callback": lambda f: jax.jit(jb.instrument(jax.jit(f))),
        "no_instrument": jax.jit,
    }
    return deliveries[request.param]


@pytest.fixture(autouse=True)
def repeated_warnings():
    """Let every test see the warnings that jaxboard gives once per process."""
    forget_warnings()
