"""Plain functions, and every function under ``jax.disable_jit``."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxboard._errors import UsageError
from jaxboard._host.callbacks import callbacks
from jaxboard._host.channel import Channel
from jaxboard._trace import context
from jaxboard._trace.advice import warn_waits
from jaxboard._trace.deliveries.delivery import Delivery, Executed, as_int
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._types import PyTree

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs


_is_running: contextvars.ContextVar[bool] = contextvars.ContextVar("is_running", default=False)


def step_is_taken() -> bool:
    """Return whether this code runs in a call of an instrumented function that is not jitted: it takes the step."""
    return _is_running.get()


class Eager(Delivery):
    """The function runs as it is, and each of its reports goes to the run by itself.

    Jitted functions that it calls may report by callback. The next call waits for those callbacks.
    """

    def __init__(self, fn: Callable[..., PyTree], name: str, options: InstrumentOptions):
        super().__init__(name, options)
        self._fn = fn
        self._step = options.step
        self._every = options.every
        self._seed_runs = options.seed_runs
        # The run of the last call, and how many callbacks had arrived when it began.
        self._arrived = -1, -1

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery and the step, which ``step=`` returns if it was passed."""
        step = None if self._step is None else as_int(self._name, self._step(*args, **kwargs))
        begun = self._begin(channel, step)
        arrived = id(channel), callbacks.count
        if arrived != self._arrived:
            if self._advance and arrived[0] == self._arrived[0]:
                warn_waits(self._name, callbacks.tag)
            self._arrived = arrived
        return self, begun

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the function."""
        token = _is_running.set(True)
        try:
            return self.run(args, kwargs), None, (), 0.0
        finally:
            _is_running.reset(token)

    def run(self, args: Args, kwargs: Kwargs) -> PyTree:
        """Run the function with its options, within the program or the loop around it."""
        runs = self._seed_runs or context.current().runs
        with context.override(every=self._every, runs=runs):
            return self._fn(*args, **kwargs)

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Raise: a plain function has no programs."""
        raise UsageError(f"{self._name}.precompile(): a plain function has nothing to compile.")
