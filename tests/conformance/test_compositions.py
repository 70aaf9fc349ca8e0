"""Random compositions of transformations report the same values as the same program in plain Python."""

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
"""The name of a transformation, then the programs that it transforms. A program maps a number to a number."""

LEAF: Program = ("report",)
REDUCTIONS = {"sum": sum, "max": max, "count": len}


def traced(program: Program, report: Any, x: Any) -> Any:  # noqa: C901 (one case per transformation)
    """Run a program with JAX."""
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
            body = lambda state: (state[0] + 1, functions[0](state[1]))  # noqa: E731
            condition = lambda state: (state[0] < 3) & (state[1] < 6)  # noqa: E731
            return lax.while_loop(condition, body, (0, x))[1]
        case "cond":
            return lax.cond(x % 2 == 0, *functions, x)
        case "vmap":
            return jax.vmap(functions[0])(x + jnp.arange(3.0)).max()
    raise AssertionError(kind)


def interpreted(program: Program, seen: list[float], x: float) -> float:
    """Run a program in plain Python and append the values that it reports to ``seen``."""
    kind, *parts = program
    functions = [functools.partial(interpreted, part, seen) for part in parts]
    match kind:
        case "report":
            seen.append(x)
            return x + 1
        case "then":
            return functions[1](functions[0](x))
        case "scan":
            return functions[0](functions[0](x))
        case "while":
            for _ in range(3):
                x = functions[0](x) if x < 6 else x
            return x
        case "cond":
            return functions[0 if x % 2 == 0 else 1](x)
        case "vmap":
            return max([functions[0](x + lane) for lane in range(3)])
    return functions[0](x)


def programs(depth: int, *, differentiated: bool = False) -> st.SearchStrategy[Program]:
    """Return a strategy for programs with at most ``depth`` nested transformations around a report."""
    if depth == 0:
        return st.just(LEAF)
    inner = programs(depth - 1, differentiated=differentiated)
    differentiable = programs(depth - 1, differentiated=True)
    # JAX has no reverse-mode derivative of while loops.
    unary = ["jit", "remat", "jvp", "scan", "vmap", "custom_jvp"] + (
        [] if differentiated else ["while"]
    )
    return st.one_of(
        st.just(LEAF),
        st.tuples(st.sampled_from(unary), inner),
        st.tuples(st.sampled_from(["cond", "then"]), inner, inner),
        st.tuples(st.just("grad"), differentiable),
    )


def has_masked_lanes(program: Program, *, mapped: bool = False) -> bool:
    """Return whether a branch or a loop masks lanes. Callbacks without ``instrument`` count those lanes too."""
    kind, *parts = program
    if mapped and kind in ("cond", "while"):
        return True
    return any(has_masked_lanes(part, mapped=mapped or kind == "vmap") for part in parts)


def report(x: Any) -> None:
    for name in REDUCTIONS:
        jb.scalar(name, x, reduce=name)


@pytest.mark.parametrize("delivery", ["output", "callback"])
@hypothesis.settings(max_examples=30, deadline=None, derandomize=True, database=None)
@hypothesis.given(program=programs(4), x=st.integers(0, 5))
def test_random_compositions(delivery, program, x):
    """The sum, maximum and count of all reported values, and the result, equal those of plain Python."""
    seen: list[float] = []
    result = interpreted(program, seen, float(x))
    function = jb.instrument(jax.jit(functools.partial(traced, program, report)))
    with capture() as records:
        ours = (function if delivery == "output" else jax.jit(function))(np.float32(x))
    assert float(ours) == result
    assert_records(records, seen)


@hypothesis.settings(max_examples=15, deadline=None, derandomize=True, database=None)
@hypothesis.given(
    program=programs(4).filter(lambda p: not has_masked_lanes(p)), x=st.integers(0, 5)
)
def test_random_compositions_without_instrument(program, x):
    """Without ``instrument`` they are equal too, unless lanes of a vmap are masked."""
    seen: list[float] = []
    result = interpreted(program, seen, float(x))
    with capture() as records:
        ours = jax.jit(functools.partial(traced, program, report))(np.float32(x))
    assert float(ours) == result
    assert_records(records, seen)


def assert_records(records: Any, seen: list[float]) -> None:
    """Compare records with the values that plain Python reported."""
    expected = {name: reduction(seen) for name, reduction in REDUCTIONS.items()} if seen else {}
    assert {record.tag: float(record.value) for record in records} == expected
