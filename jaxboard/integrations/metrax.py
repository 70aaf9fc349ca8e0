"""A logging backend for metrax and Tunix that writes to a run of jaxboard. metrax need not be installed."""

from __future__ import annotations

from typing import Any

import jaxboard as jb
from jaxboard.integrations.monitoring import EventReporter


class LoggingBackend:
    """A ``metrax.logging.LoggingBackend``: the logger of Tunix writes to it instead of to a writer of its own.

    Pass a function that makes it to Tunix:
    ``MetricsLoggerOptions(logdir, backend_kwargs={"custom_backend": [LoggingBackend]})``, and open a run around the training.

    Args:
        run: the run, or a child of one. By default the run that is active when a value is logged.

    Example:
        >>> from jaxboard.integrations.metrax import LoggingBackend
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     backend = LoggingBackend()
        ...     backend.log_scalar("actor/train/loss", 0.5, step=3)
        ...     backend.close()
        >>> [(record.tag, record.step, float(record.value)) for record in records]
        [('actor/train/loss', 3, 0.5)]
    """

    def __init__(self, run: jb.Run | jb.ChildRun | None = None):
        self._run = run
        self._reporter = EventReporter(run)

    def log_scalar(self, event: str, value: Any, **labels: Any) -> None:
        """Report a value. It never raises: a value that is not a number is logged, once for each event.

        Args:
            event: the tag; a leading slash is removed.
            value: a number or an array with one element.
            **labels: ``step`` is the step of the value, by default that of the run. Others are ignored.
        """
        self._reporter.scalar(event, value, **labels)

    def close(self) -> None:
        """Report nothing from now on, and block until everything is on disk. The run stays open.

        Raises:
            RunError: reports are not on disk; see :meth:`jaxboard.Run.flush`.
        """
        self._reporter.close()
        run = jb.current_run() if self._run is None else self._run
        if run is not None:
            run.flush()
