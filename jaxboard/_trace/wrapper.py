"""The function that ``instrument`` returns: which program a call runs, and what becomes of its frame."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import operator
import time
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxboard import _compat
from jaxboard._errors import ReportError
from jaxboard._frame import Frame, Packed, Plan
from jaxboard._host import observers, progress
from jaxboard._host.channel import Channel, active
from jaxboard._trace import context
from jaxboard._trace.advice import warn_inside, warn_no_loop, warn_no_run, warn_no_stream
from jaxboard._trace.windows import Missing, common_place, nothing

if TYPE_CHECKING:
    from jaxboard._trace.programs import Programs

_AHEAD_OF_TIME = ("lower", "trace")
"""The methods of a jitted function that lead to a compiled one. That is JAX's, and knows of no hidden output."""
_NONE = frozenset[int]()
_NO_MARKER = contextlib.nullcontext()
_NO_FRAME = Packed(Plan(()), {})


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What :func:`instrument` was given."""

    every: int
    step: Callable[..., Any] | None
    advance: bool
    delivery: str
    gate: str
    stream: int | None
    progress: bool
    runs: bool
    name: str | None


class Instrumented:
    """What :func:`instrument` returns: called like the function, and has its attributes."""

    def __init__(self, fn: Any, options: Options, jit_options: dict[str, Any] | None):
        functools.update_wrapper(self, fn, updated=())
        self._fn = fn
        self._options = options
        self._jit_options = jit_options
        self._name = options.name or getattr(self, "__name__", type(fn).__name__)
        self._programs: Programs | None = None
        if jit_options is not None:
            # Not before a function is instrumented: all the rules come with it.
            from jaxboard._trace.programs import Programs

            self._programs = Programs(
                fn,
                self._name,
                jit_options,
                every=options.every,
                step=options.step,
                advance=options.advance,
                runs=options.runs,
            )
        # Of the latest call: the program, what it is given before the call's own arguments, and the
        # seconds that its dispatch took. For telemetry; None where there is no program of ours.
        self.ran: tuple[Any, tuple[Any, ...], float] | None = None
        # Accumulators that hold nothing, once the function was found to report windows.
        self._fresh: Packed | None = None

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        if not _compat.at_top_level():
            return self._traced(args, kwargs)
        channel = active()
        step, computed = (None, False) if channel is None else self._begin(channel, args, kwargs)
        watching = observers.registered()
        if not watching:
            return self._run(channel, step, computed, args, kwargs)
        call = observers.Call(self, self._name, step, self._options.advance, args, kwargs)
        observers.notify_begin(watching, call)
        out = None
        try:
            out = self._run(channel, step, computed, args, kwargs)
        finally:
            observers.notify_end(watching, call, out)
        return out

    def _begin(self, channel: Channel, args: Any, kwargs: Any) -> tuple[int, bool]:
        """The step of a call from plain Python, and whether the program has to say it, not the host."""
        by_callback = self._options.stream is not None or self._by_callback()
        jitted = self._programs is not None and not _compat.jit_is_disabled()
        if by_callback and jitted:
            return channel.step, False  # the callback counts it
        if self._options.step is None:
            return channel.begin(self._options.advance), False
        own = self._options.step(*args, **kwargs)
        if isinstance(own, jax.Array) and jitted:
            return channel.begin(self._options.advance), True
        try:
            own = operator.index(own)
        except TypeError:
            raise ReportError(
                f"{self._name}: instrument(step=...) returned {own!r}, expected an integer."
            ) from None
        return channel.begin(self._options.advance, own), False

    def _by_callback(self) -> bool:
        """Whether the frame leaves by callback: because the user said so, or since JAX looks into outputs."""
        return self._options.delivery == "callback" or _compat.results_are_checked()

    def precompile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles ahead all programs that calls with such arguments will need.

        That is one for each combination of cadences that are due. No step in the midst of the training waits
        for the compiler then.

        Args:
            *args: arguments like those of the calls; they are not computed with, nor donated. Arrays may be
                ``jax.ShapeDtypeStruct``s.
            **kwargs: likewise.

        Raises:
            ReportError: the function is a plain one, which has no programs.

        Example:
            >>> import jax, jaxboard as jb
            >>> @jb.instrument
            ... @jax.jit
            ... def step(x):
            ...     jb.histogram("x", x, every=100)
            ...     return 2 * x
            >>> step.precompile(jax.ShapeDtypeStruct((8,), "float32"))
        """
        programs = self._programs
        if programs is None:
            raise ReportError(
                f"{self._name}.precompile(): a plain function has nothing to compile."
            )
        if self._by_callback():
            programs.by_callback.lower(*args, **kwargs).compile()
            return
        muted = frozenset[int]()
        done = set[frozenset[int]]()
        while True:
            try:
                program, before = self._program(programs, muted, 0, self._fresh, len(args))
                lowered = program.lower(*before, *args, **kwargs)
            except Missing as missing:
                self._fresh = nothing(missing.like, self._place(args, kwargs))
                done.clear()
                continue
            lowered.compile()
            done.add(muted)
            # Only now are all cadences known.
            left = [each for each in programs.combinations() if each not in done]
            if self._options.gate == "cond" or not left:
                return
            muted = left[0]

    def _traced(self, args: Any, kwargs: Any) -> Any:
        """The call while JAX traces what is around it."""
        around = context.current()
        if not (around.harvested or around.silent or _compat.jit_is_disabled()):
            if self._options.delivery == "output":
                raise ReportError(
                    f"{self._name}: instrument(delivery='output') was called while JAX traces what is "
                    "around it, and only the outermost program can have the frame as an output. Put "
                    "@jaxboard.instrument above @jax.jit, or leave delivery='auto'."
                )
            if self._programs is not None:
                if self._options.stream is not None:
                    warn_no_stream(self._name)
                return self._programs.by_callback(*args, **kwargs)
            if self._options.advance:
                warn_inside(self._name)
        with self._around():
            return self._fn(*args, **kwargs)

    def _around(self) -> Any:
        """What surrounds the function where it runs as it is."""
        runs = self._options.runs or context.current().runs
        return context.override(every=self._options.every, runs=runs)

    def _run(
        self, channel: Channel | None, step: int | None, computed: bool, args: Any, kwargs: Any
    ) -> Any:
        """The call itself, from plain Python."""
        if channel is None or step is None:
            warn_no_run(self._name)
            with context.override(silent=True):
                return self._fn(*args, **kwargs)
        with self._marker(step):
            if self._programs is None or _compat.jit_is_disabled():
                with self._around():
                    return self._fn(*args, **kwargs)
            if self._options.stream is None and self._by_callback():
                return self._programs.by_callback(*args, **kwargs)
            if self._options.stream is not None:
                out, packed = self._stream(self._programs, channel, step, args, kwargs)
            elif computed:
                # All that it reports leaves the device, and the host makes the windows.
                out, packed = self._programs.computing(*args, **kwargs)
            else:
                out, packed = self._call(self._programs, channel, step, args, kwargs)
            if packed.arrays:
                known = None if packed.plan.step else step
                more = not self._options.advance
                channel.put(Frame(packed.plan, packed.arrays, known, time.time(), open=more))
            return out

    def _stream(
        self, programs: Programs, channel: Channel, first: int, args: Any, kwargs: Any
    ) -> tuple[Any, Packed]:
        """Runs a function whose loops are streamed, from step ``first``."""
        bar = self._name if self._options.progress else None
        if bar is not None:
            progress.close(bar)
        checked = _compat.results_are_checked()
        program = programs.streaming(self._options.stream or 1, bar, len(args), checked=checked)
        # Put there in so many words: the user may have forbidden transfers that nobody asked for.
        out, packed = program(jax.device_put(np.int32(first)), *args, **kwargs)
        taken, last = packed.plan.steps_taken, packed.plan.step
        if taken is not None:
            channel.advance_to(first + max(taken, 1) - 1)
        elif last is not None:
            # How many steps there were shows when they are over, and the next call has to know.
            with jax.transfer_guard_device_to_host("allow"):
                arrays = {name: np.asarray(array) for name, array in packed.arrays.items()}
            channel.advance_to(int(last.read(arrays)))
        if taken == 0:
            warn_no_loop(self._name)
        return out, packed

    def _marker(self, step: int) -> Any:
        """What a profile tells steps by."""
        if not _compat.trace_is_on():
            return _NO_MARKER
        if self._options.advance:
            return jax.profiler.StepTraceAnnotation(self._name, step_num=step)
        return jax.profiler.TraceAnnotation(self._name)

    def _call(
        self, programs: Programs, channel: Channel, step: int, args: Any, kwargs: Any
    ) -> tuple[Any, Packed]:
        """Runs the program for a step: the function's results, and the frame."""
        while True:
            cadences = programs.cadences
            muted = frozenset(n for n in cadences if step % n) if cadences else _NONE
            # Taken out while the program runs: a call on another thread meanwhile starts anew.
            carried, last = channel.windows.pop(self, (self._fresh, step))
            if last not in (step, step - 1) and _leaves_a_window(cadences, last, step):
                channel.put_window(carried, last)
                carried, last = self._fresh, step
            try:
                program, before = self._program(programs, muted, step, carried, len(args))
                began = time.perf_counter()
                out, packed, *after = program(*before, *args, **kwargs)
                self.ran = program, before, time.perf_counter() - began
            except Missing as missing:
                self._fresh = nothing(missing.like, self._place(args, kwargs))
                channel.put_window(carried, last)
            except ValueError:
                place = self._place(args, kwargs)
                channel.put_window(carried, last)
                if carried is None or place is None or place == _sharding(carried):
                    raise
                # The arguments lie elsewhere than the accumulators.
                self._fresh = jax.device_put(self._fresh, place)
            except BaseException:
                channel.put_window(carried, last)
                raise
            else:
                for accumulators in filter(None, after):
                    mine = accumulators, step
                    if channel.windows.setdefault(self, mine) is not mine:
                        channel.put_window(*mine)
                quiet = self._options.gate == "cond" and len(muted) == len(cadences)
                return out, _NO_FRAME if quiet and _is_sampled(packed.plan) else packed

    def _program(
        self,
        programs: Programs,
        muted: frozenset[int],
        step: int,
        carried: Packed | None,
        count: int,
    ) -> tuple[Any, tuple[Any, ...]]:
        """The program for a call of ``count`` positional arguments, and what it takes before those."""
        if self._options.gate == "cond":
            return programs.gated(count), ((jax.device_put(np.int32(step)), carried),)
        if carried is not None:
            return programs.carrying(muted, count), (carried,)
        return programs.plain(muted), ()

    def _place(self, args: Any, kwargs: Any) -> jax.sharding.Sharding | None:
        asked = [(self._jit_options or {}).get(name) for name in ("in_shardings", "out_shardings")]
        arrays = jax.tree.leaves((args, kwargs))
        # A shape (see precompile) is committed to the sharding that it has.
        given = [getattr(x, "sharding", None) for x in arrays if getattr(x, "committed", True)]
        return common_place([*jax.tree.leaves(asked), *given])

    @property
    def jit_options(self) -> dict[str, Any] | None:
        """What ``jax.jit`` was given; None of a function that is not jitted."""
        return self._jit_options

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "_fn":  # not there yet: while being copied or unpickled
            raise AttributeError(name)
        if name in _AHEAD_OF_TIME and self._programs is not None:
            return getattr(self._programs.by_callback, name)
        return getattr(self._fn, name)

    def __repr__(self) -> str:
        return f"<jaxboard.instrument of {self._fn!r}>"


def _leaves_a_window(cadences: set[int], last: int, step: int) -> bool:
    """Whether a window that ``last`` is in ends before ``step`` without having been due."""
    return any(last % every and -(-last // every) != -(-step // every) for every in cadences)


def _is_sampled(plan: Plan) -> bool:
    """Whether a frame holds nothing on a step on which no cadence is due."""
    return all(entry.spec.every > 1 and entry.step is None for entry in plan.entries)


def _sharding(packed: Packed) -> jax.sharding.Sharding:
    return next(iter(packed.arrays.values())).sharding
