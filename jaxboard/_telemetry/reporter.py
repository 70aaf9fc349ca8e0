"""The writer of telemetry: records under ``jaxboard/``, put into the channel of a run."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from jaxboard._host.active_channel import active
from jaxboard._host.channel import Channel
from jaxboard._host.drawings import Drawing
from jaxboard._own_tags import RUN_PREFIX
from jaxboard.records import Kind, Record


class Reporter:
    """A writer of telemetry to one run.

    Args:
        channel: the channel of the run.
        wall: the wall clock, in seconds since the epoch.
    """

    def __init__(self, channel: Channel, wall: Callable[[], float] = time.time):
        self._channel = channel
        self._wall = wall

    def is_active(self) -> bool:
        """Return whether calls of this thread belong to this run now, or to a run below it."""
        channel = active()
        return channel is not None and channel.root is self._channel

    @property
    def last_step(self) -> int:
        """The step before the next one, which a streamed loop advances while it runs."""
        return self._channel.step - 1

    def scalars(self, step: int, values: dict[str, float | None]) -> None:
        """Write numbers by tag, without the prefix. None means unknown and is left out."""
        for tag, value in values.items():
            if value is not None:
                self._put(Kind.SCALAR, tag, step, np.float64(value))

    def text(self, step: int, tag: str, value: str | list[list[str]]) -> None:
        """Write Markdown, or a table as rows of cells with the header first."""
        self._put(Kind.TEXT, tag, step, value)

    def image(self, step: int, tag: str, value: Drawing) -> None:
        """Write a picture, which the flusher draws."""
        self._put(Kind.IMAGE, tag, step, value)

    def text_record(self, step: int, tag: str, value: str) -> Record:
        """Return a text entry, for the flusher's thread, which cannot put it."""
        return Record(Kind.TEXT, RUN_PREFIX + tag, step, self._wall(), value)

    def _put(self, kind: Kind, tag: str, step: int, value: object) -> None:
        self._channel.put(Record(kind, RUN_PREFIX + tag, step, self._wall(), value))
