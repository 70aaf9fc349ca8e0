"""The ways from a function to the host that most of this suite's tests take."""

from __future__ import annotations

import jax
import pytest

import jaxboard as jb


@pytest.fixture(params=["output", "callback", "no instrument"])
def way(request):
    """What is made of a function so that its reports take one of the ways to the host."""
    ways = {
        "output": lambda f: jb.instrument(jax.jit(f)),
        "callback": lambda f: jax.jit(jb.instrument(jax.jit(f))),
        "no instrument": jax.jit,
    }
    return ways[request.param]
