"""The telemetry of one run: told of every call by the observer hook, it hands on to its parts."""

from __future__ import annotations

from typing import Any

from jaxboard._host import observe
from jaxboard._host.channel import Channel, active
from jaxboard._host.observe import Call
from jaxboard._telemetry.compiles import Compiles
from jaxboard._telemetry.compiletable import CompileTable
from jaxboard._telemetry.recompiles import Recompiles
from jaxboard._telemetry.reporter import Reporter


class Watch:
    """Watches the calls that belong to a run, from :meth:`start` to :meth:`stop`.

    Args:
        channel: of the run.
        everything: False for recompile alarms alone, which write only when they have something to tell.
    """

    def __init__(self, channel: Channel, *, everything: bool):
        reporter = Reporter(channel)
        self._channel = channel
        self._compiles = Compiles()
        self._recompiles = Recompiles(reporter)
        self._table = CompileTable(reporter) if everything else None

    def start(self) -> None:
        """Begins to watch."""
        self._compiles.start()
        observe.add(self)

    def stop(self) -> None:
        """Watches no longer."""
        observe.remove(self)
        self._compiles.stop()

    def begin(self, call: Call) -> None:
        """See :class:`jaxboard._host.observe.Observer`."""
        self._compiles.begin()

    def end(self, call: Call, result: Any) -> None:
        """See :class:`jaxboard._host.observe.Observer`."""
        programs = self._compiles.end()
        # With several runs open, a call belongs to the innermost.
        if call.step is None or active() is not self._channel:
            return
        if programs:
            changes = self._recompiles.compiled(call, call.step, programs)
            if self._table is not None:
                self._table.add(call.name, call.step, programs, changes)
