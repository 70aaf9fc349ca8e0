"""The telemetry of one run: an observer of calls that notifies its collectors."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Mapping, Sequence

from jaxboard._host import observers
from jaxboard._host.channel import Channel
from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard._telemetry.collector import Collector
from jaxboard._telemetry.compilations import Compilation, CompilationListener
from jaxboard._telemetry.compile_table import CompileTable
from jaxboard._telemetry.costs import ProgramCosts
from jaxboard._telemetry.device_memory import DeviceMemory
from jaxboard._telemetry.out_of_memory import OutOfMemory
from jaxboard._telemetry.overhead import Overhead
from jaxboard._telemetry.program_table import ProgramTable
from jaxboard._telemetry.recompiles import RecompileDetector
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.settings import Telemetry
from jaxboard._telemetry.step_times import StepTimes
from jaxboard._telemetry.time_report import TimeReport
from jaxboard._types import PyTree


class TelemetryMonitor:
    """An observer that detects recompiles and notifies the collectors of a run.

    Args:
        reporter: the writer of the run.
        listener: the source of compilations, which the monitor starts and stops.
        memory: reports calls that run out of memory.
        collectors: the other parts of the telemetry. The first one is notified first when a call begins
            and last when it ends.
    """

    def __init__(
        self,
        reporter: Reporter,
        listener: CompilationListener,
        memory: OutOfMemory,
        collectors: Sequence[Collector] = (),
    ):
        self._reporter = reporter
        self._listener = listener
        self._memory = memory
        self._recompiles = RecompileDetector(reporter)
        self._collectors = tuple(collectors)
        # Calls are frequent: hooks that do nothing are not called.
        self._begin_hooks = [
            collector.begin_call
            for collector in self._collectors
            if type(collector).begin_call is not Collector.begin_call
        ]
        self._end_hooks = [
            collector.end_call
            for collector in reversed(self._collectors)
            if type(collector).end_call is not Collector.end_call
        ]
        self._result_hooks = [
            collector.end_with_result
            for collector in self._collectors
            if type(collector).end_with_result is not Collector.end_with_result
        ]

    def start(self) -> None:
        """Observe calls and compilations."""
        self._listener.start()
        observers.add(self, every_call=bool(self._collectors))
        observers.registry.add_failure_handler(self._memory.on_failure)

    def stop(self) -> None:
        """Stop observing, and write what is left."""
        observers.remove(self)
        observers.registry.remove_failure_handler(self._memory.on_failure)
        self._listener.stop()
        for collector in self._collectors:
            try:
                collector.finish()
            except Exception as fault:  # the run still has to close
                logger.error("jaxboard: the last telemetry is missing: %s", describe(fault))

    def poll(self) -> None:
        """Do what is due every half second. Called on the flusher's thread; it never raises."""
        self._listener.restore()
        for collector in self._collectors:
            collector.poll()

    def totals(self) -> dict[str, float]:
        """Return the totals of all collectors; see :meth:`Collector.totals`."""
        totals: dict[str, float] = {}
        for collector in self._collectors:
            totals |= collector.totals()
        return totals

    def begin(self, call: Call) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        for begin_call in self._begin_hooks:
            begin_call(call)

    def end(self, call: Call, result: PyTree) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        compilations = self._listener.take(call.since)
        compiled = bool(compilations)
        for end_call in self._end_hooks:
            end_call(call, compiled=compiled)
        if compiled or not self._recompiles.has_seen(call.function):
            self._record_compilation(call, compilations)
        for end_with_result in self._result_hooks:
            end_with_result(call, result)

    def _record_compilation(self, call: Call, compilations: list[Compilation]) -> None:
        if call.step is None or not self._reporter.is_active():
            return
        self._memory.note(call)
        event = self._recompiles.examine(call, call.step, compilations)
        for collector in self._collectors:
            collector.record_compilation(event)


def start_monitor(
    telemetry: bool | Telemetry | None,
    channel: Channel,
    *,
    logdir: pathlib.Path | str | None,
    flusher_seconds: Callable[[], float],
    earlier_totals: Mapping[str, float] | None = None,
    clock: Callable[[], float] = time.perf_counter,
    wall: Callable[[], float] = time.time,
) -> TelemetryMonitor | None:
    """Start the telemetry of a run.

    Args:
        telemetry: False, nothing; None, recompile alarms only; True or settings, everything.
        channel: the channel of the run.
        logdir: the directory of the event files; a path if it is local.
        flusher_seconds: returns the CPU seconds of the run's flusher.
        earlier_totals: the totals of a run that this one continues.
        clock: returns seconds.
        wall: the wall clock, in seconds since the epoch.
    """
    if telemetry is False:
        return None
    reporter, listener = Reporter(channel, wall), CompilationListener()
    collectors: list[Collector] = []
    if telemetry is not None:
        settings = Telemetry() if telemetry is True else telemetry
        local_dir = logdir if isinstance(logdir, pathlib.Path) else None
        costs = ProgramCosts(reporter, listener, settings.peak_flops)
        memory = DeviceMemory(reporter)
        overhead = Overhead(reporter, local_dir, flusher_seconds, clock, earlier_totals or {})
        step_times = StepTimes(reporter, settings, clock, followers=[costs, memory, overhead])
        time_report = TimeReport(
            reporter,
            settings.window,
            logdir=local_dir,
            step=channel.step,
            earlier_totals=earlier_totals,
            clock=clock,
            wall=wall,
        )
        collectors = [
            time_report,
            step_times,
            memory,
            costs,
            CompileTable(reporter),
            ProgramTable(reporter),
            overhead,
        ]
    out_of_memory = OutOfMemory(reporter, channel)
    channel.lost.explain = out_of_memory.explain
    monitor = TelemetryMonitor(reporter, listener, out_of_memory, collectors)
    monitor.start()
    return monitor
