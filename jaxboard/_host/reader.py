"""The reader of the buffer: it moves reports to the host in small pieces, to not delay the training loop.

The loop releases the GIL at every step. A busy thread returns it only after the switch interval, 5 ms, when the
device is already idle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from jaxboard._frame import Frame, Number
from jaxboard._host.buffer import Buffer, Item, count_reports
from jaxboard._host.fetch import Fetched, fetch
from jaxboard._host.lost import LostReports
from jaxboard._log import describe

PIECE = 64
"""Items in a piece. At 5 µs each, a piece is read before the device has finished the work in its queue."""

_REST_SECS = 0.0003
"""Seconds for which other threads run between two pieces."""


class BufferReader:
    """Reads a buffer, and collects what it has read.

    Read often: the memory of items that were read is used again for new ones, and all of it is
    still in a processor's cache.

    Args:
        buffer: the buffer.
        is_writer: returns whether items are collected at all. Its argument is whether a frame or a number on a
            device is among them.
        lost: counts and logs the items that cannot be read.
        takes_frames: whether frames are collected. Those of a process whose frames another process writes are not.

    Attributes:
        items: the collected items, in order.
        nbytes: their approximate size in bytes.
    """

    def __init__(
        self,
        buffer: Buffer,
        is_writer: Callable[[bool], bool],
        lost: LostReports,
        *,
        takes_frames: bool = True,
    ):
        self.items: list[Fetched] = []
        self.nbytes = 0
        self._buffer = buffer
        self._is_writer = is_writer
        self._lost = lost
        self._takes_frames = takes_frames
        self._last_read = time.monotonic()

    def read(self, pause_until: float) -> float:
        """Read every item that is ready.

        Args:
            pause_until: pause between pieces until this time, by ``time.monotonic()``.

        Returns:
            In how many seconds another piece will be ready, at the present rate.
        """
        start, previous = time.monotonic(), self._last_read
        total = 0
        for _ in range(len(self._buffer) // PIECE + 1):
            piece = self._buffer.take_ready(PIECE)
            total += len(piece)
            self._collect(piece)
            if len(piece) < PIECE:
                break
            if time.monotonic() < pause_until:
                self._buffer.wake.wait(_REST_SECS)
        self._last_read = time.monotonic()
        return max(_REST_SECS, (start - previous) * PIECE / total) if total else float("inf")

    def take_items(self) -> list[Fetched]:
        """Return the collected items, and forget them."""
        items, self.items, self.nbytes = self.items, [], 0
        return items

    def lose(self, items: Sequence[Item | Fetched], fault: BaseException) -> None:
        """Count items as lost because ``fault`` was raised."""
        reason = f"assembling them failed: {describe(fault)}"
        self._lost.add(sum(map(count_reports, items)) or 1, reason, fault)
        self._lost.log_once(f"failed to assemble reports: {describe(fault)}", "They are lost.")

    def _collect(self, piece: list[Item]) -> None:
        if not self._takes_frames:
            piece = [item for item in piece if not isinstance(item, Frame)]
        try:
            if self._is_writer(any(map(_has_device_arrays, piece))):
                fetched = fetch(piece, self._lose_uncomputed)
                self.items += fetched
                self.nbytes += sum(item.nbytes for item in fetched)
        except BaseException as fault:
            self.lose(piece, fault)

    def _lose_uncomputed(self, item: Item, fault: Exception) -> None:
        reason = f"computing them failed: {describe(fault)}"
        self._lost.add(count_reports(item), reason, fault)
        self._lost.log_once(
            f"reports are missing, because {reason}", "Reports of other steps are written."
        )


def _has_device_arrays(item: Item) -> bool:
    return isinstance(item, Frame) or (
        isinstance(item, Number) and not isinstance(item.value, np.generic)
    )
