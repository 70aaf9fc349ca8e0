"""The values of all steps of a run, in a bounded number of columns. Each column covers one or more steps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_MAX_COLUMNS = 96
"""Most columns. When all are in use, pairs of neighbors are merged."""


class HistoryColumns(NamedTuple):
    """A history of S statistics of L layers in C columns.

    Attributes:
        steps: int64[C], the last step of each column.
        values: float32[C, S, L], the largest value of each statistic within the column; NaN where it was never defined.
    """

    steps: np.ndarray
    values: np.ndarray


class ColumnHistory:
    """The statistics of layers over all steps, in at most 96 columns. Used by one thread, the flusher.

    Args:
        num_statistics: how many statistics each layer has.
        num_layers: how many layers there are.

    Attributes:
        count: how many steps were added.
    """

    def __init__(self, num_statistics: int, num_layers: int):
        self.count = 0
        self._steps = np.zeros(_MAX_COLUMNS, np.int64)
        self._values = np.empty((_MAX_COLUMNS, num_statistics, num_layers), np.float32)
        self._used = 0
        # The number of steps that each full column covers, and that the last one covers so far.
        self._width = 1
        self._filled = 0

    def add(self, step: int, values: np.ndarray) -> None:
        """Add the statistics of a step: float32[S, L]."""
        self.count += 1
        if self._filled in (0, self._width):
            if self._used == _MAX_COLUMNS:
                self._merge_neighbors()
            self._used += 1
            self._filled = 0
            self._values[self._used - 1] = np.nan
        self._filled += 1
        self._steps[self._used - 1] = step
        column = self._values[self._used - 1]
        np.fmax(column, values, out=column)

    def append_layers(self, count: int) -> None:
        """Append layers without values."""
        if not count:
            return
        shape = (*self._values.shape[:2], count)
        self._values = np.concatenate([self._values, np.full(shape, np.nan, np.float32)], axis=2)

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        return self._values.shape[2]

    @property
    def columns(self) -> HistoryColumns:
        """The whole history."""
        return HistoryColumns(self._steps[: self._used], self._values[: self._used])

    def _merge_neighbors(self) -> None:
        half = _MAX_COLUMNS // 2
        self._steps[:half] = self._steps[1::2]
        self._values[:half] = np.fmax(self._values[::2], self._values[1::2])
        self._used = half
        self._width *= 2
