"""The decision when an event file is finished and the next one begins.

A local file grows in place. Object stores cannot append: each flush uploads the whole file again, so that the bytes
uploaded for one file grow with the square of its size. A file there is finished before that costs more than twice
what was written.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_MAX_REMOTE_BYTES = 64 * 2**20
"""Most bytes of a remote file, which is in memory until it is finished."""

_UPLOADS = 2
"""The most uploads of a byte, on average."""

_SMALL_BYTES = 2048
"""A file of this size is not finished: its upload costs no more than the request itself."""

_MIN_SECS = 20.0
"""The shortest use of a remote file, which limits the number of files if ``flush_secs`` is short."""


class Rolling:
    """Counts what is written to the event files of one directory, and decides when to begin the next one.

    Bytes written twice after a fault do not count.

    Args:
        max_file_bytes: the size at which a file is finished; None for no limit in a local directory, and 64 MiB
            in a remote one.
        is_remote: whether each flush uploads the whole file. Then at most twice the written bytes are uploaded, as
            long as a file grows beyond 2 KiB within two flushes, and is flushed at most twice in 20 s.
        clock: returns seconds.

    Example:
        >>> rolling = Rolling(1000, is_remote=False)
        >>> rolling.begin()
        >>> rolling.flushed(999)
        >>> rolling.is_finished()
        False
        >>> rolling.flushed(1500)
        >>> rolling.is_finished()
        True
    """

    def __init__(
        self,
        max_file_bytes: int | None,
        *,
        is_remote: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_file_bytes = max_file_bytes or (_MAX_REMOTE_BYTES if is_remote else None)
        self._is_remote = is_remote
        self._clock = clock
        self._began_at = 0.0
        self._size = 0
        self._written = 0
        self._uploaded = 0

    def begin(self) -> None:
        """Note that a new file is open."""
        self._began_at = self._clock()
        self._size = 0

    def flushed(self, size: int) -> None:
        """Note that the file was flushed and has ``size`` bytes now."""
        if size != self._size:
            self._written += size - self._size
            self._uploaded += size
            self._size = size

    def is_finished(self) -> bool:
        """Return whether the next record belongs into a new file."""
        if self._max_file_bytes is not None and self._size >= self._max_file_bytes:
            return True
        if not self._is_remote or self._size <= _SMALL_BYTES:
            return False
        if self._clock() - self._began_at < _MIN_SECS:
            return False
        # The next upload contains the present bytes again, and new ones, which count on both sides.
        return self._uploaded + self._size > _UPLOADS * self._written
