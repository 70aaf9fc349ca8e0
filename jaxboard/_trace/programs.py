"""The compiled programs of an instrumented function: the user's function with the frame as a hidden output.

A function with sampled reports has two programs. The one for steps on which nothing is due contains no sampled report.
The other contains all of them; if they have several cadences, it computes which are due.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from jaxboard._frame import Plan
from jaxboard._host.selection import Selection
from jaxboard._reduce import WideInt
from jaxboard._trace import windows
from jaxboard._trace.advice import warn_counts_up
from jaxboard._trace.arrival import Caller, Callers
from jaxboard._trace.cadences import Cadences
from jaxboard._trace.failures import OtherProgram
from jaxboard._trace.pack import Harvested, pack
from jaxboard._trace.primitives import deliver
from jaxboard._trace.rules.step_clocks import ArgumentClock
from jaxboard._trace.rules.streamed import Stream
from jaxboard._trace.traced_function import ALL_DUE, Args, Kwargs, TracedFunction
from jaxboard._types import Array, PyTree

_Vectors: TypeAlias = tuple[Array, ...]
_Outputs: TypeAlias = tuple[PyTree, Plan | None, _Vectors, windows.Carried]
"""The results of the function, the plan of the frame if anything leaves, its vectors, and the accumulators."""


class ProgramKey(NamedTuple):
    """The key of one program of a function.

    Attributes:
        kind: the method of :class:`Programs` that makes it.
        not_due: the cadences whose reports are left out.
        num_args: the number of positional arguments, if the program takes one more before them.
        checked: whether JAX checks results for NaN or infinity.
        caller: names the run of the calls, if the program delivers by callback.
        advance: see :meth:`Programs.callback`.
        windows: the plan of the accumulators that the program takes.
    """

    kind: Literal["plain", "windowed", "gated", "device_step", "streamed", "callback"]
    not_due: frozenset[int] = ALL_DUE
    num_args: int | None = None
    checked: bool = False
    caller: Caller | None = None
    advance: bool = True
    windows: Plan = windows.NO_WINDOWS


class Programs:
    """Makes the programs of a jitted function, and caches them.

    Args:
        function: the function.

    Attributes:
        cadences: the cadences above 1 of the function's reports, as far as it was traced.
        callers: the runs of the calls, for the programs that deliver by callback.
    """

    def __init__(self, function: TracedFunction):
        self.cadences = Cadences()
        self.callers = Callers()
        self._function = function
        self._others: list[Programs] = []
        self._programs: dict[ProgramKey, jax.stages.Wrapped] = {}

    def plain(self, not_due: frozenset[int]) -> jax.stages.Wrapped:
        """Return the program without windows: arguments -> (results, plan, vectors, ()).

        Tracing it raises :class:`windows.MissingAccumulators` if the function reports windows, and
        :class:`OtherProgram` if the steps need the gated program.

        Args:
            not_due: the cadences that are not due.
        """
        key = ProgramKey("plain", not_due)
        return self._programs.get(key) or self._make_plain(key)

    def windowed(self, plan: Plan, not_due: frozenset[int], num_args: int) -> jax.stages.Wrapped:
        """Return the program with windows: (accumulators, *arguments) -> (results, plan, vectors, accumulators).

        Tracing it raises :class:`windows.MissingAccumulators` if a windowed report has no accumulator, and
        :class:`OtherProgram` if the steps need the gated program.

        Args:
            plan: the plan of the accumulators.
            not_due: the cadences that are not due.
            num_args: the number of positional arguments of the call.
        """
        key = ProgramKey("windowed", not_due, num_args, windows=plan)
        return self._programs.get(key) or self._make_windowed(key)

    def gated(self, plan: Plan, num_args: int) -> jax.stages.Wrapped:
        """Return the program for all steps, which computes what is due: a branch for each sampled report.

        It maps ((step, accumulators), *arguments) to (results, plan, vectors, accumulators).
        Tracing it raises :class:`windows.MissingAccumulators` if a windowed report has no accumulator.

        Args:
            plan: the plan of the accumulators.
            num_args: the number of positional arguments of the call.
        """
        key = ProgramKey("gated", num_args=num_args, windows=plan)
        return self._programs.get(key) or self._make_gated(key)

    def device_step(self) -> jax.stages.Wrapped:
        """Return the program that computes its step: arguments -> (results, plan, vectors).

        The frame holds every report, due or not, and the step.
        """
        key = ProgramKey("device_step")
        return self._programs.get(key) or self._make_device_step(key)

    def streamed(self, num_args: int, caller: Caller, *, checked: bool) -> jax.stages.Wrapped:
        """Return the program that streams its loops: (first step, *arguments) -> (results, plan, vectors).

        Args:
            num_args: the number of positional arguments of the call.
            caller: names the run of each call.
            checked: whether JAX checks results for NaN or infinity. Reports outside of loops then leave by
                callback, so that they are not checked.
        """
        key = ProgramKey("streamed", num_args=num_args, checked=checked, caller=caller)
        return self._programs.get(key) or self._make_streamed(key)

    def callback(self, caller: Caller | None = None, *, advance: bool) -> jax.stages.Wrapped:
        """Return the program whose frame leaves by one callback that counts the step: arguments -> results.

        Args:
            caller: names the run of each call. The program then has a second result, which XLA needs: see
                ``_trace/README.md``. Without a caller, the frame goes to the run that is active when it arrives.
            advance: whether a call takes a step.
        """
        key = ProgramKey("callback", caller=caller, advance=advance)
        return self._programs.get(key) or self._make_callback(key)

    def deliver_empty_frame(self, args: Args, kwargs: Kwargs, *, advance: bool) -> None:
        """Count a step, while JAX traces the caller of a function that runs without a program."""
        deliver(pack([], self._function.step_of(args, kwargs)), advance=advance)

    def cache_size(self) -> int:
        """Return for how many different arguments the function is compiled, as ``_cache_size`` of ``jax.jit``.

        One set of arguments may have several programs, for what is due.
        """
        return max(program._cache_size() for program in self._all())  # noqa: SLF001 (its only name)

    def clear_caches(self) -> None:
        """Forget what was compiled, as ``clear_cache`` of ``jax.jit`` does."""
        for program in self._all():
            program.clear_cache()

    def _all(self) -> list[Any]:
        families = [self, *self._others]
        return [self._function.fn, *(p for each in families for p in each._programs.values())]  # noqa: SLF001

    def selecting(self, selection: Selection) -> Programs:
        """Return the programs for a run that selects cadences; existing ones if it would change nothing in them."""
        # These are for runs without a selection, unless the function's reports are known.
        for programs in [self, *self._others] if self._function.reports else self._others:
            reports = programs._function.reports  # noqa: SLF001 (same class)
            if reports.agrees_with(selection):
                if programs is not self:
                    reports.selection = selection
                return programs
        programs = copy.copy(self)
        programs.cadences, programs.callers = Cadences(), Callers()
        programs._programs, programs._others = {}, []  # noqa: SLF001
        programs._function = self._function.selecting(selection)  # noqa: SLF001
        self._others.append(programs)
        return programs

    # ---------------------------------------------------------------- the programs' Python functions

    def _make_plain(self, key: ProgramKey) -> jax.stages.Wrapped:
        def plain(*args: object, **kwargs: object) -> _Outputs:
            out, reports = self._collect_variant(key, args, kwargs)
            return out, *windows.accumulate(
                key.windows, (), reports, lambda n: n not in key.not_due
            )

        return self._add(key, self._function.jit(plain, num_hidden=3))

    def _make_windowed(self, key: ProgramKey) -> jax.stages.Wrapped:
        def windowed(carried: windows.Carried, /, *args: object, **kwargs: object) -> _Outputs:
            out, reports = self._collect_variant(key, args, kwargs)
            return out, *windows.accumulate(
                key.windows, carried, reports, lambda n: n not in key.not_due
            )

        return self._add(key, self._function.jit(windowed, num_hidden=3, num_args=key.num_args))

    def _make_gated(self, key: ProgramKey) -> jax.stages.Wrapped:
        def gated(
            leading: tuple[jax.Array, windows.Carried], /, *args: object, **kwargs: object
        ) -> _Outputs:
            words, carried = leading
            step = WideInt(*words)
            out, reports = self._collect_final(args, kwargs, step=step)
            return out, *windows.accumulate(key.windows, carried, reports, lambda n: step % n == 0)

        return self._add(key, self._function.jit(gated, num_hidden=3, num_args=key.num_args))

    def _make_device_step(self, key: ProgramKey) -> jax.stages.Wrapped:
        def device_step(*args: object, **kwargs: object) -> tuple[PyTree, Plan, _Vectors]:
            step = self._function.step_of(args, kwargs)
            out, reports = self._collect_final(args, kwargs, step=step)
            plan, arrays = pack(reports, step if reports else None)
            return out, plan, plan.vectors(arrays)

        return self._add(key, self._function.jit(device_step, num_hidden=2))

    def _make_streamed(self, key: ProgramKey) -> jax.stages.Wrapped:
        size = self._function.options.stream or 1
        bar = self._function.name if self._function.options.progress else None

        def streamed(
            words: jax.Array, /, *args: object, **kwargs: object
        ) -> tuple[PyTree, Plan, _Vectors]:
            clock = self._function.clock(words, args, kwargs)
            stream = Stream(size, clock, bar, key.caller)
            out, _ = self._collect_final(args, kwargs, stream=stream)
            reports = stream.take_outside()
            if isinstance(clock, ArgumentClock) and clock.counts_up:
                warn_counts_up(self._function.name)
            # The host needs the last step for the reports, and to go on counting where it does not know it. XLA needs a
            # second result: see _trace/README.md.
            is_unknown = stream.steps_taken is None or self._function.options.step is not None
            needs_step = reports or is_unknown
            if reports and (key.checked or stream.steps_taken != 0):
                # After the last chunk, whose step it needs. A hidden output may overtake the chunks.
                deliver(pack(reports, clock.last), advance=None, caller=key.caller)
                reports = []
            plan, arrays = pack(reports, clock.last if needs_step else None)
            return (
                out,
                dataclasses.replace(plan, steps_taken=stream.steps_taken),
                plan.vectors(arrays),
            )

        return self._add(key, self._function.jit(streamed, num_hidden=2, num_args=key.num_args))

    def _make_callback(self, key: ProgramKey) -> jax.stages.Wrapped:
        num_hidden = 0 if key.caller is None else 1

        def callback(*args: object, **kwargs: object) -> PyTree:
            out, reports = self._function.collect(args, kwargs, final=False)
            step = self._function.step_of(args, kwargs)
            deliver(pack(reports, step), advance=key.advance, caller=key.caller)
            return (out, jnp.zeros((), bool)) if num_hidden else out

        return self._add(key, self._function.jit(callback, num_hidden=num_hidden))

    def _add(self, key: ProgramKey, program: jax.stages.Wrapped) -> jax.stages.Wrapped:
        self._programs[key] = program
        return program

    # ------------------------------------------------------------------------------- tracing

    def _collect_variant(
        self, key: ProgramKey, args: Args, kwargs: Kwargs
    ) -> tuple[PyTree, list[Harvested]]:
        """Trace the function for a program without the reports that are not due.

        Raises:
            OtherProgram: the trace found cadences for which the call needs another program.
        """
        collected = self._collect_final(args, kwargs, not_due=key.not_due)
        unforeseen = self.cadences.all - key.not_due
        if unforeseen and (key.not_due or len(self.cadences.all) > 1):
            raise OtherProgram
        return collected

    def _collect_final(
        self,
        args: Args,
        kwargs: Kwargs,
        *,
        not_due: frozenset[int] = ALL_DUE,
        step: jax.Array | WideInt | None = None,
        stream: Stream | None = None,
    ) -> tuple[PyTree, list[Harvested]]:
        """Trace the function in an outermost program, which is not differentiated, and note its cadences."""
        out, reports = self._function.collect(
            args, kwargs, final=True, not_due=not_due, step=step, stream=stream
        )
        # A new object, as a call on another thread may be reading the old one.
        self.cadences = self.cadences.including({r.spec.every for r in reports if r.spec.every > 1})
        return out, reports
