"""Frames that leave as a hidden output of a program whose step the host knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import jax

from jaxboard._frame import Packed, Plan
from jaxboard._host.channel import Channel
from jaxboard._host.observers import Call
from jaxboard._trace.deliveries.delivery import Delivery, put_on_device
from jaxboard._trace.failures import OtherProgram, check_program
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._trace.windows import MissingAccumulators, accumulator_sharding, empty_accumulators
from jaxboard._types import PyTree

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs, Programs

_ALL_DUE = frozenset[int]()
_EMPTY_FRAME = Packed(Plan(()), {})


class HiddenOutput(Delivery):
    """The frame is a hidden output of the program, and the host knows the step and what is due.

    Attributes:
        empty: accumulators without values; None until the function is found to report windows.
    """

    def __init__(
        self, name: str, options: InstrumentOptions, programs: Programs, jit_options: dict[str, Any]
    ):
        super().__init__(name, options)
        self.empty: Packed | None = None
        self._programs = programs
        self._jit_shardings = jax.tree.leaves(
            [jit_options.get(name) for name in ("in_shardings", "out_shardings")]
        )

    def call(self, channel: Channel, step: int, call: Call) -> PyTree:
        """Run the program for ``step``; keep the new accumulators and put the frame."""
        args, kwargs = call.args, call.kwargs
        program, leading = None, ()
        while True:
            cadences = self._programs.cadences
            not_due = frozenset([n for n in cadences if step % n]) if cadences else _ALL_DUE
            # Removed while the program runs: a concurrent call on another thread starts with empty ones.
            accumulators, last_step = channel.windows.pop(self, (self.empty, step))
            if last_step not in (step, step - 1) and _skips_due(cadences, last_step, step):
                channel.put_window(accumulators, last_step)
                accumulators, last_step = self.empty, step
            try:
                program, leading = self._program(not_due, step, accumulators, len(args))
                began = time.perf_counter()
                out, packed, *windows = program(*leading, *args, **kwargs)
                seconds = time.perf_counter() - began
            except MissingAccumulators as missing:
                self._add_accumulators(missing, args, kwargs)
                channel.put_window(accumulators, last_step)
                continue
            except OtherProgram:
                channel.put_window(accumulators, last_step)
                continue
            except BaseException as error:
                channel.put_window(accumulators, last_step)
                if isinstance(error, ValueError) and self._move(accumulators, args, kwargs):
                    continue
                check_program(error, program, leading, call)
                raise
            call.program, call.leading, call.dispatch_seconds = program, leading, seconds
            if windows and windows[0] is not None:
                kept = windows[0], step
                if channel.windows.setdefault(self, kept) is not kept:
                    channel.put_window(*kept)  # a concurrent call was faster
            packed = self._frame(packed, not_due)
            if packed.arrays:
                self._put(channel, packed, step)
            return out

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the programs for steps on which something is due, and on which nothing is."""
        not_due = _ALL_DUE
        compiled = set[frozenset[int]]()
        while True:
            try:
                program, leading = self._program(not_due, 0, self.empty, len(args))
                lowered = program.lower(*leading, *args, **kwargs)
            except MissingAccumulators as missing:
                self._add_accumulators(missing, args, kwargs)
                compiled.clear()
                continue
            except OtherProgram:
                continue
            lowered.compile()
            compiled.add(not_due)
            # All cadences are known only after the first trace.
            not_due = self._programs.cadences
            if not_due in compiled or self._programs.is_gated(not_due):
                return

    def _program(
        self, not_due: frozenset[int], step: int, accumulators: Packed | None, num_args: int
    ) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
        """Return the program for a call, and the arguments that it takes before those of the call."""
        if self._programs.is_gated(not_due):
            return self._programs.gated(num_args), ((put_on_device(step), accumulators),)
        if accumulators is None:
            return self._programs.plain(not_due), ()
        return self._programs.windowed(not_due, num_args), (accumulators,)

    def _frame(self, packed: Packed, not_due: frozenset[int]) -> Packed:
        """Return the frame to put."""
        return packed

    def _move(self, accumulators: Packed | None, args: Args, kwargs: Kwargs) -> bool:
        """Move the accumulators to the devices of the arguments; return whether they were on others."""
        sharding = self._sharding(args, kwargs)
        if accumulators is None or sharding in (None, _sharding_of(accumulators)):
            return False
        self.empty = jax.device_put(self.empty, sharding)
        return True

    def _add_accumulators(self, missing: MissingAccumulators, args: Args, kwargs: Kwargs) -> None:
        self.empty = empty_accumulators(missing.templates, self._sharding(args, kwargs))

    def _sharding(self, args: Args, kwargs: Kwargs) -> jax.sharding.Sharding | None:
        """Return the sharding that accumulators need for a call with such arguments."""
        arrays = jax.tree.leaves((args, kwargs))
        # A ShapeDtypeStruct (see precompile) is committed to its sharding.
        committed = [getattr(x, "sharding", None) for x in arrays if getattr(x, "committed", True)]
        return accumulator_sharding([*self._jit_shardings, *committed])


class GatedOutput(HiddenOutput):
    """The hidden output of a single program, which computes what is due: ``gate="cond"``."""

    def _frame(self, packed: Packed, not_due: frozenset[int]) -> Packed:
        """Return the frame, or an empty one if no report in it is due."""
        nothing_due = len(not_due) == len(self._programs.cadences)
        return _EMPTY_FRAME if nothing_due and _is_sampled(packed.plan) else packed


def _skips_due(cadences: frozenset[int], last_step: int, step: int) -> bool:
    """Return whether a window that holds ``last_step`` ends before ``step`` and was never due."""
    return any(last_step % n and -(-last_step // n) != -(-step // n) for n in cadences)


def _is_sampled(plan: Plan) -> bool:
    """Return whether every report of a frame is left out on a step on which no cadence is due."""
    return all(entry.spec.every > 1 and entry.step is None for entry in plan.entries)


def _sharding_of(packed: Packed) -> jax.sharding.Sharding:
    return next(iter(packed.arrays.values())).sharding
