"""The windows of a resumed run that no function has continued yet."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable

from jaxboard._frame import ReportSpec
from jaxboard._host.run_state import SavedPoint, SavedWindow
from jaxboard._reduce.named_objects import with_names


class RestoredWindows:
    """The windows that functions accumulated on the device when the state of the run was saved.

    The first call of a function with the same name continues those of its reports that have not changed, on the device
    again, so that their sums are the same to the last bit. The host merges the others when they end.
    Safe to use from any thread.

    Args:
        windows: the windows.
    """

    def __init__(self, windows: Iterable[SavedWindow] = ()) -> None:
        self._lock = threading.Lock()
        self._windows = list(windows)

    def __bool__(self) -> bool:
        return bool(self._windows)

    @property
    def rest(self) -> list[SavedWindow]:
        """The windows that nothing has continued."""
        return list(self._windows)

    def windows_of(self, function: str, channel: str) -> list[SavedWindow]:
        """Return the windows of a function.

        Args:
            function: its name.
            channel: the run that it reports to, as :attr:`SavedWindow.channel`.
        """
        return [each for each in self.rest if (each.function, each.channel) == (function, channel)]

    def claim(self, window: SavedWindow) -> bool:
        """Remove a window that is continued; return whether it was still there."""
        with self._lock:
            # By identity: comparing arrays has no single result.
            rest = [each for each in self._windows if each is not window]
            found = len(rest) < len(self._windows)
            self._windows = rest
        return found

    def take(self, reached: float, reported: Collection[ReportSpec] = ()) -> list[SavedPoint]:
        """Remove and return, for the host, the windows that end before a step or are reported from elsewhere.

        Args:
            reached: the step.
            reported: the reports of which values have arrived.
        """
        taken: list[SavedPoint] = []
        reported = set(map(with_names, reported))
        for window in self.rest:
            point = window.on_host()
            ended = window.point.end < reached or (point is not None and point.spec in reported)
            if ended and self.claim(window) and point is not None:
                taken.append(point)
        return taken
