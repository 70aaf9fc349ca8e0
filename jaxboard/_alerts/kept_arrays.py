"""The arrays that ``jaxboard.keep`` keeps of recent steps."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from jaxboard._host.complete_points import KeptPoint
from jaxboard._log import logger

_STEPS = 512
"""Most steps whose arrays are kept of one name."""

_BYTES = 32 * 2**20
"""Most bytes of the arrays of one name, except of the last one."""

_NAMES = 64
"""Most names."""


class KeptArray(NamedTuple):
    """An array of one name at one step."""

    name: str
    step: int
    value: np.ndarray


class KeptArrays:
    """Keeps the arrays of the last steps, by run and name."""

    def __init__(self) -> None:
        self._arrays: dict[tuple[str, str], deque[KeptPoint]] = {}
        self._is_full = False

    def add(self, point: KeptPoint) -> None:
        """Append an array. One at the same step replaces it. Arrays of too many names are left out, with one warning."""
        key = point.run, point.tag
        if key not in self._arrays and len(self._arrays) == _NAMES:
            if not self._is_full:
                logger.warning(
                    "jaxboard: jb.keep(%r): a run keeps the arrays of %s names, and leaves out those of others. A "
                    "name must not change from step to step.",
                    point.tag,
                    _NAMES,
                )
            self._is_full = True
            return
        points = self._arrays.setdefault(key, deque())
        if points and points[-1].step == point.step:
            points.pop()
        points.append(point)

    def trim(self) -> None:
        """Remove the arrays of steps that are too long ago."""
        for points in self._arrays.values():
            most = min(_STEPS, max(1, _BYTES // max(points[-1].value.nbytes, 1)))
            while len(points) > most:
                points.popleft()

    def between(self, run: str, first: int, last: int) -> list[KeptArray]:
        """Return the arrays of a run from one step to another, by name and step."""
        return [
            KeptArray(name, point.step, point.value)
            for (its_run, name), points in self._arrays.items()
            if its_run == run
            for point in points
            if first <= point.step <= last
        ]
