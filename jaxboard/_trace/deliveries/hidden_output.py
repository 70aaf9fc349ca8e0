"""Frames that leave as a hidden output of a program whose step the host knows."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

import jax

from jaxboard._frame import Packed, Plan
from jaxboard._host.channel import Channel, Window
from jaxboard._trace.cadences import Cadences
from jaxboard._trace.deliveries.delivery import Delivery, Executed, put_on_device
from jaxboard._trace.failures import check_program
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._trace.windows import MissingAccumulators, accumulator_sharding, empty_accumulators
from jaxboard._types import Array, PyTree

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs, Programs

_ALL_DUE = frozenset[int]()


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
        # Looked up at each call.
        self._plain = functools.cache(programs.plain)
        self._windowed = functools.cache(programs.windowed)
        self._jit_shardings = jax.tree.leaves(
            [jit_options.get(name) for name in ("in_shardings", "out_shardings")]
        )

    def call(self, channel: Channel, step: int, args: Args, kwargs: Kwargs) -> Executed:
        """Run the program for ``step``; keep the new accumulators and put the frame."""
        program, leading = None, ()
        while True:
            cadences = self._programs.cadences
            not_due = cadences.not_due(step)
            window = None if self.empty is None else self._take(channel, step, self.empty, cadences)
            try:
                program, leading = self._program(not_due, step, window, len(args))
                began = time.perf_counter()
                out, plan, arrays, kept = program(*leading, *args, **kwargs)
                seconds = time.perf_counter() - began
            except MissingAccumulators as missing:
                self._add_accumulators(missing, args, kwargs)
                channel.put_window(window)
                continue
            except BaseException as error:
                channel.put_window(window)
                if isinstance(error, ValueError) and self._move(window, args, kwargs):
                    continue
                check_program(error, program, leading, args, kwargs)
                raise
            if window is not None and kept is not None:
                # The plan of the argument, and not an equal one: see Plan.
                new = Packed(window[0].plan, kept), step
                if channel.windows.setdefault(self, new) is not new:
                    channel.put_window(new)  # a concurrent call was faster
            if arrays:
                self._put(channel, plan, arrays, step)
            return out, program, leading, seconds

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile one program for each combination of what is due."""
        not_due = _ALL_DUE
        compiled = set[frozenset[int]]()
        while True:
            try:
                window = None if self.empty is None else (self.empty, 0)
                program, leading = self._program(not_due, 0, window, len(args))
                lowered = program.lower(*leading, *args, **kwargs)
            except MissingAccumulators as missing:
                self._add_accumulators(missing, args, kwargs)
                compiled.clear()
                continue
            lowered.compile()
            compiled.add(not_due)
            # All cadences are known only after the first trace.
            left = [each for each in self._combinations() if each not in compiled]
            if not left:
                return
            not_due = left[0]

    def _take(self, channel: Channel, step: int, empty: Packed, cadences: Cadences) -> Window:
        """Return the accumulators for a call, with those of the last call if their windows go on."""
        # Removed while the program runs: a concurrent call on another thread starts with empty ones.
        window = channel.windows.pop(self, None)
        if window is None:
            return empty, step
        last_step = window[1]
        if last_step not in (step, step - 1) and cadences.skip_due(last_step, step):
            channel.put_window(window)
            return empty, step
        return window

    def _program(
        self, not_due: frozenset[int], step: int, window: Window | None, num_args: int
    ) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
        """Return the program for a call, and the arguments that it takes before those of the call."""
        if window is None:
            return self._plain(not_due), ()
        return self._windowed(not_due, num_args), (window[0],)

    def _combinations(self) -> list[frozenset[int]]:
        return self._programs.cadences.combinations()

    def _move(self, window: Window | None, args: Args, kwargs: Kwargs) -> bool:
        """Move the accumulators to the devices of the arguments; return whether they were on others."""
        sharding = self._sharding(args, kwargs)
        if window is None or sharding in (None, _sharding_of(window[0].arrays)):
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

    def _program(
        self, not_due: frozenset[int], step: int, window: Window | None, num_args: int
    ) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
        """Return the program, and the step and the accumulators."""
        accumulators = None if window is None else window[0]
        return self._programs.gated(num_args), ((put_on_device(step), accumulators),)

    def _combinations(self) -> list[frozenset[int]]:
        return []

    def _put(
        self, channel: Channel, plan: Plan, arrays: dict[str, Array], step: int | None
    ) -> None:
        """Put a frame, unless no report in it is due."""
        cadences = self._programs.cadences
        nothing_due = step is not None and cadences.not_due(step) == cadences.all
        if not (nothing_due and _is_sampled(plan)):
            super()._put(channel, plan, arrays, step)


def _is_sampled(plan: Plan) -> bool:
    """Return whether every report of a frame is left out on a step on which no cadence is due."""
    return all(entry.spec.every > 1 and entry.step is None for entry in plan.entries)


def _sharding_of(arrays: dict[str, Array]) -> jax.sharding.Sharding:
    return next(iter(arrays.values())).sharding
