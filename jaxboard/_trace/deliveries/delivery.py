"""The interface of a delivery, and conversions of steps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import jax
import numpy as np

from jaxboard import _check
from jaxboard._errors import UsageError
from jaxboard._frame import Frame, Plan
from jaxboard._host.callbacks import callbacks
from jaxboard._host.channel import Channel
from jaxboard._host.selection import Selection
from jaxboard._reduce import WideInt
from jaxboard._safe_repr import safe_repr
from jaxboard._trace.failures import check_program
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._types import Array, PyTree

Executed: TypeAlias = tuple[PyTree, jax.stages.Wrapped | None, tuple[PyTree, ...], float]
"""The results of a call; and, if its frame was a hidden output, the program that ran, its arguments before those of the
call, and, if every call is observed, the seconds that JAX took to dispatch it. A plain tuple, as each call makes one."""

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs


class Delivery:
    """One way to run the calls of a function and to deliver their reports.

    Args:
        name: the function's name in messages.
        options: the options that ``instrument`` was given.

    Attributes:
        counts_on_arrival: whether the step is taken while the program runs, instead of by :meth:`begin`.
    """

    counts_on_arrival: ClassVar[bool] = False

    def __init__(self, name: str, options: InstrumentOptions):
        self._name = name
        self._advance = options.advance
        # Calls of an evaluation share a step, as do calls for which step= returns the same one.
        self._shares_steps = not options.advance or options.step is not None
        # None stands for this delivery: a reference to itself would be a cycle.
        self._last_selected: tuple[Selection | None, Delivery | None] = (None, None)

    @property
    def name(self) -> str:
        """The function's name."""
        return self._name

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the call's delivery, this one unless the arguments decide, and the call's step."""
        if callbacks.expected and self._advance:
            callbacks.wait()
        step = channel.begin(self._advance)
        selection = channel.selection
        return (self if selection is None else self.selecting(selection)), step

    def selecting(self, selection: Selection | None) -> Delivery:
        """Return the delivery for a run that selects cadences, with its own programs if it needs others."""
        if selection is None:
            return self
        last, other = self._last_selected
        if last is not selection:
            delivery = self._select(selection)
            other = None if delivery is self else delivery
            self._last_selected = selection, other
        return other or self

    def _select(self, selection: Selection) -> Delivery:
        """Return the delivery for a selection. Without programs of its own, the host selects."""
        return self

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the function.

        Args:
            channel: where the reports go.
            step: the step of the call.
            args: its positional arguments.
            kwargs: its keyword arguments.

        Raises:
            ProgramFailed: the program cannot be made. Nothing has run.
        """
        raise NotImplementedError

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the programs that calls with such arguments run."""
        raise NotImplementedError

    def _begin(self, channel: Channel, step: int | None = None) -> int:
        """Return the step of a call, which begins after the callbacks of earlier calls have arrived."""
        if callbacks.expected and (self._advance or step is not None):
            callbacks.wait()
        return channel.begin(self._advance, step)

    def _execute(
        self, program: jax.stages.Wrapped, leading: tuple[PyTree, ...], args: Args, kwargs: Kwargs
    ) -> PyTree:
        """Run a program with the arguments of a call after ``leading``."""
        try:
            return program(*leading, *args, **kwargs)
        except Exception as error:
            check_program(error, program, leading, args, kwargs)
            raise

    def _put(
        self, channel: Channel, plan: Plan, vectors: tuple[Array, ...], step: int | None
    ) -> None:
        if plan.has_targets:
            frame = Frame(plan, vectors, step, time.time(), self._shares_steps)
            channel.send(frame, advance=self._advance)
        else:
            channel.put_call(plan, vectors, step, self._shares_steps)


def as_int(name: str, step: object) -> int:
    """Return the result of ``step=`` as an int.

    Args:
        name: the function's name in messages.
        step: the result.

    Raises:
        UsageError: it is not an integer of 64 bits.
    """
    number = _check.as_int(step)
    if number is None:
        raise UsageError(
            f"{name}: instrument(step=...) returned {safe_repr(step)}, expected an integer."
        )
    if not _check.fits_64_bits(number):
        raise UsageError(
            f"{name}: instrument(step=...) returned {safe_repr(step)}, which does not fit in 64 bits."
        )
    return number


def put_on_device(step: int) -> jax.Array:
    """Return a step as an argument of a program: two words of 32 bits, the upper one first.

    The explicit device_put is permitted by ``jax.transfer_guard("disallow")``, which users may set.
    """
    words = WideInt.of(step)
    return jax.device_put(np.stack([words.high, words.low]))
