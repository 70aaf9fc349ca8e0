"""One pass over a large array, a piece at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jax import lax

from jaxboard._reduce.reducers import on_cpu

_CHUNK = 1 << 18
"""Elements at a time on a CPU: what is computed between stays in its cache."""

_FEW = 1 << 14
"""So many are not worth the time that compiling more than one piece takes."""

_UNIT = 64
"""Of other lengths than multiples of this, XLA may compute an element at a time, which takes ten times as long."""


def fold(step: Callable[..., Any], state: Any, *arrays: Any) -> Any:
    """``step(state, *arrays)``, or on a CPU piece by piece.

    There, XLA writes to memory what it computes between, and memory that is fresh at every call costs
    several times the arithmetic.
    """
    size = arrays[0].size
    if size <= _FEW or not on_cpu(*arrays):
        return step(state, *arrays)
    length = _length(size)
    if length == size:
        return step(state, *arrays)
    flat = [x.reshape(-1) for x in arrays]
    # What is left over goes first, if only nothing: the state then has the type that the loop gives it.
    left = size % length
    state = fold(step, state, *(x[:left] for x in flat))

    def piece(number: Any, state: Any) -> Any:
        begin = number * length + left
        return step(state, *(lax.dynamic_slice(x, (begin,), (length,)) for x in flat))

    return lax.fori_loop(0, size // length, piece, state)


def _length(size: int) -> int:
    """How long pieces are: such that nothing is left over, if possible."""
    if size <= _CHUNK:
        return size - size % _UNIT
    counts = range(-(-size // _CHUNK), size // 1024)
    return next((size // n for n in counts if size % (n * _UNIT) == 0), _CHUNK)
