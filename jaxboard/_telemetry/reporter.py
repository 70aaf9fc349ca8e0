"""How telemetry writes: records under ``jaxboard/``, through the channel of its run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxboard._host.channel import Channel
from jaxboard.records import Kind, Record

PREFIX = "jaxboard/"


class Reporter:
    """Writes to one run.

    Args:
        channel: of the run.
        wall: the wall clock, seconds since the epoch.
    """

    def __init__(self, channel: Channel, wall: Callable[[], float] = time.time):
        self._channel = channel
        self._wall = wall

    def scalars(self, step: int, values: dict[str, float | None]) -> None:
        """Numbers by the rest of their tag; what is None is not known, and not written."""
        for tag, value in values.items():
            if value is not None:
                self._put(Kind.SCALAR, tag, step, np.float64(value))

    def text(self, step: int, tag: str, value: str | list[list[str]]) -> None:
        """Markdown, or a table: rows, the header first."""
        self._put(Kind.TEXT, tag, step, value)

    def _put(self, kind: Kind, tag: str, step: int, value: Any) -> None:
        self._channel.put(Record(kind, PREFIX + tag, step, self._wall(), value))
