"""The observers of calls of instrumented functions: profilers and telemetry.

Observers run on the calling thread, around the dispatch. An observer that raises is removed and its fault
logged: it must not stop the program that it watches.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Protocol

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

    The last three fields are filled in before observers are notified of the end of the call, if the call
    ran a program whose hidden output is the frame.

    Attributes:
        function: the instrumented function.
        name: its name in traces and tables.
        step: the step that the call belongs to; None if no run is active.
        advance: whether the call takes a step.
        args: its positional arguments. After the call, donated ones are deleted.
        kwargs: its keyword arguments.
        program: the jitted program that ran; None for a call without a hidden output.
        leading: the arguments that jaxboard passed to the program before those of the call.
        dispatch_seconds: the time that JAX took to dispatch the program.
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


class Observer(Protocol):
    """An object that is notified of calls."""

    def begin(self, call: Call) -> None:
        """Handle a call that is about to be dispatched."""
        ...

    def end(self, call: Call, result: PyTree) -> None:
        """Handle a call that was dispatched.

        Args:
            call: the call.
            result: what it returned: device arrays, possibly not computed yet. None if it raised.
        """
        ...


class _Registry:
    """The registered observers. The tuple is replaced, never changed, so reading it needs no lock."""

    __slots__ = ("lock", "observers")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.observers: tuple[Observer, ...] = ()


_registry = _Registry()


def registered() -> tuple[Observer, ...]:
    """Return the registered observers, in the order in which they were added."""
    return _registry.observers


def add(observer: Observer) -> None:
    """Register ``observer``: it is notified of every call that begins from now on."""
    with _registry.lock:
        _registry.observers = (*_registry.observers, observer)


def remove(observer: Observer) -> None:
    """Unregister ``observer``; a no-op if it is not registered."""
    with _registry.lock:
        _registry.observers = tuple(o for o in _registry.observers if o is not observer)


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


def _remove_failed(observer: Observer, fault: Exception) -> None:
    remove(observer)
    logger.error(
        "jaxboard: %s failed and is disabled: %s. Training continues.",
        type(observer).__name__,
        describe(fault),
        exc_info=fault,
    )
