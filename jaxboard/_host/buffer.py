"""The buffer between the training loop and the flusher.

Bounded in calls and in bytes, so that a sink that can't follow costs a known amount of memory. What
happens at the bound is said aloud and counted: nothing is dropped in silence.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import Literal, TypeAlias

import numpy as np

from jaxboard._frame import Frame, FrameBatch, Observation, Plan
from jaxboard._host.lost import LostReports
from jaxboard.records import Record

Item: TypeAlias = Frame | Observation | Record
Overflow: TypeAlias = Literal["wait", "drop"]

_OVERHEAD = 1024
"""Bytes that an item costs besides its values: a jax.Array and a frame are about this big."""

_POLL_SECS = 0.002


class Buffer:
    """Holds what was reported, in that order.

    Args:
        max_frames: the most items it holds.
        max_bytes: the most bytes it holds. One item that is larger is taken if it comes alone.
        overflow: what a full buffer does with a new item: ``"wait"`` makes the caller wait for room,
            ``"drop"`` drops the item and counts it.
        losses: where drops are counted.
        stall_secs: how long a caller waits for a flusher that takes nothing at all. After that,
            items are dropped until it takes something again: logging never stops the training.

    Attributes:
        wake: set when the flusher should look here before its time.
    """

    def __init__(
        self,
        max_frames: int,
        max_bytes: int,
        overflow: Overflow = "wait",
        *,
        losses: LostReports | None = None,
        stall_secs: float = 10.0,
    ):
        self.wake = threading.Event()
        self._items: deque[Item] = deque()
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._losses = losses or LostReports()
        self._stall_secs = stall_secs
        self._bound = f"{max_frames} calls or {max_bytes / 2**20:g} MiB"
        # From here on put() takes the slow way: half full, or closed.
        self._many_frames = max_frames // 2
        self._many_bytes = max_bytes // 2
        # An estimate while threads race for it; taking all that is ready makes it exact again.
        self._bytes = 0
        # The size of a frame is known by its plan, one object per compiled step. Measuring each
        # frame would cost a microsecond; the plan is kept so that its id stays its own.
        self._sizes: dict[int, tuple[int, Plan]] = {}
        # Guards everything below, and taking items out; appending needs no lock.
        self._room = threading.Condition()
        self._taken = 0
        self._gave_up_at = -1
        self._woken = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item, may_wait: bool = True) -> None:
        """Takes an item.

        Args:
            item: what was reported.
            may_wait: whether the caller may be made to wait for room. Host callbacks may not: the
                device waits for them.
        """
        if isinstance(item, Frame):
            known = self._sizes.get(id(item.plan))
            size = known[0] if known is not None else self._measure(item)
        else:
            size = item.nbytes + _OVERHEAD
        held = self._bytes + size
        if held > self._many_bytes or len(self._items) >= self._many_frames:
            self._crowded(item, size, may_wait)
        else:
            self._bytes = held
            self._items.append(item)

    def take_ready(self, most: int | None = None) -> list[Item]:
        """Takes out what can be read without waiting for a device, up to the first that can't.

        What was reported after that stays behind it: a point is complete when a later one comes.

        Args:
            most: how many items are taken at most; None for all.
        """
        taken: list[Item] = []
        with self._room:
            items = self._items
            while items and len(taken) != most and _is_ready(items[0]):
                taken.append(items.popleft())
            if len(taken) == most:
                self._bytes -= sum(map(self._size_of, taken))
            else:
                self._bytes = sum(map(self._size_of, items.copy()))
            if taken:
                self._taken += len(taken)
                self._woken = False
                self._room.notify_all()
        return taken

    def settle(self, deadline: float | None = None) -> bool:
        """Waits until everything now in the buffer can be read.

        Args:
            deadline: when to stop waiting, by ``time.monotonic()``. None waits for as long as the
                device takes; it is polled, so that Ctrl-C gets through.

        Returns:
            Whether everything can be read.
        """
        with self._room:
            pending = [item for item in self._items if isinstance(item, Frame)]
        pause = _POLL_SECS / 64
        for frame in pending:
            while not _is_ready(frame):
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                time.sleep(pause)
                pause = min(2 * pause, _POLL_SECS)
        return True

    def close(self) -> None:
        """From now on items are ignored, and nobody waits for room."""
        with self._room:
            self._closed = True
            self._many_frames = -1
            self._room.notify_all()

    def _crowded(self, item: Item, size: int, may_wait: bool) -> None:
        if self._closed:
            return
        if not self._woken:
            self._woken = True
            self.wake.set()
        if not self._fits(size):
            wait = may_wait and self._overflow == "wait"
            if not (wait and self._wait_for_room(size)):
                if not self._closed:
                    self._drop(item)
                return
        self._bytes += size
        self._items.append(item)

    def _fits(self, size: int) -> bool:
        count = len(self._items)
        return not count or (count < self._max_frames and self._bytes + size <= self._max_bytes)

    def _wait_for_room(self, size: int) -> bool:
        """Whether there came to be room. Waits for the device at will, for the flusher a while."""
        while not self._closed and self._taken != self._gave_up_at:
            head = self._unready_head()
            if head is not None:
                # The device is behind, not the flusher. Waiting for it is what any synchronous
                # fetch does; a computation that failed is the flusher's to tell.
                with contextlib.suppress(Exception):
                    head.wait()
            self.wake.set()
            with self._room:
                taken = self._taken

                def moved(taken: int = taken) -> bool:
                    return self._closed or self._taken != taken or self._fits(size)

                if not self._room.wait_for(moved, self._stall_secs / 10):
                    self._losses.show(
                        f"the training loop waits: the buffer is full ({self._bound}).",
                        f"It goes on after {self._stall_secs:g} s at the latest, without the reports "
                        "that find no room.",
                    )
                    if not self._room.wait_for(moved, self._stall_secs * 9 / 10):
                        self._gave_up_at = taken
                if self._closed:
                    return False
                if self._fits(size):
                    return True
        return False

    def _unready_head(self) -> Frame | None:
        with self._room:
            head = self._items[0] if self._items else None
        return head if isinstance(head, Frame) and not _is_ready(head) else None

    def _drop(self, item: Item) -> None:
        self._losses.add(count(item), f"the buffer was full ({self._bound})")
        self._losses.show(
            f"reports are dropped: the buffer is full ({self._bound}).",
            "What reports so fast, or why can't the sink follow? Report less often (every=), or give "
            "Run a larger max_frames or max_bytes.",
        )

    def _size_of(self, item: Item) -> int:
        if not isinstance(item, Frame):
            return item.nbytes + _OVERHEAD
        known = self._sizes.get(id(item.plan))
        return known[0] if known is not None else self._measure(item)

    def _measure(self, frame: Frame) -> int:
        if len(self._sizes) >= 1024:
            self._sizes.clear()
        size = frame.nbytes + _OVERHEAD
        self._sizes[id(frame.plan)] = (size, frame.plan)
        return size


def count(item: Item | FrameBatch) -> int:
    """How many reports an item holds."""
    return item.count if isinstance(item, Frame | FrameBatch) else 1


def _is_ready(item: Item) -> bool:
    if not isinstance(item, Frame):
        return True
    for array in item.arrays.values():
        # A deleted array is as ready as it will ever be, and reading it says so. It must not be
        # asked itself: is_ready() of one crashes the process (jaxlib 0.10.2).
        if not (isinstance(array, np.ndarray) or array.is_deleted() or array.is_ready()):
            return False
    return True
