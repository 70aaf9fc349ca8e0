"""The receivers of alerts: functions and webhooks, called on a thread of their own."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence

from jaxboard._alerts.alert import Alert
from jaxboard._host.lost import LostReports
from jaxboard._log import describe

_MAX_WAITING = 100
"""Most alerts that wait to be passed on. Later ones are only logged and written."""

_CLOSING_SECS = 15.0
"""Most seconds that closing a run waits for the receivers."""

Receiver = Callable[[Alert], object]


class Receivers:
    """Passes alerts on. A receiver that fails or is slow delays neither the flusher nor the training.

    Args:
        receivers: the functions, and how messages name each.
        lost: logs the fault of a receiver, once for each.
    """

    def __init__(self, receivers: Sequence[tuple[str, Receiver]], lost: LostReports):
        self._receivers = receivers
        self._lost = lost
        self._waiting: queue.Queue[Alert | None] = queue.Queue(_MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()

    def pass_on(self, alert: Alert) -> None:
        """Pass an alert to all receivers, soon."""
        if not self._receivers:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._loop, name="jaxboard alerts", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(alert)
        except queue.Full:
            self._lost.log_once(
                f"{_MAX_WAITING} alerts wait for slow receivers.",
                "Later ones are not passed on. They are logged and written.",
                key="alerts",
            )

    def close(self, timeout: float) -> None:
        """Wait until all alerts are passed on, at most ``timeout`` seconds, and at most 15."""
        if self._thread is None:
            return
        if self._thread is threading.current_thread():  # A receiver closes the run.
            self._is_closing.set()
            return
        timeout = min(timeout, _CLOSING_SECS)
        deadline = time.monotonic() + timeout
        with contextlib.suppress(queue.Full):
            self._waiting.put(None, timeout=timeout)
            self._thread.join(max(deadline - time.monotonic(), 0.0))
        if self._thread.is_alive():
            self._lost.log_once(
                f"after {timeout:g} s, the receivers of alerts have not returned.",
                "The run closes without them. Alerts are also logged and written.",
                key="closing",
            )

    def _next(self) -> Alert | None:
        """Wait for the next alert, and return it; None if there are no more."""
        if not self._is_closing.is_set():
            return self._waiting.get()
        try:
            return self._waiting.get_nowait()
        except queue.Empty:
            return None

    def _loop(self) -> None:
        while (alert := self._next()) is not None:
            for name, receive in self._receivers:
                try:
                    receive(alert)
                except BaseException as fault:  # sys.exit() must not end this thread.
                    self._lost.log_once(
                        f"an alert could not be passed to {name}: {describe(fault)}",
                        "Alerts are also logged and written.",
                        key=("alert", name),
                    )
