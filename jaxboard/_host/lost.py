"""The lost reports of a run: logged immediately, counted, and raised at the next flush() or close()."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import jax

from jaxboard._errors import RunError
from jaxboard._log import describe, logger
from jaxboard.records import Record

_MAX_MESSAGES = 16
"""Most different messages that one run logs. A fault whose text changes each time must not flood the log."""


class LostReports:
    """Counts the lost reports of one run, and logs its faults. Safe to use from any thread.

    Args:
        name: the run, for messages.

    Attributes:
        explain: returns text entries about an exception that caused a loss. They are written after the other reports.

    Example:
        >>> lost = LostReports("'runs/a'")
        >>> lost.add(3, "the buffer was full")
        >>> print(lost.take_error())
        run 'runs/a': 3 reports were lost:
          3: the buffer was full
    """

    def __init__(self, name: str = "run"):
        self.name = name
        self.explain: Callable[[BaseException], list[Record]] | None = None
        self._explanations: list[Record] = []
        self._lock = threading.Lock()
        self._logged: set[Hashable] = set()
        self._counts: dict[str, int] = {}
        self._cause: BaseException | None = None
        self._error: RunError | None = None

    def log_once(self, text: str, consequence: str, key: Hashable = None) -> None:
        """Log a fault and its consequence, once for each ``key``; by default, once for each ``text``."""
        key = text if key is None else key
        with self._lock:
            if key in self._logged or len(self._logged) == _MAX_MESSAGES:
                return
            self._logged.add(key)
        logger.error("jaxboard, run %s: %s\n    %s", self.name, text, consequence)

    def resolve(self, text: str) -> None:
        """Log that the faults are resolved, and allow them to be logged again."""
        with self._lock:
            self._logged.clear()
        logger.warning("jaxboard, run %s: %s", self.name, text)

    def add(self, count: int, reason: str, cause: BaseException | None = None) -> None:
        """Count reports as lost.

        Args:
            count: how many.
            reason: why, as one line.
            cause: the exception that caused it, if there was one.
        """
        if not count:
            return
        with self._lock:
            self._counts[reason] = self._counts.get(reason, 0) + count
            self._cause = self._cause or cause
        if cause is not None and self.explain is not None:
            explanations = self.explain(cause)
            with self._lock:
                self._explanations += explanations

    def add_entry(self, record: Record) -> None:
        """Add a text entry about the program. It is written although the device may never compute the reports before it."""
        with self._lock:
            self._explanations.append(record)

    def take_explanations(self) -> list[Record]:
        """Return the text entries about the causes since the last call."""
        with self._lock:
            taken, self._explanations = self._explanations, []
        return taken

    def raise_later(self, error: RunError) -> None:
        """Keep an error for the next :meth:`take_error`, unless there is one already."""
        with self._lock:
            self._error = self._error or error

    @property
    def count(self) -> int:
        """The number of reports lost since the last :meth:`take_error`."""
        with self._lock:
            return sum(self._counts.values())

    def take_error(self) -> RunError | None:
        """Return the error for everything lost or kept since the last call, or None."""
        with self._lock:
            counts, self._counts = self._counts, {}
            cause, self._cause = self._cause, None
            kept, self._error = self._error, None
        if not counts:
            return kept
        total = sum(counts.values())
        noun = "report was" if total == 1 else "reports were"
        lines = [f"run {self.name}: {total} {noun} lost:"]
        lines += [f"  {count}: {reason}" for reason, count in counts.items()]
        error = RunError("\n".join(lines))
        error.__cause__ = cause
        if kept is not None:
            error.add_note(str(kept))
        return error

    def raise_error(self) -> None:
        """Raise the error that :meth:`take_error` returns, if it returns one."""
        error = self.take_error()
        try:
            if error is not None:
                raise error
        finally:
            del error  # The traceback and this frame would form a cycle that keeps the run alive.


def await_callbacks(lost: LostReports) -> None:
    """Wait for host callbacks that have not arrived: they put reports too. ``lost`` logs the fault of one."""
    try:
        jax.effects_barrier()
    except Exception as fault:
        lost.log_once(f"a host callback failed: {describe(fault)}", "Its reports are lost.")
