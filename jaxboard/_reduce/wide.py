"""Numbers in two words of 32 bits: integers that do not overflow, floats with twice the digits.

JAX has no 64-bit numbers by default. An int32 count of tokens overflows after two billion, and a float32 that adds
0.1 a million times is off by a hundredth. Both classes hold arrays, on the device or on the host, and are pytrees.
"""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import TypeAlias, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._types import Array

_CHUNK = 1 << 16
"""The most 16-bit numbers of which a sum always fits in 32 bits."""


def namespace(*arrays: object) -> ModuleType:
    """Return NumPy if all arguments are NumPy arrays or numbers, else ``jax.numpy``."""
    on_host = all(isinstance(a, np.ndarray | np.generic | int | float) for a in arrays)
    return np if on_host else jnp


def floats(values: Array) -> Array:
    """Return values as floats of at least 32 bits, to keep rounding errors of sums small."""
    if jnp.issubdtype(values.dtype, jnp.floating):
        return values.astype(np.float32) if values.dtype.itemsize < 4 else values
    return values.astype(np.float32 if values.dtype.itemsize < 8 else np.float64)


@dataclasses.dataclass(frozen=True, slots=True)
class WideInt:
    """Integers of 64 bits.

    Attributes:
        high: int32, the upper half.
        low: int32, the lower half, the bits of an unsigned number. One dtype makes one packed array.
    """

    high: Array
    low: Array

    @classmethod
    def of(cls, values: Array | int) -> WideInt:
        """Return integers or bools of any dtype as wide integers."""
        if isinstance(values, int) or namespace(values) is np:
            values = np.asarray(values).astype(np.int64)
            low = (values & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
            return cls((values >> 32).astype(np.int32), low)
        if values.dtype.itemsize == 8:
            return cls(
                (values >> 32).astype(np.int32), _signed((values & 0xFFFFFFFF).astype(np.uint32))
            )
        if values.dtype == np.uint32:
            return cls(jnp.zeros_like(values, np.int32), _signed(values))
        low = values.astype(np.int32)
        return cls(low >> 31, low)

    @overload
    def __add__(self, other: WideInt | int) -> WideInt: ...
    @overload
    def __add__(self, other: Wide) -> Wide: ...
    def __add__(self, other: Wide | int) -> Wide:
        """Return the sum; that of an integer and a float is a float."""
        if isinstance(other, WideFloat):
            return self.as_float(other.high.dtype) + other
        if isinstance(other, int):
            other = WideInt.of(other)
        if namespace(self.low, other.low) is np:
            return WideInt.of(np.asarray(self) + np.asarray(other))
        low = _unsigned(self.low) + _unsigned(other.low)
        carry = (low < _unsigned(self.low)).astype(np.int32)
        return WideInt(self.high + other.high + carry, _signed(low))

    __radd__ = __add__

    def __mul__(self, other: WideInt) -> WideInt:
        """Return the product."""
        if namespace(self.low, other.low) is np:
            return WideInt.of(np.asarray(self) * np.asarray(other))
        a, b = _unsigned(self.low), _unsigned(other.low)
        (a1, a0), (b1, b0) = ((x >> 16, x & 0xFFFF) for x in (a, b))
        inner, outer = a0 * b1, a1 * b0
        middle = (a0 * b0 >> 16) + (inner & 0xFFFF) + (outer & 0xFFFF)
        high = a1 * b1 + (inner >> 16) + (outer >> 16) + (middle >> 16)
        high = _signed(high) + self.high * other.low + self.low * other.high
        return WideInt(high, _signed(a * b))

    def __mod__(self, divisor: int) -> Array:
        """Return the remainders of the division by an integer below 2**31: uint32, on the device."""
        rest, low = (self.high % np.int32(divisor)).astype(np.uint32), _unsigned(self.low)
        left, free = 32, 32 - divisor.bit_length()
        while left:
            # As many bits of the lower word as fit beside a remainder.
            taken = min(left, free)
            left -= taken
            bits = (low >> left) & np.uint32((1 << taken) - 1)
            rest = ((rest << taken) | bits) % np.uint32(divisor)
        return rest

    def sum(self) -> WideInt:
        """Return the sum along the leading axis."""
        if namespace(self.low) is np:
            return WideInt.of(np.asarray(self).sum(0))
        high, low = self.high, self.low
        while low.shape[0] > _CHUNK:
            padding = (0, -low.shape[0] % _CHUNK), *[(0, 0)] * (low.ndim - 1)
            shape = (-1, _CHUNK, *low.shape[1:])
            high, low = _sum_words(*(jnp.pad(x, padding).reshape(shape) for x in (high, low)), 1)
        return WideInt(*_sum_words(high, low, 0))

    def is_positive(self) -> Array:
        """Return where the numbers are above zero."""
        return (self.high > 0) | ((self.high == 0) & (self.low != 0))

    def as_float(self, dtype: np.dtype | None = None) -> WideFloat:
        """Return the numbers as floats, by default of 32 bits on the device and of 64 on the host."""
        if namespace(self.low) is np:
            return WideFloat.of(np.asarray(self).astype(dtype or np.float64))
        dtype = np.dtype(dtype or np.float32)
        low = _unsigned(self.low)
        upper = self.high.astype(dtype) * 2.0**32
        total, rest = add_exactly(upper, (low >> 16).astype(dtype) * 2.0**16)
        total, more = add_exactly(total, (low & 0xFFFF).astype(dtype))
        return WideFloat(*add_exactly(total, rest + more))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Return int64, on the host."""
        joined = np.asarray(self.high).astype(np.int64) << 32
        joined = joined | np.asarray(self.low).view(np.uint32).astype(np.int64)
        return np.asarray(joined, dtype)


@dataclasses.dataclass(frozen=True, slots=True)
class WideFloat:
    """Sums of two floats, with twice the digits of one.

    Attributes:
        high: float32 or float64, the sum, rounded.
        low: the rounding error.
    """

    high: Array
    low: Array

    @classmethod
    def of(cls, values: Array) -> WideFloat:
        """Return real numbers of any dtype as wide floats."""
        values = floats(values)
        return cls(values, namespace(values).zeros_like(values))

    def __add__(self, other: Wide | int) -> WideFloat:
        """Return the sum."""
        if isinstance(other, int):
            other = WideInt.of(other)
        if isinstance(other, WideInt):
            other = other.as_float(self.high.dtype)
        high, rest = add_exactly(self.high, other.high)
        return WideFloat(*add_exactly(high, rest + (self.low + other.low)))

    __radd__ = __add__

    def __mul__(self, other: WideFloat) -> WideFloat:
        """Return the product. Its relative error is below 2**-34."""
        a, b = self.high, other.high
        with np.errstate(over="ignore", invalid="ignore"):
            rest = a * other.low + self.low * b
            if a.dtype.itemsize < 8:
                (a, a_low), (b, b_low) = _split(a), _split(b)
                rest = rest + (a * b_low + a_low * b + a_low * b_low)
            return WideFloat(*add_exactly(a * b, rest))

    def sum(self) -> WideFloat:
        """Return the sum along the leading axis."""
        return WideFloat(*add_exactly(self.high.sum(0), self.low.sum(0)))

    def is_positive(self) -> Array:
        """Return where the numbers are above zero."""
        return self.high > 0

    def as_float(self, dtype: np.dtype | None = None) -> WideFloat:
        """Return the numbers in another dtype, by default their own."""
        if dtype is None or dtype == self.high.dtype:
            return self
        return WideFloat(self.high.astype(dtype), self.low.astype(dtype))

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """Return float64, on the host."""
        with np.errstate(invalid="ignore"):
            return np.asarray(np.asarray(self.high, np.float64) + np.asarray(self.low), dtype)


Wide: TypeAlias = WideInt | WideFloat
"""Numbers in two words."""

for _class in (WideInt, WideFloat):
    jax.tree_util.register_dataclass(_class, data_fields=["high", "low"], meta_fields=[])


def as_wide(values: Array) -> Wide:
    """Return real numbers of any dtype as wide numbers, exactly."""
    dtype = values.dtype
    if jnp.issubdtype(dtype, jnp.floating):
        return WideFloat.of(values)
    if dtype != np.uint64:
        return WideInt.of(values)
    if namespace(values) is np and np.all(values < 2**63):
        return WideInt.of(values)
    upper = (values >> 32).astype(np.float64) * 2.0**32
    return WideFloat(*add_exactly(upper, (values & 0xFFFFFFFF).astype(np.float64)))


def add_exactly(a: Array, b: Array) -> tuple[Array, Array]:
    """Return ``a + b`` and its rounding error (Knuth, TAOCP 2, section 4.2.2, theorem B)."""
    xp = namespace(a, b)
    with np.errstate(invalid="ignore"):
        total = a + b
        part = total - a
        rest = (a - (total - part)) + (b - part)
    # The differences are NaN if the sum is infinite.
    return total, xp.where(xp.isfinite(total), rest, xp.zeros_like(rest))


def _split(x: Array) -> tuple[Array, Array]:
    """Split float32 in two numbers of 12 digits each, whose products are exact."""
    xp = namespace(x)
    bits = np.asarray(x).view(np.int32) if xp is np else lax.bitcast_convert_type(x, np.int32)
    bits = bits & np.int32(-(2**12))
    upper = bits.view(np.float32) if xp is np else lax.bitcast_convert_type(bits, np.float32)
    upper = xp.where(xp.isfinite(x), upper, x)
    return upper, xp.where(xp.isfinite(x), x - upper, xp.zeros_like(x))


def _sum_words(high: Array, low: Array, axis: int) -> tuple[Array, Array]:
    """Return the words of a sum of at most 2**16 wide integers."""
    bits = _unsigned(low)
    lower = (bits & 0xFFFF).sum(axis, dtype=np.uint32)
    upper = (bits >> 16).sum(axis, dtype=np.uint32)
    total = lower + (upper << 16)
    carry = (upper >> 16) + (total < lower).astype(np.uint32)
    return high.sum(axis, dtype=np.int32) + _signed(carry), _signed(total)


def _unsigned(x: Array) -> Array:
    return lax.bitcast_convert_type(x, np.uint32)


def _signed(x: Array) -> Array:
    return lax.bitcast_convert_type(x, np.int32)
