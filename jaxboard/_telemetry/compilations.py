"""The programs that JAX compiles during the calls of instrumented functions.

JAX reports the duration of each phase of a compilation through ``jax.monitoring``, on the thread that
compiles. Each compilation is numbered, so that those of a call are the ones after the events before it.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from typing import Any

from jaxboard._host.observers import Call, registry
from jaxboard._telemetry.jax_listener import JaxListener

_TRACE = "/jax/core/compile/jaxpr_trace_duration"
_LOWER = "/jax/core/compile/jaxpr_to_mlir_module_duration"
_COMPILE = "/jax/core/compile/backend_compile_duration"
_CACHE_HIT = "/jax/compilation_cache/cache_hits"

_MAX_KEPT = 4096
"""Compilations of a thread that are kept until a call takes them. Those outside of calls are never taken."""


@dataclasses.dataclass(frozen=True, slots=True)
class Compilation:
    """One compiled program.

    Attributes:
        name: the name of the function it was made from.
        trace: seconds of tracing; 0 if JAX had the jaxpr already.
        lower: seconds from the jaxpr to MLIR.
        backend: seconds in XLA, or of reading the persistent cache.
        cached: whether the program came from the persistent compilation cache.
    """

    name: str
    trace: float
    lower: float
    backend: float
    cached: bool

    @property
    def seconds(self) -> float:
        """The sum of all phases."""
        return self.trace + self.lower + self.backend


class _ThreadState(threading.local):
    def __init__(self) -> None:
        self.compiled: collections.deque[tuple[int, Compilation]] = collections.deque(
            maxlen=_MAX_KEPT
        )
        self.trace_seconds: dict[str, float] = {}
        self.lower_seconds = 0.0
        self.cache_hit = False


class CompilationListener(JaxListener):
    """A listener that collects the programs compiled in each call.

    Example:
        >>> import jax
        >>> listener = CompilationListener()
        >>> listener.start()
        >>> since = registry.events
        >>> y = jax.jit(lambda x: x)(1.0)
        >>> [compilation.name for compilation in listener.take(since)]
        ['<lambda>']
        >>> listener.stop()
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = _ThreadState()

    def take(self, since: int) -> list[Compilation]:
        """Return what this thread compiled after event number ``since``, without what was taken before."""
        compiled = self._thread.compiled
        taken: list[Compilation] = []
        while compiled and compiled[-1][0] > since:
            taken.append(compiled.pop()[1])
        return taken[::-1]

    def on_event(self, event: str) -> None:
        """See :class:`JaxListener`."""
        if event == _CACHE_HIT:
            self._thread.cache_hit = True

    def on_duration(self, event: str, seconds: float, labels: dict[str, Any]) -> None:
        """See :class:`JaxListener`."""
        if event not in (_TRACE, _LOWER, _COMPILE):
            return
        thread = self._thread
        cache_hit = thread.cache_hit
        if event == _COMPILE:
            thread.cache_hit = False
        name = str(labels.get("fun_name", "?"))
        if event == _TRACE:
            # Inner functions are traced first; the last one of this name is the program.
            thread.trace_seconds[name] = seconds
            return
        if event == _LOWER:
            thread.lower_seconds = seconds
            return
        name = name.removeprefix("jit(").removesuffix(")") if name.startswith("jit(") else name
        trace = thread.trace_seconds.get(name, 0.0)
        compilation = Compilation(name, trace, thread.lower_seconds, seconds, cache_hit)
        thread.compiled.append((registry.note_compilation(), compilation))
        thread.trace_seconds.clear()
        thread.lower_seconds = 0.0


def of_function(call: Call, compilations: list[Compilation]) -> list[Compilation]:
    """Return the programs of the called function itself.

    A call of a jitted function may compile eager operations too. A plain function has no program of its
    own, so all of them count.
    """
    function = call.function
    if function.jit_options is None:
        return compilations
    return [compilation for compilation in compilations if compilation.name == function.__name__]
