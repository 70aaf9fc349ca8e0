"""The function that ``instrument`` returns."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax

from jaxboard import _compat
from jaxboard._compat import at_top_level, jit_is_usual, trace_is_on
from jaxboard._errors import UsageError
from jaxboard._host import observers
from jaxboard._host.active_channel import active, discarding
from jaxboard._host.channel import Channel
from jaxboard._host.observers import registry
from jaxboard._process.rank import rank
from jaxboard._trace import context, tag_prefix
from jaxboard._trace.advice import warn_bare, warn_no_run, warn_not_jitted, warn_not_streamed
from jaxboard._trace.deliveries.bare import Bare
from jaxboard._trace.deliveries.choose import choose_deliveries
from jaxboard._trace.deliveries.delivery import Delivery, Executed
from jaxboard._trace.deliveries.device_step import DeviceStep
from jaxboard._trace.deliveries.eager import Eager, step_is_taken
from jaxboard._trace.deliveries.exact import ExactResults
from jaxboard._trace.deliveries.hidden_output import HiddenOutput
from jaxboard._trace.failures import ProgramFailed, is_users_error
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._types import PyTree

if TYPE_CHECKING:
    # Imported only when a function is instrumented: all rules come with it.
    from jaxboard._trace.programs import Args, Kwargs, Programs

OriginalArguments: TypeAlias = Callable[
    [tuple[Any, ...], dict[str, Any]], dict[str, dict[str, object]]
]

_keys = itertools.count()

_AHEAD_OF_TIME = ("lower", "trace")
"""The methods of a jitted function that lead to a compiled one, which returns no hidden output."""

_CACHE = {"_cache_size": "cache_size", "clear_cache": "clear_caches"}
"""The methods of a jitted function about its compiled programs, and those of :class:`Programs`."""


class Instrumented:
    """The result of :func:`instrument`: it is called like the function and has its attributes.

    Args:
        fn: the user's function.
        options: the options that ``instrument`` was given.
        jit_options: the options that ``jax.jit`` was given; None if the function is not jitted.
        body: what to run in place of a function that is not jitted while a run is active: a copy whose reports
            leave as hidden outputs.
        original_arguments: returns the user's arguments from those of a call, if another library changes them;
            see :mod:`jaxboard._trace.adapters.original_arguments`.

    Attributes:
        original_arguments: see above.
    """

    __name__: str

    def __init__(
        self,
        fn: Callable[..., PyTree],
        options: InstrumentOptions,
        jit_options: dict[str, Any] | None,
        body: Callable[..., PyTree] | None = None,
        original_arguments: OriginalArguments | None = None,
    ):
        functools.update_wrapper(self, fn, updated=())
        self._fn: Any = fn
        self._key = next(_keys)
        self.original_arguments = original_arguments
        self._jit_options = jit_options
        self._body = body or fn
        self._name = options.name or getattr(self, "__name__", type(fn).__name__)
        self._programs = self._delivered = None
        if jit_options is not None:
            # Imported only when a function is instrumented: all rules come with it.
            from jaxboard._trace.programs import Programs
            from jaxboard._trace.traced_function import TracedFunction

            traced = functools.partial(TracedFunction, fn, self._name, jit_options, options)
            self._programs = self._delivered = Programs(traced())
            if options.exact:
                # Not those of calls in a trace, which have one program.
                self._delivered = Programs(traced(reports_only=True))
        self._inside: Instrumented | None = None
        self._choose(options)

    def _choose(self, options: InstrumentOptions) -> None:
        """Choose the deliveries."""
        self._options = options
        self._eager = Eager(self._body, self._name, options)
        self._bare = Bare(self._fn, self._name, options)
        self._usual = self._checked = self._eager
        if self._jit_options is None or self._delivered is None:
            return
        self._usual, self._checked = choose_deliveries(
            self._name, options, self._delivered, self._jit_options
        )
        if options.exact:
            self._usual, self._checked = (
                ExactResults(self._fn, self._name, options, each)
                for each in (self._usual, self._checked)
            )

    def _within_a_step(self) -> Instrumented:
        """Return this function for calls in a call of another instrumented function, which takes the step."""
        if self._inside is None:
            inside = copy.copy(self)
            inside._choose(dataclasses.replace(self._options, advance=False))  # noqa: SLF001
            self._inside = inside
        return self._inside

    def __call__(self, /, *args: object, **kwargs: object) -> PyTree:
        """Run the function, and deliver its reports. The first row that applies decides the program.

        ============================================  ==============================================
        when                                          program
        ============================================  ==============================================
        an instrumented function that is not jitted   the same without a step of its own
        makes the call
        JAX traces the caller                         see :meth:`_call_in_trace`
        in a block of ``silent()``                    the user's, without reports
        no run is active                              the user's, without reports
        not jitted, or ``jax.disable_jit``            none: the function runs eagerly
        ``stream=``                                   the one that streams its loops
        ``delivery="callback"``                       the one with a callback
        ``jax_debug_nans`` or ``jax_debug_infs``      the one with a callback
        ``step=`` returns a device array              a hidden output that holds the step
        ``exact=True``                                one of these for the reports, then the user's
        ``gate="cond"``                               a hidden output that computes what is due
        nothing is due                                a hidden output, without what is not due
        something is due, of one cadence              a hidden output, with everything
        something is due, of several                  a hidden output that computes what is due
        that program cannot be made                   the user's, with a callback for each report
        ============================================  ==============================================
        """
        if step_is_taken() and self._options.advance and self._options.stream is None:
            return self._within_a_step()(*args, **kwargs)
        if not at_top_level():
            return self._call_in_trace(args, kwargs)
        # Another task may have left its scope in JAX's context.
        if tag_prefix.usage.any and context.current().muted:
            return self._fn(*args, **kwargs)
        channel = active()
        if registry.of_every_call or trace_is_on():
            return self._call_observed(channel, args, kwargs)
        if channel is None:
            return self._call_without_run(args, kwargs)
        since = registry.events
        delivery = self._usual if jit_is_usual() else self._delivery()
        delivery, step = delivery.begin(channel, args, kwargs)
        try:
            executed = delivery.call(channel, step, args, kwargs)
        except ProgramFailed as failed:
            executed = self._call_bare(failed, delivery, channel, step, args, kwargs)
        except jax.errors.JaxRuntimeError as error:
            observers.notify_failure(self._new_call(step, args, kwargs, since), error)
            raise
        if registry.events != since or channel.settled.get(self._key) != since:
            call = self._new_call(step, args, kwargs, since)
            self._notify_of_compilation(channel, call, executed)
        return executed[0]

    def precompile(self, *args: object, **kwargs: object) -> None:
        """Compile all programs that calls with such arguments run, so that no step waits for the compiler.

        There are two if the function has reports with ``every=``: one for the steps on which any is due, and one for
        the others.

        Args:
            *args: arguments like those of the calls. They are neither computed with nor donated; arrays may
                be ``jax.ShapeDtypeStruct``s.
            **kwargs: likewise.

        Raises:
            UsageError: the function is not jitted.

        Example:
            >>> import jax, jaxboard as jb
            >>> @jb.instrument
            ... @jax.jit
            ... def step(x):
            ...     jb.histogram("x", x, every=100)
            ...     return 2 * x
            >>> step.precompile(jax.ShapeDtypeStruct((8,), "float32"))
        """
        delivery = self._checked if _compat.results_are_checked() else self._usual
        channel = active()
        if channel is not None:
            delivery = delivery.selecting(channel.selection)
        try:
            delivery.precompile(args, kwargs)
        except Exception as error:
            if delivery in (self._bare, self._eager) or is_users_error(error):
                raise
            reason = error.__cause__ if isinstance(error, ProgramFailed) else error
        else:
            return
        self._bare.precompile(args, kwargs)
        self._run_bare_from_now_on(reason)

    def _delivery(self) -> Delivery:
        """Return the delivery under the present settings of JAX."""
        if _compat.jit_is_usual():
            return self._usual
        return self._eager if _compat.jit_is_disabled() else self._checked

    def _call_bare(  # noqa: PLR0917 (the arguments of a call, and what led here)
        self,
        failed: ProgramFailed,
        delivery: Delivery,
        channel: Channel,
        step: int,
        args: Args,
        kwargs: Kwargs,
    ) -> Executed:
        """Run a call whose program cannot be made, and all later calls, without one."""
        if delivery.counts_on_arrival or self._options.step is not None:
            _, step = self._bare.begin(channel, args, kwargs)
        try:
            executed = self._bare.call(channel, step, args, kwargs)
        except jax.errors.JaxRuntimeError as error:
            observers.notify_failure(self._new_call(step, args, kwargs, registry.events), error)
            raise
        self._run_bare_from_now_on(failed.__cause__)
        return executed

    def _call_without_run(self, args: Args, kwargs: Kwargs) -> PyTree:
        """Run a call from plain Python whose reports go nowhere."""
        warn_no_run(self._name)
        usual = self._usual
        if (
            not isinstance(usual, HiddenOutput | DeviceStep)
            or not jit_is_usual()
            or rank().count == 1
        ):
            with context.silenced():
                return self._fn(*args, **kwargs)
        # Another process of the job may have a run. All have to execute the same program, or they wait for each other.
        delivery, step = usual.begin(discarding, args, kwargs)
        try:
            return delivery.call(discarding, step, args, kwargs)[0]
        except ProgramFailed as failed:
            self._run_bare_from_now_on(failed.__cause__)
            return self._call_without_run(args, kwargs)

    def _call_observed(self, channel: Channel | None, args: Args, kwargs: Kwargs) -> PyTree:
        """Run a call from plain Python that is observed or recorded in a profile."""
        since = registry.events
        delivery, step = self._eager, None
        if channel is not None:
            delivery, step = self._delivery().begin(channel, args, kwargs)
        call = self._new_call(step, args, kwargs, since)
        registered = registry.of_every_call
        observers.notify_begin(registered, call)
        executed: Executed = None, None, (), 0.0
        try:
            with self._annotation(step):
                if channel is None or step is None:
                    executed = self._call_without_run(args, kwargs), None, (), 0.0
                else:
                    executed = delivery.call(channel, step, args, kwargs)
        except ProgramFailed as failed:
            if channel is None or step is None:
                raise
            executed = self._call_bare(failed, delivery, channel, step, args, kwargs)
        except jax.errors.JaxRuntimeError as error:
            observers.notify_failure(call, error)
            raise
        finally:
            if channel is not None:
                self._notify_of_compilation(channel, call, executed)
            observers.notify_end(registered, call, executed[0])
        return executed[0]

    def _annotation(self, step: int | None) -> contextlib.AbstractContextManager[object]:
        """Return the annotation of the step in a profile, if one is being recorded."""
        if step is None or not _compat.trace_is_on():
            return contextlib.nullcontext()
        if self._options.advance:
            return jax.profiler.StepTraceAnnotation(self._name, step_num=step)
        return jax.profiler.TraceAnnotation(self._name)

    def _new_call(self, step: int | None, args: Args, kwargs: Kwargs, since: int) -> observers.Call:
        call = observers.Call(self, self._name, step, self._options.advance, args, kwargs)
        call.since = since
        return call

    def _notify_of_compilation(
        self, channel: Channel, call: observers.Call, executed: Executed
    ) -> None:
        """Notify observers of compilations of a call that may have compiled, or is the first in its run."""
        channel.settled[self._key] = call.since
        out, call.program, call.leading, call.dispatch_seconds = executed
        observers.notify_end(registry.of_compilations, call, out)

    def _run_bare_from_now_on(self, reason: BaseException | None) -> None:
        """Warn that the program cannot be made, and run the function without it."""
        self._usual = self._checked = self._bare
        warn_bare(self._name, reason)

    def _call_in_trace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PyTree:
        """Run a call while JAX traces the caller.

        The reports stay in the function if an instrumented function around it collects them, if they are
        silenced, or under ``jax.disable_jit``. Otherwise a jitted function's frame leaves by one callback.
        """
        surrounding = context.current()
        if surrounding.harvested or surrounding.silent or _compat.jit_is_disabled():
            return self._eager.run(args, kwargs)
        if self._options.delivery == "output":
            raise UsageError(
                f"{self._name}: instrument(delivery='output') was called while JAX traces its caller, and only "
                "the outermost program can have the frame as an output. Put @jaxboard.instrument above the "
                "outermost @jax.jit, or use delivery='auto'."
            )
        if self._programs is not None:
            if self._options.stream is not None:
                warn_not_streamed(self._name)
            return self._call_program_in_trace(self._programs, args, kwargs)
        if self._options.advance:
            warn_not_jitted(self._name)
        return self._eager.run(args, kwargs)

    def _call_program_in_trace(
        self, programs: Programs, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> PyTree:
        """Run a jitted function while JAX traces the caller, with its program if that can be made."""
        if self._usual is not self._bare:
            try:
                return programs.callback(advance=self._options.advance)(*args, **kwargs)
            except ProgramFailed as failed:
                reason = failed.__cause__
            self._run_bare_from_now_on(reason)
        # An empty frame counts the step.
        programs.deliver_empty_frame(args, kwargs, advance=self._options.advance)
        return self._eager.run(args, kwargs)

    @property
    def jit_options(self) -> dict[str, Any] | None:
        """The options that ``jax.jit`` was given; None if the function is not jitted."""
        return self._jit_options

    def __copy__(self) -> Instrumented:
        """Return another function with the same programs."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__, _key=next(_keys))
        return copied

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the function without its programs, as JAX does with a jitted function."""
        options = self._options, self._jit_options
        if self._jit_options is None:
            return Instrumented, (self._fn, *options, self._body)
        return _instrumented_again, (self._fn.__wrapped__, *options, self.original_arguments)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __getattr__(self, name: str) -> Any:
        if name == "_fn":  # not set yet: while being copied or unpickled
            raise AttributeError(name)
        if name in _AHEAD_OF_TIME and self._programs is not None:
            return functools.partial(self._ahead_of_time, self._programs, name)
        if name in _CACHE and self._programs is not None:
            return getattr(self._programs, _CACHE[name])
        return getattr(self._fn, name)

    def _ahead_of_time(
        self, programs: Programs, method: str, /, *args: object, **kwargs: object
    ) -> Any:
        """Call ``lower`` or ``trace`` of the program whose frame leaves by callback."""
        if context.current().silent:
            return getattr(self._fn, method)(*args, **kwargs)
        if self._usual is not self._bare:
            try:
                program = programs.callback(advance=self._options.advance)
                return getattr(program, method)(*args, **kwargs)
            except ProgramFailed as failed:
                reason = failed.__cause__
            self._run_bare_from_now_on(reason)
        return self._bare.ahead_of_time(method)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<jaxboard.instrument of {self._fn!r}>"


def _instrumented_again(
    function: Callable[..., PyTree],
    options: InstrumentOptions,
    jit_options: dict[str, Any],
    original_arguments: OriginalArguments | None,
) -> Instrumented:
    """Return a function jitted and instrumented: the copies that JAX makes of jitted functions have no name or signature."""
    jitted = jax.jit(function, **jit_options)
    return Instrumented(jitted, options, jit_options, original_arguments=original_arguments)
