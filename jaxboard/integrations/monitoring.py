"""Reports of what libraries emit through ``jax.monitoring``: Orbax, Tunix, and JAX itself."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections.abc import Callable, Generator, Mapping
from typing import Any

import jax
import jax.core

import jaxboard as jb
from jaxboard import _compat
from jaxboard._telemetry.jax_listener import Listeners

_logger = logging.getLogger("jaxboard")

_START_TIMES = "jax/core/compile/"
"""JAX emits the start of each phase of a compilation as a scalar, in seconds since the epoch, under the name of its duration."""


@contextlib.contextmanager
def reports(*prefixes: str, run: jb.Run | jb.ChildRun | None = None) -> Generator[None]:
    """Report the scalars, durations and events that libraries emit through ``jax.monitoring`` in a ``with`` block.

    The tag is the name of the event without its leading slash: ``jax/orbax/write/total_duration_secs``. A point has the mean
    of the scalars of a step, the sum of the durations (in seconds), or the number of events. Events of all threads count.

    An event that carries ``step=`` has that step, in a point of its own. Others have the step of the run, or the largest
    step that an event of the run carried, if that is larger, as in a loop of a library that does not advance the run.

    Nothing is raised into the library that emits. A value that is not a number is logged, once for each event.
    After ``jax.monitoring.clear_event_listeners()``, which Tunix calls when a trainer closes, enter another block.

    Args:
        *prefixes: the first part of the names of the events to report, such as ``"/jax/orbax/write"``. All by default.
        run: the run, or a child of one. By default the run that is active when an event is emitted.

    Raises:
        UsageError: a prefix is not a str.

    Example:
        >>> import jax
        >>> from jaxboard.integrations import monitoring
        >>> from jaxboard.testing import capture
        >>> with capture() as records, monitoring.reports("actor/"):
        ...     jax.monitoring.record_scalar("actor/train/loss", 0.5, step=3)
        ...     jax.monitoring.record_scalar("critic/train/loss", 0.7, step=3)
        >>> [(record.tag, record.step, float(record.value)) for record in records]
        [('actor/train/loss', 3, 0.5)]
    """
    for prefix in prefixes:
        if not isinstance(prefix, str):
            raise jb.UsageError(
                f"monitoring.reports({prefix!r}): expected the first part of the names of events, such as '/jax/orbax'."
            )
    reporter = EventReporter(run, prefixes)
    listeners = Listeners(reporter.event, reporter.duration, reporter.scalar)
    listeners.register()
    try:
        yield
    finally:
        reporter.close()
        listeners.unregister()


class EventReporter:
    """The listeners of ``jax.monitoring`` that report to a run.

    Args:
        run: see :func:`reports`.
        prefixes: see :func:`reports`.
    """

    def __init__(self, run: jb.Run | jb.ChildRun | None = None, prefixes: tuple[str, ...] = ()):
        self._run = run
        self._prefixes = tuple(prefix.lstrip("/") for prefix in prefixes) or ("",)
        self._closed = False
        self._last_steps: weakref.WeakKeyDictionary[jb.Run | jb.ChildRun, int] = (
            weakref.WeakKeyDictionary()
        )
        self._failed: set[str] = set()

    def close(self) -> None:
        """Report nothing from now on, even if the library that registered the listeners does not remove them."""
        self._closed = True

    def scalar(self, event: str, value: Any, /, **labels: Any) -> None:
        """Report the value of ``jax.monitoring.record_scalar``."""
        if not event.startswith((_START_TIMES, "/" + _START_TIMES)):
            self._report(event, value, labels, "mean")

    def duration(self, event: str, duration_secs: float, /, **labels: Any) -> None:
        """Report the seconds of ``jax.monitoring.record_event_duration_secs``."""
        self._report(event, duration_secs, labels, "sum")

    def event(self, event: str, /, **labels: Any) -> None:
        """Count an event of ``jax.monitoring.record_event``."""
        self._report(event, 1, labels, "sum")

    def _report(self, event: str, value: Any, labels: Mapping[str, Any], reduce: str) -> None:
        # An exception would propagate into the library that emits.
        try:
            tag = event.lstrip("/")
            if self._closed or not tag.startswith(self._prefixes):
                return
            if threading.current_thread().name.startswith("jaxboard "):
                return  # One of jaxboard's own threads could wait for itself.
            run = jb.current_run() if self._run is None else self._run
            if run is None or run.closed:
                return
            step = self._step(run, labels.get("step"))

            def report() -> None:
                run.scalar(tag, _number(value), step=step, reduce=reduce)

            _outside_of_traces(report)
        except Exception as fault:
            if event not in self._failed:
                self._failed.add(event)
                _logger.warning(
                    "jaxboard: event %r of jax.monitoring is not reported: %s", event, fault
                )

    def _step(self, run: jb.Run | jb.ChildRun, given: Any) -> int | None:
        last = self._last_steps.get(run, 0)
        if given is not None:
            self._last_steps[run] = max(last, int(given))
            return int(given)
        return last if last > run.step else None


def _number(value: Any) -> Any:
    """Return an array of one element as a scalar, as tensorboardX does, and anything else unchanged."""
    if isinstance(value, jax.core.Tracer):
        raise jb.ReportError("the value is traced. Use jaxboard.scalar in traced code.")
    return value.reshape(()) if getattr(value, "size", 0) == 1 else value


def _outside_of_traces(function: Callable[[], None]) -> None:
    """Call a function where JAX is not tracing: on another thread, if JAX is tracing on this one.

    JAX emits events while it traces. A report would become a part of the traced program.
    """
    if _compat.at_top_level():
        function()
        return
    faults: list[Exception] = []

    def guarded() -> None:
        try:
            function()
        except Exception as fault:
            faults.append(fault)

    thread = threading.Thread(target=guarded, name="monitoring", daemon=True)
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
