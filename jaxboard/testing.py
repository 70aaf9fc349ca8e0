"""For users' own tests: what code reports, as a list."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from jaxboard._run import Run
from jaxboard.records import Record
from jaxboard.sinks import MemorySink


@contextlib.contextmanager
def capture(*, step: int = 0) -> Iterator[list[Record]]:
    """Collects what is reported in a ``with`` block, in a run that exists in memory only.

    Args:
        step: the first step.

    Yields:
        A list, complete once the block is left: records with ``.kind``, ``.tag``, ``.step``,
        ``.wall_time``, ``.value`` (NumPy) and ``.run`` (``"seed_0"``, say; "" is the run itself), in the
        order of their steps.

    Raises:
        RunError: on leaving the block, if a report was lost: its computation failed.

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
        # Nothing is written before the end, so that what is collected does not depend on the time.
        with Run(
            None, sinks=[sink], on_nonfinite="ignore", step=step, flush_secs=3600, telemetry=False
        ):
            yield sink.records
    finally:
        sink.records.sort(key=lambda record: (record.step, record.wall_time))
