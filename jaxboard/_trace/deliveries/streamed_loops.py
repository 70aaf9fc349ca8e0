"""Loops that are a whole training run and report while they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import numpy as np

from jaxboard import _compat
from jaxboard._host import progress
from jaxboard._host.channel import Channel
from jaxboard._host.selection import Selection
from jaxboard._trace.advice import warn_no_loop
from jaxboard._trace.arrival import Caller
from jaxboard._trace.deliveries.delivery import Delivery, Executed, put_on_device
from jaxboard._trace.instrument_options import InstrumentOptions

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs, Programs


class StreamedLoops(Delivery):
    """Each iteration of the function's loops is a step, and leaves in a chunk while the program runs."""

    counts_on_arrival = True

    def __init__(self, name: str, options: InstrumentOptions, programs: Programs):
        super().__init__(name, options)
        self._programs = programs
        self._progress = options.progress
        self._options = options

    def _select(self, selection: Selection) -> StreamedLoops:
        return StreamedLoops(self._name, self._options, self._programs.selecting(selection))

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery and the step of the first iteration, without taking it."""
        return self.selecting(channel.selection), channel.step

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the program, and advance the run to the step of the last iteration."""
        if self._progress:
            progress.close(self._name)
        channel.end_windows()  # The reports of this call may be in the same points.
        caller = self._programs.callers.begin(channel)
        program = self._program(len(args), caller)
        out, plan, vectors = self._execute(program, (put_on_device(step),), args, kwargs)
        steps_taken, last_step = plan.steps_taken, plan.step
        if steps_taken is not None and self._options.step is None:
            channel.advance_to(step + max(steps_taken, 1) - 1)
        elif last_step is not None:
            # A while_loop, or step=: what comes next needs the last step, so this call waits for the device.
            with jax.transfer_guard_device_to_host("allow"):
                on_host = dict(zip(plan.vector_names, map(np.asarray, vectors), strict=True))
            channel.advance_to(int(last_step.read(on_host)))
        if steps_taken == 0:
            warn_no_loop(self._name)
        if plan.entries:
            self._put(channel, plan, vectors, None if last_step else step)
        return out, None, (), 0.0

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the program."""
        program = self._program(len(args), self._programs.callers.first)
        program.lower(put_on_device(0), *args, **kwargs).compile()

    def _program(self, num_args: int, caller: Caller) -> jax.stages.Wrapped:
        return self._programs.streamed(num_args, caller, checked=_compat.results_are_checked())
