"""A warning for programs in which nothing counts the steps: all values of a tag become one point."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from jaxboard._frame import Frame, FrameBatch, Number, Observation
from jaxboard._host.fetch import Fetched
from jaxboard._log import logger

_MANY = 20
"""The number of values of one tag at the first step that causes the warning."""


class MissingSteps:
    """Counts the values of each tag until the run has a second step, and warns once of many.

    Used by one thread, the flusher, which logs instead of issuing a warning.

    Args:
        name: the run, for the message.
        has_steps: returns whether the program counts steps, see :attr:`Channel.has_steps`.
    """

    def __init__(self, name: str, has_steps: Callable[[], bool]) -> None:
        self._name = name
        self._has_steps = has_steps
        self._counts: Counter[str] = Counter()
        self._done = False

    def observe(self, items: Iterable[Fetched]) -> None:
        """Count the values among items from the buffer."""
        for item in items:
            if self._done:
                return
            if isinstance(item, Observation | Number):
                if not item.explicit_step:
                    self._count(item.spec.tag, 1, item.step)
            elif isinstance(item, FrameBatch) and item.open:
                for entry in item.plan.entries:
                    if entry.step is None:
                        self._count(entry.spec.tag, len(item.steps), int(item.steps[0]))
            elif isinstance(item, FrameBatch | Frame):
                self._done = True  # It comes from an instrumented function.

    def _count(self, tag: str, count: int, step: int) -> None:
        self._counts[tag] += count
        if self._counts[tag] < _MANY or self._done:
            return
        self._done = True
        if not self._has_steps():
            logger.warning(
                "jaxboard: run %s: %s values of %r are merged into one point at step %s, because nothing counts "
                "the steps. Put @jaxboard.instrument above @jax.jit on the training step, or loop by "
                "`for run.step in range(n)`, or pass step= to the report.",
                self._name,
                self._counts[tag],
                tag,
                step,
            )
