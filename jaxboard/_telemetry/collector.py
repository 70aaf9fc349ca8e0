"""The hooks through which a monitor notifies the parts of a run's telemetry."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from jaxboard._host.observers import Call
from jaxboard._telemetry.compilations import Compilation
from jaxboard._telemetry.signature import Change
from jaxboard._types import PyTree


@dataclasses.dataclass(frozen=True, slots=True)
class CompilationEvent:
    """A call that compiled programs, or the first call of its function.

    Attributes:
        call: the call.
        step: its step.
        compilations: every program that JAX compiled during the call.
        changes: how the arguments changed, if JAX compiled the function again.
        concerns_function: whether the call compiled a program of the function itself, or is its first
            call in this run. Otherwise the call compiled only eager operations.
        is_new_signature: whether no known call had such arguments.
    """

    call: Call
    step: int
    compilations: list[Compilation]
    changes: list[Change]
    concerns_function: bool
    is_new_signature: bool


class Collector:
    """One part of the telemetry. Subclasses override the hooks that they need.

    The hooks of calls and compilations run on the thread that calls the instrumented function.
    """

    def begin_call(self, call: Call) -> None:
        """Handle a call that is about to be dispatched."""

    def end_call(self, call: Call, *, compiled: bool) -> None:
        """Handle a call that was dispatched, and whether it compiled something."""

    def end_with_result(self, call: Call, result: PyTree) -> None:
        """Handle the result of a call, after all collectors have handled its end. It may not be computed yet."""

    def record_compilation(self, event: CompilationEvent) -> None:
        """Handle a compilation of the active run."""

    def end_window(self, function: str, step: int, steps_per_second: float) -> None:
        """Handle the end of a window of step times of one function."""

    def sample(self, step: int) -> None:
        """Write measurements that do not belong to one function."""

    def poll(self) -> None:
        """Do what is due every half second. Called on the flusher's thread; it must not raise."""

    def totals(self) -> Mapping[str, float]:
        """Return what a run that continues this one adds its own measurements to, by name."""
        return {}

    def finish(self) -> None:
        """Write what is left when the run closes."""
