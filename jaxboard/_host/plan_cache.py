"""A cache of results that depend on the plan of a frame only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from jaxboard._frame import Plan

_Result = TypeVar("_Result")

_MAX_PLANS = 1024
"""Most plans. A program has one plan; the cache forgets all of them when there are more than this."""


class PlanCache(Generic[_Result]):
    """The results of a function of plans, by the identity of the plan: hashing a plan takes microseconds.

    Example:
        >>> sizes = PlanCache[int]()
        >>> plan = Plan(())
        >>> sizes.get(plan, lambda plan: len(plan.entries))
        0
    """

    __slots__ = ("_results",)

    def __init__(self) -> None:
        # The plan is kept so that its id is not used again.
        self._results: dict[int, tuple[Plan, _Result]] = {}

    def get(self, plan: Plan, compute: Callable[[Plan], _Result]) -> _Result:
        """Return ``compute(plan)``, from the cache if it was computed before."""
        known = self._results.get(id(plan))
        if known is not None:
            return known[1]
        result = compute(plan)
        if len(self._results) >= _MAX_PLANS:
            self._results.clear()
        self._results[id(plan)] = plan, result
        return result
