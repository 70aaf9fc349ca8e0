"""Event files as TensorBoard reads them."""

from __future__ import annotations

import os

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def scalar_points(directory: str | os.PathLike[str], tag: str) -> list[tuple[int, float]]:
    """Return the step and the value of each point of a scalar that TensorBoard shows."""
    keep_all = {"scalars": 0}
    events = EventAccumulator(os.fspath(directory), size_guidance=keep_all).Reload()
    return [(point.step, point.value) for point in events.Scalars(tag)]
