"""Checks of plain arguments: numbers of steps, sizes, seconds."""

from __future__ import annotations

import numbers
import operator
from typing import SupportsIndex, cast

from jaxboard._errors import UsageError


def as_positive_int(value: object) -> int | None:
    """Return ``value`` as an int of at least 1 and at most 63 bits, or None if it is something else.

    A bool is not an integer; NumPy's integers are.
    """
    try:
        number = 0 if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        return None
    return number if number > 0 and fits_64_bits(number) else None


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
        raise error(f"{call}({name}={value!r}): expected a positive integer{counted}.")
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
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not value > 0:
        raise UsageError(f"{call}({name}={value!r}): expected a number above 0.")
    return float(value)
