"""The last rows of each block of columns, to look back at."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

import numpy as np

from jaxboard._alerts.columns import Columns

ROWS = 300
"""At least this many rows of each set of tags are kept."""

_MAX_SETS = 1000
"""Most sets of tags. If a flush divides the reports of a step, there are sets with few rows."""


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
        while len(self._parts) > _MAX_SETS:
            del self._parts[next(iter(self._parts))]

    def of_run(self, run: str) -> Iterator[Columns]:
        """Yield the rows of each set of tags of a run. No tag is in two of them."""
        blocks = [
            Columns(
                run,
                tags,
                np.concatenate([part.steps for part in parts]),
                np.concatenate([part.values for part in parts]).astype(np.float64),
            )
            for (its_run, tags), parts in self._parts.items()
            if its_run == run
        ]
        counts = Counter(tag for block in blocks for tag in block.tags)
        divided: dict[str, list[Columns]] = {}
        for block in blocks:
            if all(counts[tag] == 1 for tag in block.tags):
                yield block
                continue
            for k, tag in enumerate(block.tags):
                column = Columns(run, (tag,), block.steps, block.values[:, k, None])
                divided.setdefault(tag, []).append(column)
        for parts in divided.values():
            steps = np.concatenate([part.steps for part in parts])
            order = np.argsort(steps, kind="stable")
            values = np.concatenate([part.values for part in parts])
            yield Columns(run, parts[0].tags, steps[order], values[order])
