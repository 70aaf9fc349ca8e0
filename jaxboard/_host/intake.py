"""Out of the buffer and to the host: a piece at a time, so that the training loop is not held up.

The loop gives the interpreter lock away at each step, and gets it back from a thread that is busy only after
the interpreter's switch interval, 5 ms. By then the device has nothing to do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from jaxboard._frame import Frame
from jaxboard._host.buffer import Buffer, Item, count
from jaxboard._host.fetch import Fetched, fetch
from jaxboard._host.lost import LostReports
from jaxboard._log import describe

PIECE = 64
"""How many items are taken at once: at 5 µs each, for less time than a device has work for."""

_REST_SECS = 0.0003
"""How long others run between two pieces."""


class Intake:
    """What was taken out of a buffer.

    It is best taken often: the memory of what was taken is used again for what comes next, and all of it is
    still in a processor's cache.

    Args:
        buffer: where it comes from.
        wanted: whether it is kept at all; its argument says whether a frame is among it.
        losses: where what cannot be read is counted and shown.

    Attributes:
        items: what was taken, in order.
        nbytes: how many bytes that is, about.
    """

    def __init__(
        self,
        buffer: Buffer,
        wanted: Callable[[bool], bool],
        losses: LostReports,
    ):
        self.items: list[Fetched] = []
        self.nbytes = 0
        self._buffer = buffer
        self._wanted = wanted
        self._losses = losses
        self._looked = time.monotonic()

    def take(self, rest_until: float) -> float:
        """Takes what can be read.

        Args:
            rest_until: until when, by ``time.monotonic()``, it rests between pieces.

        Returns:
            In how many seconds there will be another piece, if it goes on like this.
        """
        began, before = time.monotonic(), self._looked
        total = 0
        for _ in range(len(self._buffer) // PIECE + 1):
            taken = self._buffer.take_ready(PIECE)
            total += len(taken)
            self._keep(taken)
            if len(taken) < PIECE:
                break
            if time.monotonic() < rest_until:
                self._buffer.wake.wait(_REST_SECS)
        self._looked = time.monotonic()
        return max(_REST_SECS, (began - before) * PIECE / total) if total else float("inf")

    def hand_over(self) -> list[Fetched]:
        """All that was taken; it is kept no longer."""
        items, self.items, self.nbytes = self.items, [], 0
        return items

    def lose(self, items: Sequence[Item | Fetched], fault: BaseException) -> None:
        """Tells that items were taken and won't be written, since ``fault`` was raised."""
        why = f"assembling them failed: {describe(fault)}"
        self._losses.add(sum(map(count, items)) or 1, why, fault)
        self._losses.show(f"reports could not be put together: {describe(fault)}", "They are lost.")

    def _keep(self, taken: list[Item]) -> None:
        try:
            if self._wanted(any(isinstance(item, Frame) for item in taken)):
                fetched = fetch(taken, self._lose_frame)
                self.items += fetched
                self.nbytes += sum(item.nbytes for item in fetched)
        except BaseException as fault:
            self.lose(taken, fault)

    def _lose_frame(self, frame: Frame, fault: Exception) -> None:
        why = f"computing them failed: {describe(fault)}"
        self._losses.add(frame.count, why, fault)
        self._losses.show(f"reports are missing, for {why}", "Those of other steps are written.")
