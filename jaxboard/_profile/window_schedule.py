"""The schedule of a profile: which steps belong to which window."""

from __future__ import annotations

from jaxboard._profile.profile_settings import FIRST_WINDOW, ProfileSettings
from jaxboard._profile.slow_steps import SlowSteps

_MAX_SLOW = 10
"""Windows that a block records because of slow steps, so that a restless program does not fill the disk."""


class WindowSchedule:
    """The windows of a profile with several windows. All have the length of the first one.

    Args:
        settings: the settings; at least one of ``every``, ``every_secs`` and ``slow`` is set.
    """

    def __init__(self, settings: ProfileSettings) -> None:
        self._first = settings.steps or FIRST_WINDOW
        self._every = settings.every
        self._every_secs = settings.every_secs
        self._slow_steps = None if settings.slow is None else SlowSteps(settings.slow)
        self._slow_windows = 0
        self._seen = False
        self._last_window: range | None = None
        self._last_began = 0.0

    @property
    def first(self) -> range:
        """The first window."""
        return self._first

    def due(self, number: int, now: float) -> range | None:
        """Return the window that begins, or has begun, at a step; None if there is none.

        Args:
            number: the step. Called once for each step outside of a window.
            now: the time, by ``time.monotonic()``.
        """
        if not self._seen:
            self._seen = True
            if self._every is None and number >= self._first.stop:
                # The run resumed after the first window. It has to compile and warm up again.
                self._first = range(self._first.start + number, self._first.stop + number)
        is_slow = self._slow_steps is not None and self._slow_steps.begin(now)
        window = self._due(number, now, is_slow=is_slow)
        if window is not None:
            self._last_window, self._last_began = window, now
        return window

    def _due(self, number: int, now: float, *, is_slow: bool) -> range | None:
        length, last = len(self._first), self._last_window
        if last is None and number in self._first:
            return self._first
        if self._every is not None and number >= self._first.start:
            start = number - (number - self._first.start) % self._every
            if number < start + length and (last is None or start > last.start):
                return range(start, start + length)
        following = range(number, number + length)
        if last is None:
            return None
        if self._every_secs is not None and now - self._last_began >= self._every_secs:
            return following
        if is_slow and self._slow_windows < _MAX_SLOW:
            self._slow_windows += 1
            return following
        return None

    def end_window(self) -> None:
        """Note that a window was recorded: its steps do not count as slow or fast."""
        if self._slow_steps is not None:
            self._slow_steps.restart()
