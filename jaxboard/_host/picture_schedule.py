"""The schedule of a picture of a growing history: drawn often at first, then at most once a minute."""

from __future__ import annotations

_SECONDS = 60.0
"""A picture is drawn again after this many seconds, if there is anything new."""

_FIRST = 8
"""A picture is drawn after this many reports, and each time that their number has doubled."""

MAX_PICTURES = 16
"""Most histories of a run that have a picture. A run may have hundreds, of many seeds or reports."""


class PictureSchedule:
    """The schedule of the pictures of one history.

    Args:
        now: the current time in seconds, by the clock of :meth:`is_due`.

    Example:
        >>> schedule = PictureSchedule(0.0)
        >>> [count for count in range(1, 40) if schedule.is_due(count, now=0.0)]
        [8, 16, 32]
        >>> schedule.is_due(39, now=61.0), schedule.has_news(39), schedule.has_news(40)
        (True, False, True)
    """

    def __init__(self, now: float):
        self._next_count = _FIRST
        self._drawn_count = 1  # A single report is not worth a picture.
        self._drawn_at = now

    def is_due(self, count: int, now: float) -> bool:
        """Return whether to draw a picture now, and note it.

        Args:
            count: how many reports there are.
            now: the current time in seconds.
        """
        if count < self._next_count and (
            now - self._drawn_at < _SECONDS or not self.has_news(count)
        ):
            return False
        while self._next_count <= count:
            self._next_count *= 2
        self._drawn_count, self._drawn_at = count, now
        return True

    def has_news(self, count: int) -> bool:
        """Return whether there are reports that the last picture does not have."""
        return count > self._drawn_count
