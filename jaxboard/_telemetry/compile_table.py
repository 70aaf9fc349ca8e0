"""Compile times as scalars, and a table of all compilations of a function."""

from __future__ import annotations

import dataclasses

from jaxboard._telemetry.compiles import Compilation
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.signature import Change

_HEADER = ["step", "program", "trace (s)", "lowering (s)", "XLA (s)", "persistent cache", "changed"]

_ROWS = 100
"""How many rows a table has at most, the latest."""


@dataclasses.dataclass(slots=True)
class _Total:
    seconds: float = 0.0
    count: int = 0
    hits: int = 0
    rows: list[list[str]] = dataclasses.field(default_factory=list)


class CompileTable:
    """Adds up what was compiled for each instrumented function.

    Scalars ``compile/<function>/…``, at the step that compiled: ``trace_seconds``, ``lowering_seconds``,
    ``xla_seconds`` and their sum ``seconds``, of that call; ``total_seconds``, ``count`` and
    ``cache_hits`` since the run was opened. Text ``compile/<function>``: the table, at each
    compilation anew.

    Args:
        reporter: where they go.
    """

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._totals: dict[str, _Total] = {}

    def add(self, name: str, step: int, programs: list[Compilation], changes: list[Change]) -> None:
        """A call of the function ``name`` compiled ``programs``, for the sake of ``changes``."""
        total = self._totals.setdefault(name, _Total())
        seconds = sum(program.seconds for program in programs)
        total.seconds += seconds
        total.count += len(programs)
        total.hits += sum(program.cached for program in programs)
        why = "; ".join(map(str, changes))
        for program in programs:
            phases = (program.trace, program.lower, program.backend)
            cached = "hit" if program.cached else ""
            row = [str(step), program.name, *(f"{phase:.3f}" for phase in phases), cached, why]
            total.rows = [*total.rows, row][-_ROWS:]
        self._reporter.scalars(
            step,
            {
                f"compile/{name}/trace_seconds": sum(program.trace for program in programs),
                f"compile/{name}/lowering_seconds": sum(program.lower for program in programs),
                f"compile/{name}/xla_seconds": sum(program.backend for program in programs),
                f"compile/{name}/seconds": seconds,
                f"compile/{name}/total_seconds": total.seconds,
                f"compile/{name}/count": total.count,
                f"compile/{name}/cache_hits": total.hits,
            },
        )
        self._reporter.text(step, f"compile/{name}", [_HEADER, *total.rows])
