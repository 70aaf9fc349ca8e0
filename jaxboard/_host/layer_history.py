"""The statistics of the layers of a model over the steps of a run: the last ones exactly, all of them in few columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxboard._reduce.layer_health import STATISTICS

RECENT = 30
"""The number of last reports that are kept as they are."""

_COLUMNS = 96
"""Most columns of the whole history. With more, two neighbours become one."""


class LayerColumns(NamedTuple):
    """The history of L layers in C columns.

    Attributes:
        steps: int64[C], the last step of each column.
        values: float32[C, 7, L], the largest value of each statistic within the column; NaN where it was never defined.
    """

    steps: np.ndarray
    values: np.ndarray


class LayerHistory:
    """The statistics of L layers. Used by one thread, the flusher.

    Args:
        layers: the names of the layers.

    Attributes:
        layers: the same.
        count: how many reports there were.
    """

    def __init__(self, layers: tuple[str, ...]):
        self.layers = layers
        self.count = 0
        self._steps = np.zeros(_COLUMNS, np.int64)
        self._values = np.empty((_COLUMNS, len(STATISTICS), len(layers)), np.float32)
        self._used = 0
        # The number of reports in each full column, and in the last one.
        self._width = 1
        self._filled = 0
        self._recent_steps = np.zeros(RECENT, np.int64)
        self._recent = np.empty((RECENT, len(STATISTICS), len(layers)), np.float32)

    def add(self, step: int, values: np.ndarray) -> None:
        """Add the statistics of a step: [7, L]."""
        place = self.count % RECENT
        self._recent_steps[place] = step
        with np.errstate(over="ignore"):
            self._recent[place] = values
        self.count += 1
        if self._filled in (0, self._width):
            if self._used == _COLUMNS:
                self._merge_neighbours()
            self._used += 1
            self._filled = 0
            self._values[self._used - 1] = np.nan
        self._filled += 1
        self._steps[self._used - 1] = step
        column = self._values[self._used - 1]
        np.fmax(column, self._recent[place], out=column)

    @property
    def recent(self) -> LayerColumns:
        """The last reports, at most :data:`RECENT`, the oldest first."""
        if self.count <= RECENT:
            return LayerColumns(self._recent_steps[: self.count], self._recent[: self.count])
        order = np.arange(self.count, self.count + RECENT) % RECENT
        return LayerColumns(self._recent_steps[order], self._recent[order])

    @property
    def columns(self) -> LayerColumns:
        """The whole history."""
        return LayerColumns(self._steps[: self._used], self._values[: self._used])

    def _merge_neighbours(self) -> None:
        half = _COLUMNS // 2
        self._steps[:half] = self._steps[1::2]
        self._values[:half] = np.fmax(self._values[::2], self._values[1::2])
        self._used = half
        self._width *= 2
