"""A bounded queue between the training loop and the flusher.

Its limits, in calls and in bytes, bound the memory that a slow sink costs. Overflows are logged and counted.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections import deque
from typing import Any, Literal, TypeAlias

import numpy as np

from jaxboard._frame import Frame, FrameBatch, Number, Observation, Plan
from jaxboard._host.lost import LostReports
from jaxboard._types import Array
from jaxboard.records import Record

Item: TypeAlias = Frame | Number | Observation | Record
_Call: TypeAlias = tuple[Plan, tuple[Array, ...], int | None, float, bool]
"""The arguments of a frame. A plain tuple takes a tenth of the time of an object."""
Overflow: TypeAlias = Literal["wait", "drop"]

_OVERHEAD = 1024
"""The approximate size in bytes of a jax.Array and a frame, apart from the values."""

_UNKNOWN = sys.maxsize, None
"""The size of a frame whose plan is new, which takes the slow path."""

_POLL_SECS = 0.002

_ON_HOST = (np.ndarray, np.generic)


class Buffer:
    """Holds reports in the order in which they were made.

    Args:
        max_frames: the most items that it holds.
        max_bytes: the most bytes that it holds. A single larger item is accepted if the buffer is empty.
        overflow: what happens to a new item if the buffer is full: with ``"wait"`` the caller waits for
            space, with ``"drop"`` the item is dropped and counted.
        lost: counts the dropped reports.
        stall_secs: how long a caller waits for a flusher that takes nothing. Then items are dropped until
            the flusher takes something again: reporting never stops the training.

    Attributes:
        wake: set when the flusher should look here before its next turn.
        finished: the step of the last frame that was taken out, None if no frame had a step. The device has computed it.
    """

    def __init__(
        self,
        max_frames: int,
        max_bytes: int,
        overflow: Overflow = "wait",
        *,
        lost: LostReports | None = None,
        stall_secs: float = 10.0,
    ):
        self.wake = threading.Event()
        self.finished: int | None = None
        self._items: deque[Item | _Call] = deque()
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._overflow = overflow
        self._lost = lost or LostReports()
        self._stall_secs = stall_secs
        self._limits = f"{max_frames} calls or {max_bytes / 2**20:g} MiB"
        # Above these numbers put() takes its slow path: the buffer is half full, or closed.
        self._fast_frames = max_frames // 2
        self._fast_bytes = max_bytes // 2
        # An estimate, as threads race for it. It is exact again once everything ready has been taken.
        self._bytes = 0
        # The size of a frame follows from its plan, one object per compiled step. Measuring each frame
        # would cost a microsecond. The plan is kept here so that its id is not used again.
        self._sizes: dict[int, tuple[int, Plan]] = {}
        # Guards the attributes below and taking items out. Appending needs no lock.
        self._room = threading.Condition()
        self._taken = 0
        self._gave_up_at = -1
        self._woken = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item, may_wait: bool = True) -> None:
        """Append an item.

        Args:
            item: the report, or the frame of reports.
            may_wait: whether the caller may wait for space. Host callbacks may not: the device waits for
                them.
        """
        size = self._size_of(item)
        nbytes = self._bytes + size
        if nbytes > self._fast_bytes or len(self._items) >= self._fast_frames:
            self._put_checked(item, size, may_wait)
        else:
            self._bytes = nbytes
            self._items.append(item)

    def put_call(
        self, plan: Plan, vectors: tuple[Array, ...], step: int | None, is_open: bool
    ) -> None:
        """Append the frame of a call that is made now, as ``put(Frame(...))`` does in twice the time.

        Args:
            plan: see :class:`Frame`.
            vectors: see :class:`Frame`.
            step: see :class:`Frame`.
            is_open: see :attr:`Frame.open`.
        """
        size, _ = self._sizes.get(id(plan), _UNKNOWN)
        nbytes = self._bytes + size
        if nbytes > self._fast_bytes or len(self._items) >= self._fast_frames:
            self.put(Frame(plan, vectors, step, time.time(), is_open))
        else:
            self._bytes = nbytes
            self._items.append((plan, vectors, step, time.time(), is_open))

    def take_ready(self, max_items: int | None = None) -> list[Item]:
        """Take out the items up to the first one that the device has not computed yet.

        Later items stay behind that one: a point is complete once a later point arrives.

        Args:
            max_items: the most items to take; None for all.
        """
        taken: list[Item] = []
        with self._room:
            items = self._items
            while items and len(taken) != max_items:
                item = _as_item(items[0])
                if not _is_ready(item):
                    break
                items.popleft()
                taken.append(item)
                if isinstance(item, Frame) and item.step is not None:
                    self.finished = item.step
            if len(taken) == max_items:
                self._bytes -= sum(map(self._size_of, taken))
            else:
                self._bytes = sum(map(self._size_of, map(_as_item, items.copy())))
            if taken:
                self._taken += len(taken)
                self._woken = False
                self._room.notify_all()
        return taken

    def wait_until_ready(self, deadline: float | None = None) -> bool:
        """Wait until the device has computed everything that is now in the buffer.

        Args:
            deadline: when to stop waiting, by ``time.monotonic()``. None waits without limit; the wait
                is a poll, so that Ctrl-C interrupts it.

        Returns:
            True if everything is computed, False after the deadline.
        """
        with self._room:
            items = self._items.copy()  # Other threads append without the lock.
        pause = _POLL_SECS / 64
        for item in map(_as_item, items):
            while not _is_ready(item):
                if deadline is not None and time.monotonic() >= deadline:
                    return False
                time.sleep(pause)
                pause = min(2 * pause, _POLL_SECS)
        return True

    def close(self) -> None:
        """Ignore items from now on, and release every caller that waits for space."""
        with self._room:
            self._closed = True
            self._fast_frames = -1
            self._room.notify_all()

    def is_behind(self) -> bool:
        """Return whether the device has not computed the oldest item yet."""
        return self._unready_head() is not None

    def _put_checked(self, item: Item, size: int, may_wait: bool) -> None:
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
        """Return whether space became free.

        Waits for the device without limit, and for the flusher up to ``stall_secs``.
        """
        while not self._closed and self._taken != self._gave_up_at:
            head = self._unready_head()
            if head is not None:
                # The device is behind, not the flusher. Any synchronous fetch waits for it too. If the
                # computation failed, the flusher reports that.
                with contextlib.suppress(Exception):
                    head.wait()
            self.wake.set()
            with self._room:
                taken = self._taken

                def has_changed(taken: int = taken) -> bool:
                    return self._closed or self._taken != taken or self._fits(size)

                if not self._room.wait_for(has_changed, self._stall_secs / 10):
                    self._lost.log_once(
                        f"the training loop waits: the buffer is full ({self._limits}).",
                        f"After {self._stall_secs:g} s it continues and drops new reports.",
                    )
                    if not self._room.wait_for(has_changed, self._stall_secs * 9 / 10):
                        self._gave_up_at = taken
                if self._closed:
                    return False
                if self._fits(size):
                    return True
        return False

    def _unready_head(self) -> Frame | Number | None:
        with self._room:
            head = _as_item(self._items[0]) if self._items else None
        return head if isinstance(head, Frame | Number) and not _is_ready(head) else None

    def _drop(self, item: Item) -> None:
        self._lost.add(count_reports(item), f"the buffer was full ({self._limits})")
        self._lost.log_once(
            f"reports are dropped: the buffer is full ({self._limits}).",
            "The sink cannot keep up. Report less often (every=), or pass a larger max_frames or "
            "max_bytes to Run.",
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


def _as_item(item: Item | _Call) -> Item:
    return Frame(*item) if isinstance(item, tuple) else item


def count_reports(item: Item | FrameBatch) -> int:
    """Return the number of reports in an item."""
    return item.count if isinstance(item, Frame | FrameBatch) else 1


def _is_ready(item: Item) -> bool:
    if isinstance(item, Number):
        return _is_computed(item.value)
    if isinstance(item, Frame):
        for vector in item.vectors:
            if not _is_computed(vector):
                return False
    return True


def _is_computed(array: Any) -> bool:
    # A deleted array counts as computed; reading it raises. Its is_ready() must not be called: it
    # crashes the process (jaxlib 0.10.2).
    return isinstance(array, _ON_HOST) or array.is_deleted() or array.is_ready()
