"""Compile times as scalars, and a table of all compilations of a function."""

from __future__ import annotations

import dataclasses

from jaxboard._telemetry.collector import Collector, CompilationEvent
from jaxboard._telemetry.reporter import Reporter

_HEADER = ["step", "program", "trace (s)", "lowering (s)", "XLA (s)", "persistent cache", "changed"]

_MAX_ROWS = 100
"""Rows of a table; older ones are dropped."""


@dataclasses.dataclass(slots=True)
class _Total:
    seconds: float = 0.0
    count: int = 0
    cache_hits: int = 0
    rows: list[list[str]] = dataclasses.field(default_factory=list)


class CompileTable(Collector):
    """The compile times of each instrumented function.

    Scalars ``compile/<function>/...`` at the step that compiled: ``trace_seconds``,
    ``lowering_seconds``, ``xla_seconds`` and their sum ``seconds`` for that call; ``total_seconds``,
    ``count`` and ``cache_hits`` since the run was opened. The text ``compile/<function>`` is the table,
    rewritten at each compilation.

    Args:
        reporter: the writer.
    """

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._totals: dict[str, _Total] = {}

    def record_compilation(self, event: CompilationEvent) -> None:
        """Write the compile times of a call, and the table with its programs."""
        compilations, name = event.compilations, event.call.name
        if not compilations:
            return
        total = self._totals.setdefault(name, _Total())
        seconds = sum(compilation.seconds for compilation in compilations)
        total.seconds += seconds
        total.count += len(compilations)
        total.cache_hits += sum(compilation.cached for compilation in compilations)
        changed = "; ".join(map(str, event.changes))
        for compilation in compilations:
            phases = (compilation.trace, compilation.lower, compilation.backend)
            total.rows.append(
                [
                    str(event.step),
                    compilation.name,
                    *(f"{phase:.3f}" for phase in phases),
                    "hit" if compilation.cached else "",
                    changed,
                ]
            )
        total.rows = total.rows[-_MAX_ROWS:]
        self._reporter.scalars(
            event.step,
            {
                f"compile/{name}/trace_seconds": sum(c.trace for c in compilations),
                f"compile/{name}/lowering_seconds": sum(c.lower for c in compilations),
                f"compile/{name}/xla_seconds": sum(c.backend for c in compilations),
                f"compile/{name}/seconds": seconds,
                f"compile/{name}/total_seconds": total.seconds,
                f"compile/{name}/count": total.count,
                f"compile/{name}/cache_hits": total.cache_hits,
            },
        )
        self._reporter.text(event.step, f"compile/{name}", [_HEADER, *total.rows])
