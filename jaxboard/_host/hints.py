"""Hints about reports that arrive, but probably not as intended. Each is logged once.

They are found on the flusher's thread, where a warnings filter set to "error" must not raise. They are
therefore logged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jaxboard._host.complete_points import Point
from jaxboard._log import logger
from jaxboard._reduce.image import ClippedImages
from jaxboard.records import Record

MANY_VALUES = 100
"""The number of values of one point from which on a missing step is the likely cause."""

CLIPPED = (
    "{}: pixels outside of 0 to 1 were clipped; the values reach from {:.4g} to {:.4g}. Pass "
    "range=(low, high) to show all of them, or range=(0, 1) if clipping is intended."
)

_ONE_POINT = (
    "{} values of {!r} were reported at step {} and became one point, as the run has not taken a step. Use "
    "'for run.step in range(n)', pass step=, or put @jaxboard.instrument above @jax.jit."
)


class Hints:
    """The hints of one run. Used by one thread, the flusher.

    Args:
        name: the run, for messages.
        counts_steps: returns whether the run has taken a step, or was given one.
    """

    def __init__(self, name: str = "run", counts_steps: Callable[[], bool] = lambda: True):
        self._name = name
        self._counts_steps = counts_steps
        self._clipped: set[str] = set()
        self._has_one_point = False

    def check_count(self, tag: str, step: int, count: int) -> None:
        """Log that many values became one point because nothing counts steps."""
        if self._has_one_point or count < MANY_VALUES or self._counts_steps():
            return
        self._has_one_point = True
        self._log(_ONE_POINT.format(count, tag, step))

    def plain(self, point: Point) -> Point:
        """Return a point as sinks receive it, and log that images were clipped."""
        if not isinstance(point, Record) or not isinstance(point.value, ClippedImages):
            return point
        images = point.value
        if point.tag not in self._clipped:
            self._clipped.add(point.tag)
            self._log(CLIPPED.format(f"image {point.tag!r}", images.low, images.high))
        return dataclasses.replace(point, value=images.images)

    def _log(self, text: str) -> None:
        logger.warning("jaxboard, run %s: %s", self._name, text)
