"""Event files as TensorBoard reads them."""

from __future__ import annotations

import io
import os
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.util import tensor_util


class Value(NamedTuple):
    """One value of a summary, migrated to a tensor as TensorBoard does."""

    tag: str
    step: int
    wall_time: float
    message: Any

    @property
    def array(self) -> np.ndarray:
        """The tensor as an array."""
        return tensor_util.make_ndarray(self.message.tensor)

    @property
    def pixels(self) -> np.ndarray:
        """The first image of the value."""
        return np.asarray(Image.open(io.BytesIO(self.array[2])))


def events(directory, loader=event_file_loader.EventFileLoader) -> list[Any]:
    """Return the events of a directory, without those of the directories below it."""
    names = sorted(name for name in os.listdir(directory) if ".tfevents." in name)
    return [event for name in names for event in loader(os.path.join(str(directory), name)).Load()]


def values(directory) -> list[Value]:
    """Return all values of a directory."""
    return [
        Value(value.tag, event.step, event.wall_time, value)
        for event in events(directory)
        for value in event.summary.value
    ]


def by_tag(directory) -> dict[str, Value]:
    """Return the last value of each tag."""
    return {value.tag: value for value in values(directory)}
