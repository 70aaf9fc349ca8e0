"""Codes: the worst kind of element that an array has, as one small integer.

A code is a maximum, which XLA computes over devices on every platform, unlike a bitwise or.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

MINUS_INF, PLUS_INF, NAN = 1, 2, 4
"""The codes of arrays that are not finite, each worse than the one before; 0 if all elements are finite."""

INF = PLUS_INF | MINUS_INF

FIELDS = 4
"""The numbers that describe the range of an array: minimum, maximum, NaN, infinities."""


def is_float(value: object) -> bool:
    """Return whether a value, or the type of one, is an array of real or complex floating-point numbers."""
    dtype = getattr(value, "dtype", None)
    return (
        dtype is not None and not isinstance(value, jax.Ref) and jnp.issubdtype(dtype, jnp.inexact)
    )


def code(value: Array) -> Array:
    """Return the code of an array of floating-point numbers, a uint8 scalar."""
    return _worst(_codes(value))


def codes_of_cases(which: Array, cases: Sequence[Array]) -> list[Array]:
    """Return the codes of the cases of a selection, of the elements that are selected.

    Args:
        which: bool or integers, the position of the case of each element; or a scalar.
        cases: the cases.
    """
    selected = []
    for position, case in enumerate(cases):
        is_selected = jnp.broadcast_to(which == position, case.shape)
        selected.append(_worst(jnp.where(is_selected, _codes(case), 0)))
    return selected


def code_of_number(value: object) -> int:
    """Return the code of a number, or of a NumPy array."""
    number = np.asarray(value)
    if not jnp.issubdtype(number.dtype, jnp.inexact):
        return 0
    number = number.astype(np.complex128)
    parts = np.asarray([number.real, number.imag])
    kinds = ((PLUS_INF, parts == np.inf), (MINUS_INF, parts == -np.inf), (NAN, np.isnan(parts)))
    return max([0, *(code for code, elements in kinds if elements.any())])


def pack(codes: Sequence[Array]) -> Array:
    """Return scalars as one vector, uint8[n]."""
    return jnp.stack(codes) if codes else jnp.zeros(0, jnp.uint8)


def ranges(values: Sequence[Array]) -> Array:
    """Return the ranges of arrays: [n, FIELDS], floats."""
    return jnp.stack(list(map(_range, values))) if values else jnp.zeros((0, FIELDS))


def has_range(value: object) -> bool:
    """Return whether a value, or the type of one, is an array of numbers or bools."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and any(
        jnp.issubdtype(dtype, kind) for kind in (jnp.bool_, jnp.number)
    )


def _codes(value: Array) -> Array:
    """Return the code of each element."""
    if jnp.issubdtype(value.dtype, jnp.complexfloating):
        return lax.max(_codes(value.real), _codes(value.imag))
    if jnp.finfo(value.dtype).bits < 16:
        value = value.astype(jnp.float32)
    infinity = lax.full_like(value, jnp.inf)
    zero = lax.full_like(value, 0, jnp.uint8)
    codes = lax.select(lax.eq(value, infinity), lax.full_like(zero, PLUS_INF), zero)
    codes = lax.select(lax.eq(value, lax.neg(infinity)), lax.full_like(zero, MINUS_INF), codes)
    return lax.select(lax.ne(value, value), lax.full_like(zero, NAN), codes)


def _worst(codes: Array) -> Array:
    return lax.reduce_max(codes, tuple(range(codes.ndim)))


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
