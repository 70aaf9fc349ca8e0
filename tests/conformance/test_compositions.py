"""Random compositions of transformations report what plain Python does when it runs the same program."""

from __future__ import annotations

import functools
from typing import Any, TypeAlias

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax

import jaxboard as jb
from jaxboard.testing import capture

Program: TypeAlias = tuple[Any, ...]
"""The name of a transformation and the programs that it transforms. Each maps a number to a number."""

LEAF: Program = ("report",)
REDUCTIONS = {"sum": sum, "max": max, "count": len}


def traced(program: Program, report: Any, x: Any) -> Any:  # noqa: C901 (a case for each)
    """Runs a program by JAX."""
    kind, *parts = program
    functions = [functools.partial(traced, part, report) for part in parts]
    match kind:
        case "report":
            report(x)
            return x + 1
        case "then":
            return functions[1](functions[0](x))
        case "jit":
            return jax.jit(functions[0])(x)
        case "remat":
            return jax.checkpoint(functions[0])(x)
        case "jvp":
            return jax.jvp(functions[0], (x,), (x,))[0]
        case "custom_jvp":
            f = jax.custom_jvp(functions[0])
            f.defjvp(lambda primals, tangents: (functions[0](*primals), tangents[0]))
            return f(x)
        case "grad":
            return jax.value_and_grad(functions[0])(x)[0]
        case "scan":
            return lax.scan(lambda x, _: (functions[0](x), None), x, None, length=2)[0]
        case "while":
            trip = lambda state: (state[0] + 1, functions[0](state[1]))  # noqa: E731
            going = lambda state: (state[0] < 3) & (state[1] < 6)  # noqa: E731
            return lax.while_loop(going, trip, (0, x))[1]
        case "cond":
            return lax.cond(x % 2 == 0, *functions, x)
        case "vmap":
            return jax.vmap(functions[0])(x + jnp.arange(3.0)).max()
    raise AssertionError(kind)


def interpreted(program: Program, seen: list[float], x: float) -> float:
    """Runs a program by hand, and notes what it reports."""
    kind, *parts = program
    run = [functools.partial(interpreted, part, seen) for part in parts]
    match kind:
        case "report":
            seen.append(x)
            return x + 1
        case "then":
            return run[1](run[0](x))
        case "scan":
            return run[0](run[0](x))
        case "while":
            for _ in range(3):
                x = run[0](x) if x < 6 else x
            return x
        case "cond":
            return run[0 if x % 2 == 0 else 1](x)
        case "vmap":
            return max([run[0](x + lane) for lane in range(3)])
    return run[0](x)


def programs(depth: int, *, differentiated: bool = False) -> st.SearchStrategy[Program]:
    """Programs of at most so many transformations around a report."""
    if depth == 0:
        return st.just(LEAF)
    inner = programs(depth - 1, differentiated=differentiated)
    below = programs(depth - 1, differentiated=True)
    # JAX doesn't differentiate while loops in reverse.
    unary = ["jit", "remat", "jvp", "scan", "vmap", "custom_jvp"] + (
        [] if differentiated else ["while"]
    )
    return st.one_of(
        st.just(LEAF),
        st.tuples(st.sampled_from(unary), inner),
        st.tuples(st.sampled_from(["cond", "then"]), inner, inner),
        st.tuples(st.just("grad"), below),
    )


def masked(program: Program, *, mapped: bool = False) -> bool:
    """Whether a program has lanes that a branch or a loop leaves out: callbacks count them all the same."""
    kind, *parts = program
    if mapped and kind in ("cond", "while"):
        return True
    return any(masked(part, mapped=mapped or kind == "vmap") for part in parts)


def report(x: Any) -> None:
    for name in REDUCTIONS:
        jb.scalar(name, x, reduce=name)


@pytest.mark.parametrize("way", ["output", "callback"])
@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(program=programs(4), x=st.integers(0, 5))
def test_random_compositions(way, program, x):
    """Sum, maximum and count of all that is reported, and the result, are those of plain Python."""
    seen: list[float] = []
    result = interpreted(program, seen, float(x))
    function = jb.instrument(jax.jit(functools.partial(traced, program, report)))
    with capture() as records:
        ours = (function if way == "output" else jax.jit(function))(np.float32(x))
    assert float(ours) == result
    check(records, seen)


@hypothesis.settings(max_examples=15, deadline=None, derandomize=True, database=None)
@hypothesis.given(program=programs(4).filter(lambda p: not masked(p)), x=st.integers(0, 5))
def test_random_compositions_without_instrument(program, x):
    """So are those of callbacks, which nothing collects, if no lane of a vmap is left out."""
    seen: list[float] = []
    result = interpreted(program, seen, float(x))
    with capture() as records:
        ours = jax.jit(functools.partial(traced, program, report))(np.float32(x))
    assert float(ours) == result
    check(records, seen)


def check(records: Any, seen: list[float]) -> None:
    """What was recorded is what was seen."""
    expected = {name: reduction(seen) for name, reduction in REDUCTIONS.items()} if seen else {}
    assert {record.tag: float(record.value) for record in records} == expected
