"""Helpers for users' tests: the reports of a block of code, as a list."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from jaxboard._run import Run
from jaxboard.records import Record
from jaxboard.sinks import MemorySink


@contextlib.contextmanager
def capture(*, step: int = 0) -> Iterator[list[Record]]:
    """Collect the reports of a ``with`` block, in a run that exists only in memory.

    Args:
        step: the first step.

    Yields:
        A list that is complete once the block has ended: records with ``.kind``, ``.tag``, ``.step``,
        ``.wall_time``, ``.value`` (NumPy) and ``.run`` (such as ``"seed_0"``; "" is the run itself), in the
        order of their steps.

    Raises:
        UsageError: ``step`` is not an integer of at least 0.
        RunError: at the end of the block, if a report was lost because its computation failed. The message has the
            fault, which is also ``__cause__``.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.scalar("loss", 0.5)
        >>> [(record.tag, record.step, float(record.value)) for record in records]
        [('loss', 0, 0.5)]
    """
    sink = MemorySink()
    try:
        # Nothing is written before the end, so the list does not depend on timing.
        with Run(
            None, sinks=[sink], on_nonfinite="ignore", step=step, flush_secs=3600, telemetry=False
        ):
            yield sink.records
    finally:
        sink.records.sort(key=lambda record: (record.step, record.wall_time))
