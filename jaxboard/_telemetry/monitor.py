"""The telemetry of one run: told of every call by the observer hook, it hands on to its parts."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable
from typing import Any

from jaxboard import _compat
from jaxboard._host import observers
from jaxboard._host.channel import Channel, active
from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard._telemetry.compile_table import CompileTable
from jaxboard._telemetry.compiles import Compilation, Compiles, own
from jaxboard._telemetry.costs import Costs
from jaxboard._telemetry.device_memory import Memory
from jaxboard._telemetry.overhead import Overhead
from jaxboard._telemetry.recompiles import Recompiles
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.settings import Telemetry
from jaxboard._telemetry.steps import Steps


class RecompileMonitor:
    """Recompile alarms alone, from :meth:`start` to :meth:`stop`: what every run has.

    Args:
        channel: of the run.
    """

    def __init__(self, channel: Channel):
        self._channel = channel
        self._reporter = Reporter(channel)
        self._compiles = Compiles()
        self._recompiles = Recompiles(self._reporter)

    def start(self) -> None:
        """Begins to watch."""
        self._compiles.start()
        observers.add(self)

    def stop(self) -> None:
        """Watches no longer, and writes what is left."""
        observers.remove(self)
        self._compiles.stop()

    def begin(self, call: Call) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        self._compiles.begin()

    def end(self, call: Call, result: Any) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        programs = self._compiles.end()
        if programs or not self._recompiles.count(call.function):
            self._news(call, programs)

    def _news(self, call: Call, programs: list[Compilation]) -> None:
        """A call compiled something, or was the first of its function."""
        chosen = own(call.function, programs)
        known = self._recompiles.count(call.function)
        if call.step is not None and self._mine() and (chosen or not known):
            self._recompiles.called(call, call.step, chosen)

    def _mine(self) -> bool:
        """Whether calls now belong to this run: with several open, they are the innermost's."""
        return active() is self._channel


class TelemetryMonitor(RecompileMonitor):
    """All telemetry.

    Args:
        channel: of the run.
        settings: the user's.
        logdir: where the run's event files are, if they are on this machine.
        flusher_seconds: how long the run's flusher has been busy.
        clock: seconds.
    """

    def __init__(
        self,
        channel: Channel,
        settings: Telemetry,
        *,
        logdir: pathlib.Path | None,
        flusher_seconds: Callable[[], float],
        clock: Callable[[], float] = time.perf_counter,
    ):
        super().__init__(channel)
        self._clock = clock
        self._window = settings.window
        self._table = CompileTable(self._reporter)
        self._costs = Costs(self._reporter, self._compiles, settings.peak_flops)
        self._steps = Steps(self._reporter, settings, clock, self._point)
        self._memory = Memory(self._reporter)
        self._overhead = Overhead(self._reporter, logdir, flusher_seconds, clock)
        self._sampled: float | None = None

    def begin(self, call: Call) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        self._steps.begin(call, counts=self._mine())
        self._overhead.begin()
        self._compiles.begin()

    def end(self, call: Call, result: Any) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        programs = self._compiles.end()
        compiled = bool(programs)
        self._overhead.end(call, compiled=compiled)
        if compiled or not self._recompiles.count(call.function):
            self._news(call, programs)
        if _compat.trace_is_on():
            self._memory.annotate()
        self._steps.end(call, compiled=compiled)

    def stop(self) -> None:
        """See :meth:`RecompileMonitor.stop`."""
        super().stop()
        self._sampled = None
        try:
            self._steps.finish()
        except Exception as fault:  # the run is being closed, and that goes on
            logger.error("jaxboard: the last telemetry is missing: %s", describe(fault))

    def _news(self, call: Call, programs: list[Compilation]) -> None:
        if call.step is None or not self._mine():
            return
        known = self._recompiles.count(call.function)
        chosen = own(call.function, programs)
        changes = []
        if chosen or not known:
            changes = self._recompiles.called(call, call.step, chosen)
            first = self._recompiles.count(call.function) > known
            self._costs.called(call, call.step, first=first)
        if programs:
            self._table.add(call.name, call.step, programs, changes)

    def _point(self, name: str, step: int, per_second: float) -> None:
        """A window of step times was written: what goes with it."""
        self._costs.rate(name, step, per_second)
        now = self._clock()
        if self._sampled is None or now - self._sampled >= self._window:
            self._sampled = now
            self._memory.sample(step)
            self._overhead.sample(step)
