"""The observers of calls of instrumented functions: profilers and telemetry.

Some observe every call. Others observe only the calls in which JAX compiled a program, and the first one of each
function in a run. A count of events, which is compared before and after each call, shows which calls those are, so that
all others cost nothing.

Observers run on the calling thread, around the dispatch. An observer that raises is removed and its fault
logged: it must not stop the program that it watches.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import jax

from jaxboard._log import describe, logger
from jaxboard._types import PyTree


class InstrumentedFunction(Protocol):
    """The part of an instrumented function that observers use. Its identity distinguishes functions."""

    __name__: str

    def __call__(self, /, *args: object, **kwargs: object) -> PyTree:
        """Run the function."""
        ...

    @property
    def jit_options(self) -> dict[str, Any] | None:
        """The options that ``jax.jit`` was given; None if the function is not jitted."""
        ...


@dataclasses.dataclass(slots=True, eq=False)  # frozen would cost a microsecond a call
class Call:
    """One call of an instrumented function from plain Python.

    The fields after ``kwargs`` are filled in before observers are notified of the end of the call. Those about the
    program have a value only if its hidden output is the frame.

    Attributes:
        function: the instrumented function.
        name: its name in traces and tables.
        step: the step that the call belongs to; None if no run is active.
        advance: whether the call takes a step.
        args: its positional arguments. After the call, donated ones are deleted.
        kwargs: its keyword arguments.
        program: the jitted program that ran; None for a call without a hidden output.
        leading: the arguments that jaxboard passed to the program before those of the call.
        dispatch_seconds: the time that JAX took to dispatch the program, if every call is observed.
        since: the number of events before the call; see :attr:`Registry.events`.
    """

    function: InstrumentedFunction
    name: str
    step: int | None
    advance: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    program: jax.stages.Wrapped | None = None
    leading: tuple[PyTree, ...] = ()
    dispatch_seconds: float = 0.0
    since: int = 0


class Observer(Protocol):
    """An object that is notified of calls."""

    def begin(self, call: Call) -> None:
        """Handle a call that is about to be dispatched. Only observers of every call are notified."""
        ...

    def end(self, call: Call, result: PyTree) -> None:
        """Handle a call that was dispatched.

        Args:
            call: the call.
            result: what it returned: device arrays, possibly not computed yet. None if it raised.
        """
        ...


TraceHandler: TypeAlias = Callable[[str, object], object]
"""A function that is called with the name of an instrumented function and its jaxpr, before that is compiled."""

FailureHandler: TypeAlias = Callable[[Call, Exception], object]
"""A function that is called with a call and what it raised."""


class Registry:
    """The registered observers. The tuples are replaced, never changed, so reading them needs no lock.

    Attributes:
        of_every_call: the observers of every call, in the order in which they were added.
        of_compilations: the observers of calls that compile, and of first calls.
        of_failures: the functions to call when the runtime fails in a call.
        of_traces: the functions to call when JAX has traced an instrumented function.
        events: how often something happened that the latter must know of: a compilation on any thread, or a
            registration.
    """

    __slots__ = ("_lock", "events", "of_compilations", "of_every_call", "of_failures", "of_traces")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.of_every_call: tuple[Observer, ...] = ()
        self.of_compilations: tuple[Observer, ...] = ()
        self.of_failures: tuple[FailureHandler, ...] = ()
        self.of_traces: tuple[TraceHandler, ...] = ()
        self.events = 0

    def note_compilation(self) -> int:
        """Count a compilation, on the thread that compiled. Return the number of events."""
        with self._lock:
            self.events += 1
            return self.events

    def add(self, observer: Observer, *, every_call: bool) -> None:
        """Register an observer of the calls that begin from now on."""
        with self._lock:
            self.events += 1
            if every_call:
                self.of_every_call = (*self.of_every_call, observer)
            else:
                self.of_compilations = (*self.of_compilations, observer)

    def add_failure_handler(self, handler: FailureHandler) -> None:
        """Register a function to call when the runtime fails in a call."""
        with self._lock:
            self.of_failures = (*self.of_failures, handler)

    def remove_failure_handler(self, handler: FailureHandler) -> None:
        """Unregister a function, if it is registered."""
        with self._lock:
            self.of_failures = tuple(h for h in self.of_failures if h != handler)

    def add_trace_handler(self, handler: TraceHandler) -> None:
        """Register a function to call when JAX has traced an instrumented function."""
        with self._lock:
            self.of_traces = (*self.of_traces, handler)

    def remove_trace_handler(self, handler: TraceHandler) -> None:
        """Unregister a function, if it is registered."""
        with self._lock:
            self.of_traces = tuple(h for h in self.of_traces if h != handler)

    def remove(self, observer: Observer) -> None:
        """Unregister an observer, if it is registered."""
        with self._lock:
            self.of_every_call = tuple(o for o in self.of_every_call if o is not observer)
            self.of_compilations = tuple(o for o in self.of_compilations if o is not observer)


registry = Registry()


def add(observer: Observer, *, every_call: bool = True) -> None:
    """Register ``observer``.

    Args:
        observer: it is notified of calls that begin from now on.
        every_call: whether it is notified of all of them, or only of the ends of those that compiled a program, and
            of a function's first call in a run. A call may be among these by mistake.
    """
    registry.add(observer, every_call=every_call)


def remove(observer: Observer) -> None:
    """Unregister ``observer``; a no-op if it is not registered."""
    registry.remove(observer)


def notify_begin(observers: tuple[Observer, ...], call: Call) -> None:
    """Notify observers, in the order in which they were added, that a call begins."""
    for observer in observers:
        try:
            observer.begin(call)
        except Exception as fault:
            _remove_failed(observer, fault)


def notify_end(observers: tuple[Observer, ...], call: Call, result: PyTree) -> None:
    """Notify observers, the last one first, that a call was dispatched."""
    for observer in reversed(observers):
        try:
            observer.end(call, result)
        except Exception as fault:
            _remove_failed(observer, fault)


def notify_failure(call: Call, error: Exception) -> None:
    """Call the handlers of failures."""
    for handler in registry.of_failures:
        try:
            handler(call, error)
        except Exception as fault:
            logger.error("jaxboard: the failure of a call is not reported: %s", describe(fault))


def notify_trace(name: str, jaxpr: object) -> None:
    """Call the handlers of traces, which only keep what they are given."""
    for handler in registry.of_traces:
        handler(name, jaxpr)


def _remove_failed(observer: Observer, fault: Exception) -> None:
    remove(observer)
    logger.error(
        "jaxboard: %s failed and is disabled: %s. Training continues.",
        type(observer).__name__,
        describe(fault),
        exc_info=fault,
    )
