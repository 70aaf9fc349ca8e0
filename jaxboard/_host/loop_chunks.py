"""The chunks of streamed loops as batches of iterations, each with a wall time of its own."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxboard._frame import Entry, Frame, FrameBatch, LoopChunk


class _Progress(NamedTuple):
    """The progress of a loop.

    Attributes:
        wall_time: when its last chunk arrived.
        iterations: how many iterations have arrived.
        last_step: the step of the last one.
    """

    wall_time: float
    iterations: int
    last_step: int


class LoopChunks:
    """Makes batches from the chunks of loops. The wall times of a chunk are evenly spaced since the chunk before."""

    def __init__(self) -> None:
        self._loops: dict[tuple[tuple[Entry, ...], int | None], _Progress] = {}

    def batch(self, frame: Frame) -> FrameBatch | None:
        """Return the iterations of a chunk, or None if none of them ran.

        Args:
            frame: a frame whose vectors are NumPy arrays.
        """
        chunk, slot = frame.plan.chunk, frame.plan.step
        if chunk is None or slot is None:
            return None
        vectors = dict(zip(frame.plan.vector_names, frame.vectors, strict=True))
        steps = slot.read(vectors).astype(np.int64)
        order = np.argsort(steps, kind="stable")  # the last row of a reversed loop ran first
        order = order[steps[order] >= 0]
        if not len(order):
            return None
        steps = steps[order]
        arrays = {name: vector[order] for name, vector in vectors.items()}
        since = self._advance(frame, chunk, steps)
        walls = np.linspace(since, frame.wall_time, len(steps) + 1)[1:]
        return FrameBatch(frame.plan, arrays, steps, walls, frame.open)

    def _advance(self, frame: Frame, chunk: LoopChunk, steps: np.ndarray) -> float:
        """Note that a chunk has arrived, and return when its first iteration began."""
        loop = frame.plan.entries, chunk.total
        progress = self._loops.pop(loop, None)
        if progress is None or not _goes_on(progress, chunk, steps):
            progress = _Progress(frame.wall_time, 0, 0)
        iterations = progress.iterations + chunk.size
        if chunk.total is None or iterations < chunk.total:
            self._loops[loop] = _Progress(frame.wall_time, iterations, int(steps[-1]))
        return progress.wall_time


def _goes_on(progress: _Progress, chunk: LoopChunk, steps: np.ndarray) -> bool:
    """Return whether a chunk is of the same call as the last one: a loop of unknown length may have run again."""
    return chunk.total is not None or chunk.shares_steps or steps[0] == progress.last_step + 1
