"""Steps beyond 32 bits, where the step is an argument of the program."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxboard as jb
from jaxboard._reduce import WideInt
from jaxboard.testing import capture

FIRST = [0, 2**31 - 3, 2**31, 2**32 - 2, 31_250 * 100_000 - 1, 2**40 + 5]


def step(x):
    jb.histogram("histogram", jnp.stack([x, x]), every=3)
    jb.scalar("last", x, every=100_000, reduce="last")
    jb.scalar("window", x, every=2, reduce="sum")
    jb.scalar("each", x)
    return x + 1


def scan(x):
    return lax.scan(lambda x, _: (step(x), None), x, length=5)[0]


def while_loop(x):
    jb.scalar("before", x)
    x = lax.while_loop(lambda x: x < 5, step, x)
    jb.scalar("after", x)
    return x


def steps_of(records, tag):
    return sorted(r.step for r in records if r.tag == tag)


def test_gate():
    """One program with branches reports what is due at the step."""
    gated = jb.instrument(jax.jit(step), gate="cond")
    for first in FIRST:
        with capture(step=first) as records:
            x = jnp.float32(0)
            for _ in range(6):
                x = gated(x)
        steps = range(first, first + 6)
        assert steps_of(records, "each") == list(steps)
        assert steps_of(records, "histogram") == [n for n in steps if n % 3 == 0]
        assert steps_of(records, "last") == [n for n in steps if n % 100_000 == 0]
        sums = {}
        for n in steps:
            ends = min(n + n % 2, steps[-1])
            sums[ends] = sums.get(ends, 0) + n - first
        assert {r.step: float(r.value) for r in records if r.tag == "window"} == sums


@pytest.mark.parametrize("loop", [scan, while_loop], ids=lambda loop: loop.__name__)
def test_stream(loop):
    """Each iteration of a streamed loop is a step, and the next call continues the count."""
    train = jb.instrument(jax.jit(loop), stream=2)
    for first in FIRST:
        with capture(step=first) as records:
            assert float(train(jnp.float32(0))) == 5
            train(jnp.float32(0))
            run = jb.current_run()
            assert run is not None
            assert run.step == first + 10
        steps = range(first, first + 10)
        assert steps_of(records, "each") == list(steps)
        assert steps_of(records, "histogram") == [n for n in steps if n % 3 == 0]
        if loop is while_loop:
            assert steps_of(records, "before") == [first, first + 5]
            assert steps_of(records, "after") == [first + 4, first + 9]


@pytest.mark.parametrize("divisor", [1, 2, 3, 1000, 65_536, 100_003, 2**31 - 1])
def test_remainders(divisor):
    """The remainders of numbers of 64 bits are Python's."""
    rng = np.random.default_rng(divisor)
    numbers = [0, 1, -1, divisor, -divisor, 2**31, 2**32, 2**63 - 1, -(2**63)]
    numbers += rng.integers(-(2**63), 2**63 - 1, 50).tolist()
    words = jax.tree.map(jnp.asarray, WideInt.of(np.array(numbers)))
    rest = jax.jit(lambda high, low: WideInt(high, low) % divisor)(words.high, words.low)
    assert rest.tolist() == [number % divisor for number in numbers]
