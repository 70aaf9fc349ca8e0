"""Results from the program without reports, and reports from a second program."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax

from jaxboard._host.channel import Channel
from jaxboard._host.selection import Selection
from jaxboard._trace import context
from jaxboard._trace.deliveries.delivery import Delivery, Executed
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._types import PyTree

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs


class _Silent:
    """A jitted function without its reports."""

    def __init__(self, fn: Any):
        self._fn = fn

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with context.silenced():
            return self._fn(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> jax.stages.Traced:
        with context.silenced():
            return self._fn.trace(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
        with context.silenced():
            return self._fn.lower(*args, **kwargs)


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
        # One object for each program of the reports, because observers distinguish the programs of a call by it.
        self._results = functools.cache(lambda _: _Silent(fn))
        self._options = options
        self._reports = reports
        self._others: dict[Delivery, ExactResults] = {}

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery, with the one that the arguments decide for the second program."""
        reports, step = self._reports.begin(channel, args, kwargs)
        if reports is self._reports:
            return self, step
        if reports not in self._others:
            self._others[reports] = ExactResults(self._fn, self._name, self._options, reports)
        return self._others[reports], step

    def _select(self, selection: Selection) -> ExactResults:
        reports = self._reports.selecting(selection)
        return ExactResults(self._fn, self._name, self._options, reports)

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the program of the reports, then the user's without reports."""
        _, program, _, _ = self._reports.call(channel, step, args, kwargs)
        results = self._results(program)
        began = time.perf_counter()
        out = results(*args, **kwargs)
        return out, results, (), time.perf_counter() - began

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile all programs."""
        self._reports.precompile(args, kwargs)
        self._results(None).lower(*args, **kwargs).compile()
