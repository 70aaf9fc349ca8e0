"""The deliveries: the ways in which the reports of a call reach the host.

A jitted function has the delivery that :func:`make_deliveries` chooses when it is instrumented. A plain
function, and every function under ``jax.disable_jit``, runs eagerly.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, SupportsIndex, TypeAlias, cast

import jax
import numpy as np

from jaxboard import _compat
from jaxboard._errors import UsageError
from jaxboard._frame import Frame, Packed, Plan
from jaxboard._host import progress
from jaxboard._host.channel import Channel
from jaxboard._host.observers import Call
from jaxboard._trace import context
from jaxboard._trace.advice import warn_no_loop
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._trace.windows import (
    MissingAccumulators,
    accumulator_sharding,
    empty_accumulators,
)
from jaxboard._types import Array, PyTree

if TYPE_CHECKING:
    from jaxboard._trace.programs import Programs

Args: TypeAlias = tuple[Any, ...]
Kwargs: TypeAlias = dict[str, Any]

_NONE = frozenset[int]()
_EMPTY_FRAME = Packed(Plan(()), {})
_NEEDS_VALUE = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)
"""The errors of Python code that needs the value of an array while JAX traces."""


class Delivery:
    """One way to run the calls of a function and to deliver their reports.

    Args:
        name: the function's name in messages.
        options: the options that ``instrument`` was given.
    """

    def __init__(self, name: str, options: InstrumentOptions):
        self._name = name
        self._advance = options.advance

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the call's delivery, this one unless the arguments decide, and the call's step."""
        return self, channel.begin(self._advance)

    def call(self, channel: Channel, step: int, call: Call) -> PyTree:
        """Run the function and return its results.

        Args:
            channel: where the reports go.
            step: the step of the call.
            call: the call. A hidden output fills in the fields that describe its program.
        """
        raise NotImplementedError

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the programs that calls with such arguments run."""
        raise NotImplementedError

    def _put(self, channel: Channel, packed: Packed, step: int | None) -> None:
        # An evaluation step may get more values from later calls.
        channel.put(Frame(packed.plan, packed.arrays, step, time.time(), open=not self._advance))


class Eager(Delivery):
    """The function runs as it is, and each of its reports goes to the run by itself."""

    def __init__(self, fn: Callable[..., PyTree], name: str, options: InstrumentOptions):
        super().__init__(name, options)
        self._fn = fn
        self._step = options.step
        self._every = options.every
        self._seed_runs = options.seed_runs

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery and the step, which ``step=`` returns if it was passed."""
        if self._step is None:
            return self, channel.begin(self._advance)
        step = _as_int(self._name, self._step(*args, **kwargs))
        return self, channel.begin(self._advance, step)

    def call(self, channel: Channel, step: int, call: Call) -> PyTree:
        """Run the function."""
        return self.run(call.args, call.kwargs)

    def run(self, args: Args, kwargs: Kwargs) -> PyTree:
        """Run the function with its options, within the program or the loop around it."""
        runs = self._seed_runs or context.current().runs
        with context.changed(every=self._every, runs=runs):
            return self._fn(*args, **kwargs)

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Raise: a plain function has no programs."""
        raise UsageError(f"{self._name}.precompile(): a plain function has nothing to compile.")


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
        while True:
            cadences = self._programs.cadences
            not_due = frozenset([n for n in cadences if step % n]) if cadences else _NONE
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
            except ValueError:
                sharding = self._sharding(args, kwargs)
                channel.put_window(accumulators, last_step)
                if accumulators is None or sharding in (None, _sharding_of(accumulators)):
                    raise
                # The arguments are on other devices than the accumulators.
                self.empty = jax.device_put(self.empty, sharding)
                continue
            except BaseException:
                channel.put_window(accumulators, last_step)
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
        """Compile one program for each combination of what is due."""
        not_due = _NONE
        compiled = set[frozenset[int]]()
        while True:
            try:
                program, leading = self._program(not_due, 0, self.empty, len(args))
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

    def _program(
        self, not_due: frozenset[int], step: int, accumulators: Packed | None, num_args: int
    ) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
        """Return the program for a call, and the arguments that it takes before those of the call."""
        if accumulators is None:
            return self._programs.plain(not_due), ()
        return self._programs.windowed(not_due, num_args), (accumulators,)

    def _combinations(self) -> list[frozenset[int]]:
        return self._programs.due_combinations()

    def _frame(self, packed: Packed, not_due: frozenset[int]) -> Packed:
        """Return the frame to put."""
        return packed

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
        self, not_due: frozenset[int], step: int, accumulators: Packed | None, num_args: int
    ) -> tuple[jax.stages.Wrapped, tuple[PyTree, ...]]:
        """Return the program, and the step and the accumulators."""
        return self._programs.gated(num_args), ((_on_device(step), accumulators),)

    def _combinations(self) -> list[frozenset[int]]:
        return []

    def _frame(self, packed: Packed, not_due: frozenset[int]) -> Packed:
        """Return the frame, or an empty one if no report in it is due."""
        nothing_due = len(not_due) == len(self._programs.cadences)
        return _EMPTY_FRAME if nothing_due and _is_sampled(packed.plan) else packed


class DeviceStep(Delivery):
    """The frame is a hidden output that holds the step, as ``step=`` returns a device array.

    Every report leaves the device, and the host selects what is due and merges the windows. A call whose
    ``step=`` returns an integer has the delivery of a step that the host knows.
    """

    def __init__(
        self,
        name: str,
        options: InstrumentOptions,
        programs: Programs,
        host_step: HiddenOutput,
        step: Callable[..., SupportsIndex | Array],
    ):
        super().__init__(name, options)
        self._programs = programs
        self._host_step = host_step
        self._step = step

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery that the result of ``step=`` decides, and the step or the run's count."""
        step = self._step(*args, **kwargs)
        if isinstance(step, jax.Array):
            return self, channel.begin(self._advance)
        return self._host_step, channel.begin(self._advance, _as_int(self._name, step))

    def call(self, channel: Channel, step: int, call: Call) -> PyTree:
        """Run the program and put the frame."""
        out, packed = self._programs.device_step()(*call.args, **call.kwargs)
        if packed.arrays:
            self._put(channel, packed, None)
        return out

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the program for what ``step=`` returns for such arguments."""
        if self._returns_array(args, kwargs):
            self._programs.device_step().lower(*args, **kwargs).compile()
        else:
            self._host_step.precompile(args, kwargs)

    def _returns_array(self, args: Args, kwargs: Kwargs) -> bool:
        """Return whether ``step=`` returns a device array, without computing it."""
        leaves, tree = jax.tree.flatten((args, kwargs))
        arrays = {
            i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | jax.ShapeDtypeStruct)
        }
        found = []

        def step(arrays: dict[int, Array]) -> None:
            args, kwargs = tree.unflatten([arrays.get(i, x) for i, x in enumerate(leaves)])
            found.append(isinstance(self._step(*args, **kwargs), jax.Array))

        try:
            jax.eval_shape(step, arrays)
        except _NEEDS_VALUE:
            return False  # it makes an integer of an array
        return found[0]


class Callback(Delivery):
    """The frame leaves by one callback while the program runs, which also counts the step.

    It is the delivery for ``delivery="callback"``, and of hidden outputs while JAX checks results for NaN or
    infinity, as it would check hidden outputs too.
    """

    def __init__(self, name: str, options: InstrumentOptions, programs: Programs):
        super().__init__(name, options)
        self._programs = programs

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery and the next step of the run, without taking it."""
        return self, channel.step

    def call(self, channel: Channel, step: int, call: Call) -> PyTree:
        """Run the program."""
        return self._programs.callback()(*call.args, **call.kwargs)

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the program."""
        self._programs.callback().lower(*args, **kwargs).compile()


class StreamedLoops(Delivery):
    """Each iteration of the function's loops is a step, and leaves in a chunk while the program runs."""

    def __init__(self, name: str, options: InstrumentOptions, programs: Programs):
        super().__init__(name, options)
        self._programs = programs
        self._progress = options.progress

    def begin(self, channel: Channel, args: Args, kwargs: Kwargs) -> tuple[Delivery, int]:
        """Return the delivery and the step of the first iteration, without taking it."""
        return self, channel.step

    def call(self, channel: Channel, step: int, call: Call) -> PyTree:
        """Run the program, and advance the run to the step of the last iteration."""
        if self._progress:
            progress.close(self._name)
        out, packed = self._program(len(call.args))(_on_device(step), *call.args, **call.kwargs)
        steps_taken, last_step = packed.plan.steps_taken, packed.plan.step
        if steps_taken is not None:
            channel.advance_to(step + max(steps_taken, 1) - 1)
        elif last_step is not None:
            # A while_loop: the next call needs its first step, so this one waits for the device.
            with jax.transfer_guard_device_to_host("allow"):
                arrays = {name: np.asarray(array) for name, array in packed.arrays.items()}
            channel.advance_to(int(last_step.read(arrays)))
        if steps_taken == 0:
            warn_no_loop(self._name, stacklevel=4)
        if packed.arrays:
            self._put(channel, packed, None if last_step else step)
        return out

    def precompile(self, args: Args, kwargs: Kwargs) -> None:
        """Compile the program."""
        self._program(len(args)).lower(_on_device(0), *args, **kwargs).compile()

    def _program(self, num_args: int) -> jax.stages.Wrapped:
        return self._programs.streamed(num_args, checked=_compat.results_are_checked())


class Deliveries(NamedTuple):
    """The deliveries of a function under jit.

    Attributes:
        usual: the one that its options choose.
        checked: the one while JAX checks results for NaN or infinity.
    """

    usual: Delivery
    checked: Delivery


def make_deliveries(
    name: str, options: InstrumentOptions, programs: Programs, jit_options: dict[str, Any]
) -> Deliveries:
    """Return the deliveries of a jitted function.

    Args:
        name: the function's name in messages.
        options: the options that ``instrument`` was given.
        programs: the function's programs.
        jit_options: the options that ``jax.jit`` was given.
    """
    if options.stream is not None:
        streamed = StreamedLoops(name, options, programs)
        return Deliveries(streamed, streamed)
    callback = Callback(name, options, programs)
    if options.delivery == "callback":
        return Deliveries(callback, callback)
    kind = GatedOutput if options.gate == "cond" else HiddenOutput
    output = kind(name, options, programs, jit_options)
    if options.step is None:
        return Deliveries(output, callback)
    return Deliveries(DeviceStep(name, options, programs, output, options.step), callback)


def _as_int(name: str, step: object) -> int:
    try:
        return operator.index(cast(SupportsIndex, step))
    except TypeError:
        raise UsageError(
            f"{name}: instrument(step=...) returned {step!r}, expected an integer."
        ) from None


def _on_device(step: int) -> jax.Array:
    """Return a step as an argument of a program.

    The explicit device_put is permitted by ``jax.transfer_guard("disallow")``, which users may set.
    """
    return jax.device_put(np.int32(step))


def _skips_due(cadences: frozenset[int], last_step: int, step: int) -> bool:
    """Return whether a window that holds ``last_step`` ends before ``step`` and was never due."""
    return any(last_step % n and -(-last_step // n) != -(-step // n) for n in cadences)


def _is_sampled(plan: Plan) -> bool:
    """Return whether every report of a frame is left out on a step on which no cadence is due."""
    return all(entry.spec.every > 1 and entry.step is None for entry in plan.entries)


def _sharding_of(packed: Packed) -> jax.sharding.Sharding:
    return next(iter(packed.arrays.values())).sharding
