"""Which steps are profiled."""

from __future__ import annotations

import operator
import re
from typing import Any

from jaxboard._errors import ReportError

_FORMS = (
    "Give it as range(10, 20), (10, 20), slice(10, 20) or '10..20', which all mean steps 10 to 19."
)


def window(steps: Any) -> range | None:
    """The steps as a range of step 1 with at least one element; None stays None.

    Raises:
        ReportError: ``steps`` is nothing of the kind, has a stride, is empty, or begins below 0.
    """
    if steps is None:
        return None
    try:
        start, stop, stride = (operator.index(number) for number in _bounds(steps))
    except (TypeError, ValueError) as error:
        raise ReportError(
            f"profile(steps={steps!r}): this is no window of steps. {_FORMS}"
        ) from error
    if stride != 1:
        raise ReportError(
            f"profile(steps={steps!r}): a trace is of all that happens in a stretch of time, so the steps "
            f"have no stride. {_FORMS}"
        )
    if start < 0 or stop <= start:
        what = "no step is in this window" if start >= 0 else "steps count from 0"
        raise ReportError(f"profile(steps={steps!r}): {what}. {_FORMS}")
    return range(start, stop)


def _bounds(steps: Any) -> tuple[Any, Any, Any]:
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
