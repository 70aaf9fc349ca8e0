"""Checks of plain arguments: numbers of steps, sizes, seconds."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Collection
from typing import SupportsIndex, cast

from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr


def as_int(value: object) -> int | None:
    """Return an integer of any type as an int, or None for anything else.

    A bool is not an integer; NumPy's integers are. A tracer has no value, nor has an array that was deleted.
    """
    if isinstance(value, bool):
        return None
    try:
        return operator.index(cast(SupportsIndex, value))
    except Exception:
        return None


def as_bool(value: object) -> bool | None:
    """Return a bool of any type as a bool, or None for anything else, such as a text, a tracer or an array.

    0 and 1 are bools here, as are NumPy's.
    """
    try:
        truth = bool(value)
        is_bool = bool(truth == value)
    except Exception:
        return None
    return truth if is_bool else None


def checked_bool(call: str, name: str, value: object) -> bool:
    """Return whether an option is on.

    Args:
        call: what was called, for the message: ``"instrument"``.
        name: the argument.
        value: what was passed.

    Raises:
        UsageError: ``value`` is neither true nor false.
    """
    truth = as_bool(value)
    if truth is None:
        raise UsageError(f"{call}({name}={safe_repr(value)}): expected True or False.")
    return truth


def as_positive_int(value: object) -> int | None:
    """Return ``value`` as an int of at least 1 and at most 63 bits, or None if it is something else."""
    number = as_int(value)
    return number if number is not None and number > 0 and fits_64_bits(number) else None


def is_one_of(value: object, names: Collection[str]) -> bool:
    """Return whether ``value`` is one of some names. Unlike ``in``, it accepts values that cannot be compared."""
    return isinstance(value, str) and value in names


def fits_64_bits(number: int) -> bool:
    """Return whether an event file can store an integer."""
    return -(2**63) <= number < 2**63


def positive_int(
    call: str, name: str, value: SupportsIndex, unit: str = "", error: type[UsageError] = UsageError
) -> int:
    """Return ``value`` as an int of at least 1.

    Args:
        call: what was called, for the message: ``"instrument"``.
        name: the argument.
        value: what was passed. A bool is not an integer; NumPy's integers are.
        unit: what the number counts, for the message: ``"steps"``.
        error: the exception to raise.

    Raises:
        UsageError: ``value`` is something else.
    """
    number = as_positive_int(value)
    if number is None:
        counted = f", in {unit}" if unit else ""
        raise error(f"{call}({name}={safe_repr(value)}): expected a positive integer{counted}.")
    return number


def positive_number(call: str, name: str, value: float) -> float:
    """Return ``value``, a number above 0, as a float.

    Args:
        call: what was called, for the message: ``"Run"``.
        name: the argument.
        value: what was passed. A bool is not a number; NumPy's numbers are.

    Raises:
        UsageError: ``value`` is something else.
    """
    number = as_number(value)
    if not number > 0:
        raise UsageError(f"{call}({name}={safe_repr(value)}): expected a number above 0.")
    return number


def as_number(value: object) -> float:
    """Return a real number as a float, or NaN for anything else. A bool is not a number; NumPy's numbers are."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1e308
        return math.nan
