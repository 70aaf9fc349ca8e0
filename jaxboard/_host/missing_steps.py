"""A warning for programs in which nothing counts the steps: all values of a tag become one point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from jaxboard._frame import Frame, FrameBatch, Observation
from jaxboard._host.fetch import Fetched
from jaxboard._log import log_once

_MANY = 20
"""How many values of one tag at the first step cause the warning."""


class MissingSteps:
    """Counts the values of each tag until the run has a second step, and warns of many.

    Used by one thread, the flusher, which logs instead of issuing a warning.

    Args:
        name: the run, for the message.
        has_advanced: returns whether the run has taken a step, or its step was set.
    """

    def __init__(self, name: str, has_advanced: Callable[[], bool]) -> None:
        self._name = name
        self._has_advanced = has_advanced
        self._counts: Counter[str] = Counter()
        self._done = False

    def observe(self, items: Iterable[Fetched]) -> None:
        """Count reports in the order of their arrival."""
        if self._done:
            return
        for item in items:
            if isinstance(item, Frame | FrameBatch):  # It comes from an instrumented function.
                self._done = True
                return
            if isinstance(item, Observation) and not item.explicit_step:
                self._counts[item.spec.tag] += 1
                if self._counts[item.spec.tag] >= _MANY:
                    self._done = True
                    if not self._has_advanced():
                        self._warn(item)
                    return

    def _warn(self, value: Observation) -> None:
        log_once(
            ("no step", self._name),
            f"run {self._name}: {_MANY} values of {value.spec.tag!r} are merged into one point at step "
            f"{value.step}, because nothing counts the steps. Put @jaxboard.instrument above @jax.jit on "
            "the training step, or loop by `for run.step in range(n)`, or pass step= to the report.",
        )
