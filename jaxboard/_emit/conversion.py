"""Conversion of reported values to arrays, with messages that name the tag and the user's line."""

from __future__ import annotations

import decimal
import numbers
from collections.abc import Mapping
from typing import Protocol, cast

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from jaxboard._emit.arguments import check_usable, report_error
from jaxboard._safe_repr import describe_array, describe_object, safe_repr
from jaxboard._types import Array, Reportable

_PLAIN = (float, int, np.generic)
"""Types that NumPy converts directly."""

_COMMON = frozenset(
    map(np.dtype, ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "?"))
)
"""Dtypes that need no closer look."""


def as_array(tag: str, value: Reportable) -> Array:
    """Return ``value`` as a JAX or NumPy array of real numbers or bools."""
    if isinstance(value, _PLAIN):
        array = np.array(value)
    elif isinstance(value, jax.Array) and not _is_traced_ref(value):
        check_usable(tag, value)
        array = value
    else:
        array = _converted(tag, value)
    return array if array.dtype in _COMMON else _checked(tag, value, array)


def _checked(tag: str, value: object, array: Array) -> Array:
    """Return an array of an unusual dtype as one of real numbers, or raise."""
    dtype = array.dtype
    if isinstance(array, np.ndarray):
        if dtype.kind == "O":
            return _as_floats(tag, value, array)
        array = as_native(array)
        dtype = array.dtype
        if dtype == np.uint64:
            fits = not array.size or array.max() <= np.iinfo(np.int64).max
            return array if fits else array.astype(np.float64)
    is_number = dtype == np.bool_ or jnp.issubdtype(dtype, np.number)
    # NumPy counts timedelta64 among the integers.
    is_duration = is_number and dtype.kind == "m"
    if not is_number or is_duration:
        got = describe_array(array) if array.ndim or array is value else describe_object(value)
        advice = " Report seconds: x / np.timedelta64(1, 's')." if is_duration else _advice(value)
        raise report_error(tag, f"expected numbers, got {got}.{advice}")
    if jnp.issubdtype(dtype, np.complexfloating):
        raise report_error(tag, f"got {describe_array(array)}. Report its real part, or abs(x).")
    return array


def _is_traced_ref(value: jax.Array) -> bool:
    """Return whether a traced array is a Ref, which JAX 0.8 takes for an array, too."""
    return isinstance(value, jax.core.Tracer) and isinstance(value, jax.Ref)


def _converted(tag: str, value: object) -> Array:
    """Return an object that is neither a number nor a JAX array as an array of any dtype, a copy of its data."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise report_error(
            tag, "expected numbers, got masked elements. Report the others only (x.compressed())."
        )
    try:
        if isinstance(value, jax.Ref):
            return value[...]  # NumPy takes it for a sequence without an end
        convert = getattr(value, "__jax_array__", None)
        if convert is not None:
            return _own_conversion(convert())
        if hasattr(value, "__dlpack__") and hasattr(value, "detach"):  # a tensor of PyTorch
            return _of_tensor(cast("_Tensor", value))
        # A copy, because users may write into their array afterwards. ``copy=`` of np.array would
        # reach the ``__array__`` of other libraries, and many do not know it.
        return np.array(np.asarray(value))
    except Exception as error:
        raise report_error(tag, f"expected numbers, got {describe_object(value)}.") from error


def _own_conversion(array: object) -> Array:
    if not isinstance(array, jax.Array | np.ndarray):
        raise TypeError(f"__jax_array__ returned {describe_object(array)}")
    return array


class _Tensor(Protocol):
    def detach(self) -> object: ...


def _of_tensor(tracked: _Tensor) -> np.ndarray:
    """Return a tensor of PyTorch as a NumPy array."""
    tensor = tracked.detach()
    try:
        return np.array(np.asarray(tensor))
    except (TypeError, RuntimeError):
        # On an accelerator, or of a dtype that NumPy lacks.
        with jax.transfer_guard("allow"):
            return np.array(jnp.from_dlpack(tensor))


def _as_floats(tag: str, value: object, array: np.ndarray) -> np.ndarray:
    """Return an array of Python objects as floats: integers of any size, fractions, decimals."""
    real = (numbers.Real, decimal.Decimal)
    if all(isinstance(x, real) for x in array.flat):
        try:
            return array.astype(np.float64)
        except (OverflowError, ValueError) as error:  # Beyond 1e308; a signalling NaN.
            raise report_error(
                tag, f"expected numbers that a float can hold, got {describe_object(value)}."
            ) from error
    got = describe_array(array) if array.ndim else describe_object(value)
    raise report_error(tag, f"expected numbers, got {got}.{_advice(value)}")


def _advice(value: object) -> str:
    """Return which verb reports a value that is no array of numbers."""
    if isinstance(value, str):
        return " jaxboard.text reports texts."
    return " jaxboard.scalars reports the numbers of a tree." if isinstance(value, Mapping) else ""


def as_native(array: np.ndarray) -> np.ndarray:
    """Return an array in the byte order of the machine, with floats of at most 64 bits, as JAX requires."""
    dtype = array.dtype.newbyteorder("=")
    if dtype.char in "gG":  # longdouble, clongdouble
        dtype = np.dtype(np.float64 if dtype.char == "g" else np.complex128)
    with np.errstate(over="ignore"):
        return array.astype(dtype, copy=False)


def as_jax(array: Array | int) -> jax.Array:
    """Return an array as one of JAX. Numbers beyond the largest float32 become infinite."""
    with np.errstate(over="ignore"):
        return jnp.asarray(array)


def widened(array: Array) -> Array:
    """Return numbers of 8 bits or less that JAX cannot reduce as a dtype that it can."""
    dtype = array.dtype
    if dtype in _COMMON or dtype.itemsize > 1:
        return array
    if jnp.issubdtype(dtype, jnp.floating):
        return array.astype(np.float32)
    return array.astype(np.uint8 if jnp.issubdtype(dtype, jnp.unsignedinteger) else np.int8)


def as_scalar(tag: str, value: Reportable) -> Array:
    """Return ``value`` as an array of rank 0."""
    array = as_array(tag, value)
    if array.ndim:
        raise report_error(
            tag,
            f"expected a scalar, got {describe_array(array)}. "
            "Reduce it first (jnp.mean(x)) or use jaxboard.histogram.",
        )
    return array


def as_weight(tag: str, weight: Reportable | None, where: Reportable | None) -> Array | None:
    """Return the weight of a value as an array of rank 0: numbers, bools, or None for a weight of 1."""
    if weight is None and where is None:
        return None
    mask = None if where is None else as_array(tag, where)
    if mask is not None and (mask.ndim or mask.dtype != np.bool_):
        raise report_error(tag, f"expected where= to be a bool scalar, got {describe_array(mask)}.")
    if weight is None:
        return mask
    if isinstance(weight, int | float | np.number) and weight < 0:
        raise report_error(tag, f"expected weight= to be 0 or more, got {safe_repr(weight)}.")
    array = widened(as_scalar(tag, weight))
    if mask is None:
        return array
    on_host = isinstance(array, np.ndarray) and isinstance(mask, np.ndarray)
    return (np if on_host else jnp).where(mask, array, 0)
