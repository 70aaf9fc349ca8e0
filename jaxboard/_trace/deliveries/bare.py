"""The function without a program of jaxboard's, for functions whose program cannot be made."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from jaxboard._host.channel import Channel
from jaxboard._trace import context
from jaxboard._trace.deliveries.delivery import Delivery, Executed, as_int
from jaxboard._trace.instrument_options import InstrumentOptions

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs


class Bare(Delivery):
    """The user's jitted function runs as it is. Each of its reports takes a callback, and each call waits for them.

    Without the wait, a callback would arrive during a later step.

    Args:
        fn: the result of ``jax.jit``.
        name: its name in messages.
        options: the options that ``instrument`` was given.
    """

    def __init__(self, fn: Any, name: str, options: InstrumentOptions):
        super().__init__(name, options)
        self._fn = fn
        self._options = options

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery and the step, which ``step=`` returns if it was passed."""
        if self._options.step is None:
            return self, channel.begin(self._advance)
        step = as_int(self._name, self._options.step(*args, **kwargs))
        return self, channel.begin(self._advance, step)

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the function and wait for its callbacks."""
        with self._context():
            out = self._fn(*args, **kwargs)
        # A computation that failed raises where its results are read.
        with contextlib.suppress(Exception):
            jax.effects_barrier()
        return out, None, (), 0.0

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the function."""
        self.ahead_of_time("lower")(*args, **kwargs).compile()

    def ahead_of_time(self, method: str) -> Callable[..., Any]:
        """Return a method of the jitted function that leads to a compiled one, such as ``lower``."""

        def traced(*args: object, **kwargs: object) -> Any:
            with self._context():
                return getattr(self._fn, method)(*args, **kwargs)

        return traced

    def _context(self) -> contextlib.AbstractContextManager[None]:
        runs = self._options.seed_runs or context.current().runs
        return context.override(every=self._options.every, runs=runs)
