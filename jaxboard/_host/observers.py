"""Who is told of the calls of instrumented functions: profilers and telemetry.

Observers run on the thread that calls, around the dispatch. One that raises is taken out and its fault
logged: what watches a program must not stop it.
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, Protocol

from jaxboard._log import describe, logger


@dataclasses.dataclass(slots=True, eq=False)  # frozen would cost a microsecond a call
class Call:
    """One call of an instrumented function from plain Python.

    Attributes:
        function: the instrumented function.
        name: what it is called in traces and tables.
        step: the step that the call belongs to; None while no run is open.
        advance: whether the call takes a step.
        args: its positional arguments. After the call those that were donated are deleted.
        kwargs: its keyword arguments.
    """

    function: Any
    name: str
    step: int | None
    advance: bool
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Observer(Protocol):
    """What wants to know of calls."""

    def begin(self, call: Call) -> None:
        """The call is about to be dispatched."""
        ...

    def end(self, call: Call, result: Any) -> None:
        """The call was dispatched: its result, device arrays that may not be computed yet."""
        ...


class _Observers:
    __slots__ = ("all", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.all: tuple[Observer, ...] = ()


_observers = _Observers()


def registered() -> tuple[Observer, ...]:
    """Those that are told now."""
    return _observers.all


def add(observer: Observer) -> None:
    """From now on ``observer`` is told of every call."""
    with _observers.lock:
        _observers.all = (*_observers.all, observer)


def remove(observer: Observer) -> None:
    """It is told no longer. Does nothing if it was not."""
    with _observers.lock:
        _observers.all = tuple(other for other in _observers.all if other is not observer)


def notify_begin(observers: tuple[Observer, ...], call: Call) -> None:
    """Tells observers, in the order they were added, that a call begins."""
    for observer in observers:
        try:
            observer.begin(call)
        except Exception as fault:
            _take_out(observer, fault)


def notify_end(observers: tuple[Observer, ...], call: Call, result: Any) -> None:
    """Tells observers, the last one first, that a call was dispatched."""
    for observer in reversed(observers):
        try:
            observer.end(call, result)
        except Exception as fault:
            _take_out(observer, fault)


def _take_out(observer: Observer, fault: Exception) -> None:
    remove(observer)
    logger.error(
        "jaxboard: %s failed and is off from here on: %s. Training goes on.",
        type(observer).__name__,
        describe(fault),
        exc_info=fault,
    )
