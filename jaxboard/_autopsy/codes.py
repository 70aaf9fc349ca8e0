"""Codes: which kinds of elements that are not finite an array has, as one small integer."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

PLUS_INF, MINUS_INF, NAN = 1, 2, 4
"""The bits of a code."""

INF = PLUS_INF | MINUS_INF

FIELDS = 4
"""The numbers that describe the range of an array: minimum, maximum, NaN, infinities."""


def is_float(value: object) -> bool:
    """Return whether a value, or the type of one, is an array of real or complex floating-point numbers."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and not isinstance(value, jax.Ref) and jnp.issubdtype(dtype, jnp.inexact)


def code(value: Array) -> Array:
    """Return the code of an array of floating-point numbers, a uint8 scalar."""
    return _any(_codes(value))


def codes_of_cases(which: Array, cases: Sequence[Array]) -> list[Array]:
    """Return the codes of the cases of a selection, of the elements that are selected.

    Args:
        which: bool or integers, the position of the case of each element; or a scalar.
        cases: the cases.
    """
    selected = []
    for position, case in enumerate(cases):
        is_selected = jnp.broadcast_to(which == position, case.shape)
        selected.append(_any(jnp.where(is_selected, _codes(case), 0)))
    return selected


def code_of_number(value: object) -> int:
    """Return the code of a number, or of a NumPy array."""
    number = np.asarray(value)
    if not jnp.issubdtype(number.dtype, jnp.inexact):
        return 0
    number = number.astype(np.complex128)
    parts = np.asarray([number.real, number.imag])
    kinds = ((PLUS_INF, parts == np.inf), (MINUS_INF, parts == -np.inf), (NAN, np.isnan(parts)))
    return sum(bit for bit, elements in kinds if elements.any())


def pack(codes: Sequence[Array]) -> Array:
    """Return scalars as one vector, uint8[n]."""
    return jnp.stack(codes) if codes else jnp.zeros(0, jnp.uint8)


def ranges(values: Sequence[Array]) -> Array:
    """Return the ranges of arrays: [n, FIELDS], floats."""
    return jnp.stack(list(map(_range, values))) if values else jnp.zeros((0, FIELDS))


def has_range(value: object) -> bool:
    """Return whether a value, or the type of one, is an array of numbers or bools."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and (dtype == bool or bool(jnp.issubdtype(dtype, jnp.number)))


def _codes(value: Array) -> Array:
    """Return the code of each element."""
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        return _codes(value.real) | _codes(value.imag)
    if jnp.finfo(value.dtype).bits < 16:
        value = value.astype(jnp.float32)
    infinity = lax.full_like(value, jnp.inf)
    bits = (
        (PLUS_INF, lax.eq(value, infinity)),
        (MINUS_INF, lax.eq(value, lax.neg(infinity))),
        (NAN, lax.ne(value, value)),
    )
    zero = lax.full_like(value, 0, jnp.uint8)
    parts = [lax.select(holds, lax.full_like(zero, bit), zero) for bit, holds in bits]
    return lax.bitwise_or(lax.bitwise_or(parts[0], parts[1]), parts[2])


def _any(codes: Array) -> Array:
    """Return the bits that any element has."""
    return lax.reduce_or(codes, tuple(range(codes.ndim)))


def _range(value: Array) -> Array:
    """Return the minimum and maximum of the finite elements, and the numbers of NaN and of infinities."""
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        value = jnp.abs(value)
    value = value.astype(jnp.result_type(float))
    is_finite = jnp.isfinite(value)
    least = jnp.min(jnp.where(is_finite, value, jnp.inf), initial=jnp.inf)
    most = jnp.max(jnp.where(is_finite, value, -jnp.inf), initial=-jnp.inf)
    counts = [jnp.isnan(value).sum(), jnp.isinf(value).sum()]
    return jnp.stack([least, most, *(n.astype(value.dtype) for n in counts)])
