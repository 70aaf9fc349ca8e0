"""The last rows of each block of columns, to look back at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from jaxboard._alerts.columns import Columns

ROWS = 300
"""So many rows of each set of tags are kept, at least."""


class RecentColumns:
    """Keeps the last rows of each set of tags, between two turns of the flusher."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, tuple[str, ...]], deque[Columns]] = {}

    def add(self, columns: Columns) -> None:
        """Append rows."""
        self._parts.setdefault((columns.run, columns.tags), deque()).append(columns)

    def trim(self) -> None:
        """Remove the rows that are no longer needed. It copies few rows, and keeps no large block alive."""
        for parts in self._parts.values():
            later = sum(len(part.steps) for part in parts) - len(parts[0].steps)
            while later >= ROWS:
                later -= len(parts[1].steps)
                parts.popleft()
            first = parts[0]
            surplus = later + len(first.steps) - ROWS
            if surplus > ROWS:
                steps, values = first.steps[surplus:].copy(), first.values[surplus:].copy()
                parts[0] = first._replace(steps=steps, values=values)

    def of_run(self, run: str) -> Iterator[Columns]:
        """Yield the rows of each set of tags of a run."""
        for (its_run, tags), parts in self._parts.items():
            if its_run == run:
                steps = np.concatenate([part.steps for part in parts])
                yield Columns(run, tags, steps, np.concatenate([part.values for part in parts]))
