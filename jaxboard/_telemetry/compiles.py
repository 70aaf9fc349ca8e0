"""What JAX compiles during the calls of instrumented functions.

JAX tells, through ``jax.monitoring`` and on the thread that compiles, how long each phase of a
compilation took. Whose it was is known by what that thread is calling.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from typing import Any

import jax

_TRACE = "/jax/core/compile/jaxpr_trace_duration"
_LOWER = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILE = "/jax/core/compile/backend_compile_duration"
_CACHE_HIT = "/jax/compilation_cache/cache_hits"


@dataclasses.dataclass(frozen=True, slots=True)
class Compilation:
    """One program that was compiled.

    Attributes:
        name: the function it was made of.
        trace: seconds that tracing took; 0 where JAX had the jaxpr already.
        lower: seconds from the jaxpr to MLIR.
        backend: seconds that XLA took, or reading from the persistent cache.
        cached: whether it came from the persistent compilation cache.
    """

    name: str
    trace: float
    lower: float
    backend: float
    cached: bool

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.trace + self.lower + self.backend


class _Thread(threading.local):
    def __init__(self) -> None:
        self.calls: list[list[Compilation]] = []
        self.traced: dict[str, float] = {}
        self.lowered = 0.0
        self.hit = False


class Compiles:
    """Collects the programs of each call.

    Example:
        >>> compiles = Compiles()
        >>> compiles.start()
        >>> compiles.begin()
        >>> y = jax.jit(lambda x: x)(1.0)
        >>> [program.name for program in compiles.end()]
        ['<lambda>']
        >>> compiles.stop()
    """

    def __init__(self) -> None:
        self._thread = _Thread()

    def start(self) -> None:
        """Begins to listen."""
        jax.monitoring.register_event_listener(self._event)
        jax.monitoring.register_event_duration_secs_listener(self._duration)

    def stop(self) -> None:
        """Listens no longer."""
        # Somebody may have called jax.monitoring.clear_event_listeners().
        with contextlib.suppress(Exception):
            jax.monitoring.unregister_event_listener(self._event)
        with contextlib.suppress(Exception):
            jax.monitoring.unregister_event_duration_listener(self._duration)

    def begin(self) -> None:
        """A call begins on this thread."""
        self._thread.calls.append([])

    def end(self) -> list[Compilation]:
        """A call ended on this thread; what was compiled in it, and not in calls within it."""
        return self._thread.calls.pop() if self._thread.calls else []

    # A listener that raises would raise from the user's call.

    def _event(self, event: str, **kwargs: Any) -> None:
        if event == _CACHE_HIT:
            self._thread.hit = True

    def _duration(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        if event not in (_TRACE, _LOWER, _COMPILE):
            return
        thread = self._thread
        hit = thread.hit
        if event == _COMPILE:
            thread.hit = False
        if not thread.calls:
            return
        name = str(kwargs.get("fun_name", "?"))
        if event == _TRACE:
            # Functions traced within come before; the last of this name is the program.
            thread.traced[name] = duration_secs
            return
        if event == _LOWER:
            thread.lowered = duration_secs
            return
        name = name.removeprefix("jit(").removesuffix(")") if name.startswith("jit(") else name
        trace = thread.traced.get(name, 0.0)
        thread.calls[-1].append(Compilation(name, trace, thread.lowered, duration_secs, hit))
        thread.traced.clear()
        thread.lowered = 0.0


def own(function: Any, programs: list[Compilation]) -> list[Compilation]:
    """Those of an instrumented function itself: on a jitted one's way, eager operations compile too."""
    if function.jit_options is None:
        return programs
    return [program for program in programs if program.name == function.__name__]
