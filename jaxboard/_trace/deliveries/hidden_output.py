"""Frames that leave as a hidden output of a program whose step the host knows."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax

from jaxboard._frame import Plan
from jaxboard._host.channel import Channel, Window
from jaxboard._host.observers import registry
from jaxboard._host.selection import Selection
from jaxboard._trace.cadences import Cadences
from jaxboard._trace.deliveries.delivery import Delivery, Executed, put_on_device
from jaxboard._trace.failures import OtherProgram, ProgramFailed, check_program
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._trace.windows import (
    NO_WINDOWS,
    Carried,
    MissingAccumulators,
    accumulator_sharding,
    continued,
    empty_accumulators,
)
from jaxboard._types import Array, PyTree

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs, Programs

_ALL_DUE = frozenset[int]()


class _Windows(NamedTuple):
    """The windows of a function, as far as it was traced. It is replaced, never changed.

    Attributes:
        plan: the plan of the accumulators.
        empty: accumulators without values.
        program: (cadences that are not due, number of positional arguments) -> the program with this plan.
    """

    plan: Plan
    empty: Carried
    program: Callable[[frozenset[int], int], jax.stages.Wrapped]


class HiddenOutput(Delivery):
    """The frame is a hidden output of the program, and the host knows the step and what is due.

    Attributes:
        _gates_all: whether every step runs the gated program, which computes what is due.
    """

    _gates_all: ClassVar[bool] = False

    def __init__(
        self, name: str, options: InstrumentOptions, programs: Programs, jit_options: dict[str, Any]
    ):
        super().__init__(name, options)
        self._programs = programs
        self._jit_options = jit_options
        self._options = options
        self._others: dict[Programs, HiddenOutput] = {}
        self._plain = functools.cache(programs.plain)  # looked up at each call
        self._windows: _Windows | None = None
        self._jit_shardings = jax.tree.leaves(
            [jit_options.get(name) for name in ("in_shardings", "out_shardings")]
        )

    def _select(self, selection: Selection) -> HiddenOutput:
        programs = self._programs.selecting(selection)
        if programs is self._programs:
            return self
        if programs not in self._others:
            self._others[programs] = type(self)(
                self._name, self._options, programs, self._jit_options
            )
        return self._others[programs]

    def call(  # noqa: C901, PLR0912 (each call runs this; a method call would be 2 % of a fast step)
        self, channel: Channel, step: int, args: Args, kwargs: Kwargs
    ) -> Executed:
        """Run the program for ``step``; keep the new accumulators and put the frame."""
        program, leading, window = None, (), None
        while True:
            cadences, windows = self._programs.cadences, self._windows
            if windows is not None:
                # Removed while the program runs: a concurrent call on another thread starts with empty ones.
                window = channel.windows.pop(self, None)
                if window is None or window[0] is not windows.plan or window[2] != step - 1:
                    window = self._continue(window, channel, step, windows, cadences)
            try:
                if (
                    windows is not None
                    and window is not None
                    and step % cadences.divisor
                    and not self._gates_all
                ):
                    # Nothing is due, as on most steps.
                    program, leading = windows.program(cadences.all, len(args)), (window[1],)
                elif cadences.all or self._gates_all:
                    if channel.windows:  # those of other functions
                        channel.end_windows_by(step)
                    not_due = cadences.not_due(step)
                    program, leading = self._program(not_due, step, windows, window, len(args))
                else:
                    program = self._plain(_ALL_DUE)
                began = time.perf_counter() if registry.of_every_call else 0.0
                if leading:
                    out, plan, vectors, kept = program(*leading, *args, **kwargs)
                else:  # This is faster, and the usual case.
                    out, plan, vectors, kept = program(*args, **kwargs)
                seconds = time.perf_counter() - began if began else 0.0
            except BaseException as error:
                channel.put_window(window)
                if self._is_retried(error, windows, window, args, kwargs):
                    continue
                check_program(error, program, leading, args, kwargs)
                raise
            if kept and windows is not None:
                new = windows.plan, kept, step
                if channel.windows.setdefault(self, new) is not new:
                    channel.put_window(new)  # a concurrent call was faster
            if plan is not None:
                if plan.has_targets or self._gates_all:
                    self._put(channel, plan, vectors, step)
                else:
                    channel.put_call(plan, vectors, step, self._shares_steps)
            return out, program, leading, seconds

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the programs for steps on which something is due, and on which nothing is."""
        not_due = _ALL_DUE
        compiled = set[frozenset[int]]()
        while True:
            windows = self._windows
            window = None if windows is None else (windows.plan, windows.empty, 0)
            try:
                program, leading = self._program(not_due, 0, windows, window, len(args))
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
            not_due = self._programs.cadences.all
            if not_due in compiled or self._gates_all:
                return

    def _continue(
        self,
        window: Window | None,
        channel: Channel,
        step: int,
        windows: _Windows,
        cadences: Cadences,
    ) -> Window:
        """Return the accumulators for a call: those of the last call, if their windows go on, or empty ones."""
        if window is None and channel.restored:
            window = continued(windows.plan, windows.empty, self._name, channel)
        if window is not None:
            plan, _, last_step = window
            is_next = last_step == step or not cadences.skip_due(last_step, step)
            if is_next and plan is windows.plan:
                return window
            channel.put_window(window)
        return windows.plan, windows.empty, step

    def _program(
        self,
        not_due: frozenset[int],
        step: int,
        windows: _Windows | None,
        window: Window | None,
        num_args: int,
    ) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
        """Return the program for a call, and the arguments that it takes before those of the call."""
        cadences = self._programs.cadences.all
        # With several cadences, a program for each combination would compile in the middle of training, whenever a
        # combination is due for the first time. One program computes what is due.
        if self._gates_all or (len(cadences) > 1 and not_due != cadences):
            plan, carried, _ = window or (NO_WINDOWS, (), step)
            return self._programs.gated(plan, num_args), ((put_on_device(step), carried),)
        if windows is None or window is None:
            return self._plain(not_due), ()
        return windows.program(not_due, num_args), (window[1],)

    def _is_retried(
        self,
        error: BaseException,
        windows: _Windows | None,
        window: Window | None,
        args: Args,
        kwargs: Kwargs,
    ) -> bool:
        """Return whether a call that raised this runs again, with another program or other accumulators."""
        if isinstance(error, MissingAccumulators):
            self._add_accumulators(error, args, kwargs)
            return True
        if isinstance(error, OtherProgram):
            return True
        # JAX refuses to mix devices when it runs a program, and meshes when it traces one.
        is_mixed = isinstance(error, ValueError | ProgramFailed)
        return is_mixed and self._move(windows, window, args, kwargs)

    def _bind(self, plan: Plan) -> Callable[[frozenset[int], int], jax.stages.Wrapped]:
        """Return the function that returns the programs with these windows."""
        return functools.cache(functools.partial(self._programs.windowed, plan))

    def _move(
        self, windows: _Windows | None, window: Window | None, args: Args, kwargs: Kwargs
    ) -> bool:
        """Move the accumulators to the devices of the arguments; return whether they were on others."""
        sharding = self._sharding(args, kwargs)
        if windows is None or window is None or sharding in (None, window[1][0].sharding):
            return False
        self._windows = windows._replace(empty=jax.device_put(windows.empty, sharding))
        return True

    def _add_accumulators(self, missing: MissingAccumulators, args: Args, kwargs: Kwargs) -> None:
        plan, empty = empty_accumulators(missing.templates, self._sharding(args, kwargs))
        self._windows = _Windows(plan, empty, self._bind(plan))

    def _sharding(self, args: Args, kwargs: Kwargs) -> jax.sharding.Sharding | None:
        """Return the sharding that accumulators need for a call with such arguments."""
        arrays = jax.tree.leaves((args, kwargs))
        # A ShapeDtypeStruct (see precompile) is committed to its sharding.
        committed = [getattr(x, "sharding", None) for x in arrays if getattr(x, "committed", True)]
        return accumulator_sharding([*self._jit_shardings, *committed])


class GatedOutput(HiddenOutput):
    """The hidden output of a single program, which computes what is due: ``gate="cond"``."""

    _gates_all = True

    def _put(
        self, channel: Channel, plan: Plan, vectors: tuple[Array, ...], step: int | None
    ) -> None:
        """Put a frame, unless no report in it is due."""
        cadences = self._programs.cadences
        nothing_due = step is not None and cadences.not_due(step) == cadences.all
        if not (nothing_due and _is_sampled(plan)):
            super()._put(channel, plan, vectors, step)


def _is_sampled(plan: Plan) -> bool:
    """Return whether every report of a frame is left out on a step on which no cadence is due."""
    return all(entry.spec.every > 1 and entry.step is None for entry in plan.entries)
