"""Steps of a profile from calls of instrumented functions."""

from __future__ import annotations

from typing import Protocol

from jaxboard._host import observers
from jaxboard._types import PyTree


class StepReceiver(Protocol):
    """An object that is notified of steps."""

    def begin_step(self, number: int, owner: object) -> bool:
        """Begin a step and return whether it counts."""
        ...

    def end_step(self, owner: object, result: PyTree = None) -> None:
        """End the step of ``owner``."""
        ...


class CallSteps:
    """An observer that makes a step of each call that advances the step counter."""

    def __init__(self, receiver: StepReceiver) -> None:
        self._receiver = receiver
        self._next_number = 0

    def begin(self, call: observers.Call) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        if call.advance:
            number = self._next_number if call.step is None else call.step
            if self._receiver.begin_step(number, call):
                self._next_number = number + 1

    def end(self, call: observers.Call, result: PyTree) -> None:
        """See :class:`jaxboard._host.observers.Observer`."""
        self._receiver.end_step(call, result)
