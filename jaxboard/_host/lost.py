"""What a run could not deliver: shown at once, counted, and told to whoever asks last."""

from __future__ import annotations

import threading

from jaxboard._errors import RunError
from jaxboard._log import logger

_DISTINCT = 16
"""How many different messages one run shows; a fault whose text changes each time mustn't flood."""


class LostReports:
    """The losses of one run. Safe to use from any thread.

    Args:
        name: which run this is, for messages.
    """

    def __init__(self, name: str = "run"):
        self.name = name
        self._lock = threading.Lock()
        self._shown: set[str] = set()
        self._counts: dict[str, int] = {}
        self._cause: BaseException | None = None
        self._held: RunError | None = None

    def show(self, text: str, then: str) -> None:
        """Says what is wrong and what happens next, once for each ``text``."""
        with self._lock:
            if text in self._shown or len(self._shown) == _DISTINCT:
                return
            self._shown.add(text)
        logger.error("jaxboard, run %s: %s\n    %s", self.name, text, then)

    def mended(self, text: str) -> None:
        """Says that what was shown is over; should it come again, it is shown again."""
        with self._lock:
            self._shown.clear()
        logger.warning("jaxboard, run %s: %s", self.name, text)

    def add(self, count: int, why: str, cause: BaseException | None = None) -> None:
        """``count`` reports are gone, because ``why``."""
        if not count:
            return
        with self._lock:
            self._counts[why] = self._counts.get(why, 0) + count
            self._cause = self._cause or cause

    def hold(self, error: RunError) -> None:
        """Keeps an error that is to be raised, unless there is one already."""
        with self._lock:
            self._held = self._held or error

    @property
    def count(self) -> int:
        """How many reports were lost since the last :meth:`take`."""
        with self._lock:
            return sum(self._counts.values())

    def take(self) -> RunError | None:
        """The error to raise for what was lost or held since the last call, or None."""
        with self._lock:
            counts, self._counts = self._counts, {}
            cause, self._cause = self._cause, None
            held, self._held = self._held, None
        if not counts:
            return held
        total = sum(counts.values())
        noun = "report" if total == 1 else "reports"
        lines = [f"run {self.name}: {total} {noun} did not reach the disk:"]
        lines += [f"  {count}: {why}" for why, count in counts.items()]
        error = RunError("\n".join(lines))
        error.__cause__ = cause
        if held is not None:
            error.add_note(str(held))
        return error

    def raise_any(self) -> None:
        """Raises what :meth:`take` returns, if it returns something."""
        error = self.take()
        try:
            if error is not None:
                raise error
        finally:
            del error  # Else its traceback and this frame keep each other, and the run, alive.
