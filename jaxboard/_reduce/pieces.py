"""One pass over a large array, piece by piece on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from jax import lax

from jaxboard._reduce.reducers import on_cpu
from jaxboard._reduce.scans import fori_loop
from jaxboard._types import Array, PyTree

Carry = TypeVar("Carry", bound=PyTree)

_CHUNK = 1 << 18
"""Elements per piece on a CPU: intermediate values stay in its cache."""

_FEW = 1 << 14
"""Up to this many elements are one piece: more pieces would take longer to compile than they save."""

_UNIT = 64
"""Lengths of pieces are multiples of this. XLA may process other lengths element by element, ten times slower."""


def fold(step: Callable[..., Carry], state: Carry, *arrays: Array) -> Carry:
    """Return ``step(state, *arrays)``, computed piece by piece on a CPU.

    On a CPU, XLA writes intermediate values of the size of the array to memory, and memory that is new at
    every call costs several times the arithmetic.
    """
    size = arrays[0].size
    if size <= _FEW or not on_cpu(*arrays):
        return step(state, *arrays)
    length = _piece_length(size)
    if length == size:
        return step(state, *arrays)
    flat = [x.reshape(-1) for x in arrays]
    # The rest goes first, even if it is empty: the state then has the type that the loop keeps.
    rest = size % length
    state = fold(step, state, *(x[:rest] for x in flat))

    def add_piece(number: Array, state: Carry) -> Carry:
        begin = number * length + rest
        return step(state, *(lax.dynamic_slice(x, (begin,), (length,)) for x in flat))

    return fori_loop(size // length, add_piece, state)


def _piece_length(size: int) -> int:
    """Return the length of a piece, one that divides ``size`` if possible."""
    if size <= _CHUNK:
        return size - size % _UNIT
    counts = range(-(-size // _CHUNK), size // 1024)
    return next((size // n for n in counts if size % (n * _UNIT) == 0), _CHUNK)
