"""The parser of ``profile(steps=...)``."""

from __future__ import annotations

import operator
import re
from typing import SupportsIndex, TypeAlias

from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr

Steps: TypeAlias = range | slice | tuple[int, int] | str | None
"""The forms of a range of steps. None means every step."""

_FORMS = "Use range(10, 20), (10, 20), slice(10, 20) or '10..20', which all mean steps 10 to 19."


def parse_steps(steps: Steps) -> range | None:
    """Return the steps as a non-empty range without a stride; None stays None.

    Raises:
        UsageError: ``steps`` has another form, has a stride, is empty, or starts below 0.

    Example:
        >>> parse_steps("10..20")
        range(10, 20)
    """
    if steps is None:
        return None
    try:
        start, stop, stride = (operator.index(number) for number in _bounds(steps))
    except Exception as error:
        raise UsageError(
            f"profile(steps={safe_repr(steps)}): expected a range of steps. {_FORMS}"
        ) from error
    if stride != 1:
        raise UsageError(
            f"profile(steps={safe_repr(steps)}): a trace covers consecutive steps, so a stride is not possible. "
            f"{_FORMS}"
        )
    if start < 0:
        raise UsageError(f"profile(steps={safe_repr(steps)}): steps count from 0. {_FORMS}")
    if stop <= start:
        raise UsageError(f"profile(steps={safe_repr(steps)}): the range is empty. {_FORMS}")
    return range(start, stop)


def _bounds(steps: Steps) -> tuple[SupportsIndex, SupportsIndex, SupportsIndex]:
    match steps:
        case range():
            return steps.start, steps.stop, steps.step
        case slice():
            return steps.start or 0, steps.stop, 1 if steps.step is None else steps.step
        case str():
            numbers = re.fullmatch(r"\s*(\d+)\s*\.\.\s*(\d+)\s*", steps)
            if numbers is None:
                raise ValueError(steps)
            return int(numbers[1]), int(numbers[2]), 1
        case (start, stop):
            return start, stop, 1
        case _:
            raise TypeError(steps)
