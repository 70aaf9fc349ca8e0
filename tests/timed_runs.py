"""Runs whose clocks the tests set, and whose event files are real."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator

import jaxboard as jb
from jaxboard._run import channel_of
from jaxboard._telemetry.monitor import TelemetryMonitor, start_monitor

WALL = 1.7e9
"""The wall time at which the clock of a test shows 0."""


class Clock:
    """A clock that the test sets, in seconds."""

    now = 100.0

    def __call__(self) -> float:
        return self.now

    def wall(self) -> float:
        """Return the wall time."""
        return WALL + self.now


@contextlib.contextmanager
def timed_run(
    logdir: pathlib.Path,
    clock: Clock,
    *,
    window: float = 1000,
    step: int | None = None,
    earlier_totals=None,
) -> Iterator[TelemetryMonitor]:
    """Open a run with telemetry by the test's clock for a block. Its files are as old as that clock shows."""
    earlier = set(logdir.glob("*tfevents*"))
    with jb.Run(logdir, telemetry=False, step=step) as run:
        monitor = start_monitor(
            jb.Telemetry(window=window),
            channel_of(run),
            logdir=logdir,
            flusher_seconds=lambda: 0.0,
            earlier_totals=earlier_totals,
            clock=clock,
            wall=clock.wall,
        )
        assert monitor is not None
        try:
            yield monitor
        finally:
            monitor.stop()
    for path in set(logdir.glob("*tfevents*")) - earlier:
        os.utime(path, (clock.wall(), clock.wall()))
