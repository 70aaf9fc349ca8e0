"""Fixtures of the conformance tests."""

from __future__ import annotations

import re
from collections.abc import Iterator

import jax
import pytest
from conformance.flags import flag_limit_of

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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip what JAX itself cannot do with a flag that ``.ci/run tomorrow`` has set."""
    test = re.sub(r"\[(.*)\]$", r"(\1)", item.name)
    limit = flag_limit_of(test)
    if limit is not None:
        pytest.skip(f"{limit.flag}: {limit.reason}")
    try:
        return (yield)
    except Exception as error:
        limit = flag_limit_of(test, error)
        if limit is None:
            raise
        pytest.skip(f"{limit.flag}: {limit.reason} {limit.error}")
