"""The threads and monitors that work for a run while it is open: the flusher, telemetry, requests and heartbeats."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping

from jaxboard._control.listener import Listener
from jaxboard._host.active_channel import deactivate
from jaxboard._host.channel import open_channels
from jaxboard._job.membership import Membership
from jaxboard._run.pipeline import Pipeline
from jaxboard._telemetry.monitor import start_monitor
from jaxboard._telemetry.settings import Telemetry


class Services:
    """The services of an open run. Creating them starts them.

    Args:
        pipeline: the path of its reports.
        membership: the part of this process in its job.
        telemetry: see :class:`jaxboard.Run`.
        logdir: the log directory of the run; None if it has none.
        earlier_totals: what telemetry measured in the runs that this one continues.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        membership: Membership,
        *,
        telemetry: bool | Telemetry | None,
        logdir: pathlib.Path | str | None,
        earlier_totals: Mapping[str, float],
    ):
        channel, buffer, flusher = pipeline
        self._channel = channel
        self._flusher = flusher
        self._membership = membership
        self._telemetry = start_monitor(
            telemetry,
            channel,
            logdir=logdir,
            flusher_seconds=lambda: flusher.cpu_seconds,  # A closure over self is a cycle.
            earlier_totals=earlier_totals,
        )
        if self._telemetry is not None:
            flusher.polls.append(self._telemetry.poll)
        self._listener = Listener(logdir, channel, flusher)
        try:
            flusher.start()
            membership.start(channel, buffer)
        except BaseException:  # Ctrl-C
            if self._telemetry is not None:
                self._telemetry.stop()
            raise

    def totals(self) -> Mapping[str, float]:
        """Return what telemetry has measured, for a run that continues this one."""
        return {} if self._telemetry is None else self._telemetry.totals()

    def finish(self, timeout: float, device_timeout: float | None) -> None:
        """Write everything that is pending, after which the run takes no reports.

        Args:
            timeout: how many seconds the sinks may take.
            device_timeout: how many seconds the device may take; None for as long as it needs.

        Raises:
            RunError: see :meth:`Flusher.close`.
        """
        if device_timeout is None:
            # Callbacks look up the active run when they arrive, so it stays active until then.
            self._flusher.await_callbacks()
            for wait in self._channel.before_close:
                wait()
        if self._telemetry is not None:
            self._telemetry.stop()
        for other in open_channels():
            other.end_windows_for(self._channel)
        # From here on, reports go to the run before this one.
        deactivate(self._channel)
        self._channel.end_windows()
        self._flusher.close(timeout, device_timeout=device_timeout)

    def stop(self) -> None:
        """Stop the services that are left after :meth:`finish`."""
        self._flusher.polls.clear()  # They would be a reference cycle.
        self._listener.close()
        self._membership.stop()
