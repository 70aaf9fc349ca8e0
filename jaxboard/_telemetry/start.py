"""What a run starts when it is opened. Importing the rest takes a while, and is put off till then."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Protocol

from jaxboard._errors import RunError
from jaxboard._host.channel import Channel
from jaxboard._telemetry.settings import Telemetry


class Stoppable(Protocol):
    """Telemetry that has been started."""

    def stop(self) -> None:
        """Writes what is left."""
        ...


def check(asked: object) -> None:
    """Raises unless ``asked`` is what ``Run(telemetry=...)`` takes."""
    if not isinstance(asked, bool | Telemetry | None):
        raise RunError(f"Run(telemetry={asked!r}): expected a bool or a jaxboard.Telemetry.")


def start(
    asked: bool | Telemetry | None,
    channel: Channel,
    logdir: pathlib.Path | str | None,
    flusher_seconds: Callable[[], float],
) -> Stoppable | None:
    """Starts what was asked for: nothing, recompile alarms (None), everything."""
    if asked is False:
        return None
    from jaxboard._telemetry.monitor import RecompileMonitor, TelemetryMonitor

    if asked is None:
        watch = RecompileMonitor(channel)
    else:
        watch = TelemetryMonitor(
            channel,
            Telemetry() if asked is True else asked,
            logdir=logdir if isinstance(logdir, pathlib.Path) else None,
            flusher_seconds=flusher_seconds,
        )
    watch.start()
    return watch
