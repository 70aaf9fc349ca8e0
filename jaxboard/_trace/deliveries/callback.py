"""Frames that leave by a callback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxboard._host.channel import Channel
from jaxboard._host.selection import Selection
from jaxboard._trace.deliveries.delivery import Delivery, Executed
from jaxboard._trace.instrument_options import InstrumentOptions

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs, Programs


class Callback(Delivery):
    """The frame leaves by one callback while the program runs, which also counts the step.

    It is the delivery for ``delivery="callback"``. It also replaces hidden outputs while JAX checks results for NaN
    or infinity, because JAX would check the frame too.
    """

    counts_on_arrival = True

    def __init__(self, name: str, options: InstrumentOptions, programs: Programs):
        super().__init__(name, options)
        self._programs = programs
        self._options = options

    def _select(self, selection: Selection) -> Callback:
        return Callback(self._name, self._options, self._programs.selecting(selection))

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery and the next step of the run, without taking it."""
        return self.selecting(channel.selection), channel.step

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the program."""
        channel.end_windows()  # The reports of this call may be in the same points.
        caller = self._programs.callers.begin(channel)
        program = self._programs.callback(caller, advance=self._advance)
        out, _ = self._execute(program, (), args, kwargs)
        return out, None, (), 0.0

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the program."""
        program = self._programs.callback(self._programs.callers.first, advance=self._advance)
        program.lower(*args, **kwargs).compile()
