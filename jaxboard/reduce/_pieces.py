"""One pass over a large array, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import lax

from jaxboard.reduce._reducer import on_cpu

_CHUNK = 1 << 18
"""Elements at a time on a CPU: what is computed between stays in its cache."""


def fold(step: Callable[..., Any], state: Any, *arrays: Any) -> Any:
    """``step(state, *arrays)``, or on a CPU piece by piece.

    There, XLA writes to memory what it computes between, and memory that is fresh at every call costs
    several times the arithmetic.
    """
    size = arrays[0].size
    if size <= _CHUNK or not on_cpu(*arrays):
        return step(state, *arrays)
    flat = [x.reshape(-1) for x in arrays]
    count = next((n for n in range(-(-size // _CHUNK), size // 1024) if size % n == 0), None)
    # What is left over goes first: the state then has the type that the loop gives it.
    length = _CHUNK if count is None else size // count
    state = step(state, *(x[: size % length] for x in flat))

    def piece(number: Any, state: Any) -> Any:
        begin = number * length + size % length
        return step(state, *(lax.dynamic_slice(x, (begin,), (length,)) for x in flat))

    return lax.fori_loop(0, size // length, piece, state)
