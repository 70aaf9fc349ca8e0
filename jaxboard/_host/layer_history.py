"""The statistics of the layers of a model over the steps of a run: the last ones exactly, all of them in few columns."""

from __future__ import annotations

import numpy as np

from jaxboard._host.column_history import ColumnHistory, HistoryColumns
from jaxboard._reduce.layer_health import STATISTICS

RECENT = 30
"""The number of last reports that are kept as they are."""


class LayerHistory:
    """The statistics of L layers. Used by one thread, the flusher.

    Args:
        layers: the names of the layers.

    Attributes:
        layers: the same.
    """

    def __init__(self, layers: tuple[str, ...]):
        self.layers = layers
        self._all = ColumnHistory(len(STATISTICS), len(layers))
        self._recent_steps = np.zeros(RECENT, np.int64)
        self._recent = np.empty((RECENT, len(STATISTICS), len(layers)), np.float32)

    @property
    def count(self) -> int:
        """The number of reports."""
        return self._all.count

    def add(self, step: int, values: np.ndarray) -> None:
        """Add the statistics of a step: [7, L]."""
        place = self.count % RECENT
        self._recent_steps[place] = step
        with np.errstate(over="ignore"):
            self._recent[place] = values
        self._all.add(step, self._recent[place])

    @property
    def recent(self) -> HistoryColumns:
        """The last reports, at most :data:`RECENT`, the oldest first."""
        if self.count <= RECENT:
            return HistoryColumns(self._recent_steps[: self.count], self._recent[: self.count])
        order = np.arange(self.count, self.count + RECENT) % RECENT
        return HistoryColumns(self._recent_steps[order], self._recent[order])

    @property
    def columns(self) -> HistoryColumns:
        """The whole history."""
        return self._all.columns
