"""Results from the program without reports, and reports from a second program."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from jaxboard._host.channel import Channel
from jaxboard._trace import context
from jaxboard._trace.deliveries.delivery import Delivery, Executed
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._types import PyTree

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    import jax

    from jaxboard._trace.programs import Args, Kwargs


class ExactResults(Delivery):
    """The results are those of the program without reports: ``exact=True``.

    The reports come from a second program, which computes only them. It runs first and donates nothing, as the
    other program may donate the arguments.

    Args:
        fn: the user's function.
        name: the function's name in messages.
        options: the options that ``instrument`` was given.
        reports: the delivery of the second program.
    """

    def __init__(
        self, fn: Callable[..., PyTree], name: str, options: InstrumentOptions, reports: Delivery
    ):
        super().__init__(name, options)
        self._fn = fn
        self._options = options
        self._reports = reports

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery, with the one that the arguments decide for the second program."""
        reports, step = self._reports.begin(channel, args, kwargs)
        if reports is self._reports:
            return self, step
        return ExactResults(self._fn, self._name, self._options, reports), step

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the program of the reports, then the user's without reports."""
        self._reports.call(channel, step, args, kwargs)
        with context.silenced():
            return self._fn(*args, **kwargs), None, (), 0.0

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile all programs."""
        self._reports.precompile(args, kwargs)
        with context.silenced():
            cast("jax.stages.Wrapped", self._fn).lower(*args, **kwargs).compile()
