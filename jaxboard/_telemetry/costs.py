"""The cost of compiled programs as XLA reports it: operations, memory traffic, memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax

from jaxboard._host.observers import Call, registry
from jaxboard._log import describe, logger
from jaxboard._telemetry.collector import Collector, CompilationEvent
from jaxboard._telemetry.compilations import CompilationListener
from jaxboard._telemetry.peak_flops import peak_flops
from jaxboard._telemetry.reporter import Reporter

_SIZES = {
    "arguments": "argument_size_in_bytes",
    "outputs": "output_size_in_bytes",
    "shared by both (donated)": "alias_size_in_bytes",
    "temporary": "temp_size_in_bytes",
    "program": "generated_code_size_in_bytes",
    "peak": "peak_memory_in_bytes",
}

_NOTE = (
    "Per device and call, as XLA counts them; the body of a `scan` or a `while` loop counts once, "
    "however often it runs."
)


@dataclasses.dataclass(slots=True)
class _Cost:
    """The cost of a function; None where it is unknown or ambiguous.

    Attributes:
        flops: floating-point operations of one call on one device.
        peak: peak floating-point operations per second of one device.
    """

    flops: float | None
    peak: float | None


class ProgramCosts(Collector):
    """XLA's cost analysis of the programs of instrumented functions, read when they are compiled.

    Scalars at the step that compiled, per device and call: ``cost/<function>/flops`` and
    ``cost/<function>/bytes_accessed``. The text ``memory/<function>`` is a table of the program's
    memory. Each window of step times adds ``step/<function>/flops_per_second`` of one device, and
    ``step/<function>/mfu`` if the device's peak is known. Both are left out if different arguments led
    to programs with different numbers of operations, since it is unknown which of them ran.

    Args:
        reporter: the writer.
        listener: reports whether the analysis itself compiled something.
        peak: peak operations per second of one device, instead of the vendor's figure.
    """

    def __init__(self, reporter: Reporter, listener: CompilationListener, peak: float | None):
        self._reporter = reporter
        self._listener = listener
        self._peak = peak
        self._costs: dict[str, _Cost] = {}
        self._disabled = False

    def record_compilation(self, event: CompilationEvent) -> None:
        """Write the cost of the program that the call ran."""
        call, step = event.call, event.step
        if not event.concerns_function or self._disabled or call.program is None:
            return
        executable = self._executable(call, call.program)
        if executable is None:
            return
        flops, accessed = _count(executable, "flops"), _count(executable, "bytes accessed")
        tag = f"cost/{call.name}"
        self._reporter.scalars(step, {f"{tag}/flops": flops, f"{tag}/bytes_accessed": accessed})
        sizes = _sizes(executable)
        if sizes:
            rows = [["memory of one device", "bytes"], *([k, f"{v:,}"] for k, v in sizes.items())]
            self._reporter.text(step, f"memory/{call.name}", rows)
        cost = self._costs.get(call.name)
        if cost is None:
            self._costs[call.name] = _Cost(flops, self._peak or _peak_of(executable))
            self._reporter.text(step, tag, _NOTE)
        elif event.is_new_signature and cost.flops != flops:
            cost.flops = None
        elif not event.is_new_signature and cost.flops is not None and flops is not None:
            # jaxboard has several programs for the same arguments; take the one with the fewest reports.
            cost.flops = min(cost.flops, flops)

    def end_window(self, function: str, step: int, steps_per_second: float) -> None:
        """Write the operations per second of a window."""
        cost = self._costs.get(function)
        if cost is None or cost.flops is None:
            return
        flops_per_second = cost.flops * steps_per_second
        mfu = None if cost.peak is None else flops_per_second / cost.peak
        self._reporter.scalars(
            step,
            {
                f"step/{function}/flops_per_second": flops_per_second,
                f"step/{function}/mfu": mfu,
            },
        )

    def _executable(self, call: Call, program: jax.stages.Wrapped) -> jax.stages.Compiled | None:
        """Return the program that the call just compiled, out of JAX's caches."""
        since = registry.events
        try:
            lowered = program.lower(*call.leading, *call.args, **call.kwargs)
            return lowered.compile()
        except Exception as fault:
            self._disabled = True
            logger.warning("jaxboard: the cost of %s is not shown: %s", call.name, describe(fault))
            return None
        finally:
            if self._listener.take(since):
                # The program was not in the caches and compiled a second time: never do that again.
                self._disabled = True


def _count(executable: jax.stages.Compiled, key: str) -> float | None:
    analysis = executable.cost_analysis()
    count = analysis.get(key) if isinstance(analysis, Mapping) else None
    # https://github.com/jax-ml/jax/issues/20184: -1 means unknown.
    return float(count) if count is not None and count > 0 else None


def _sizes(executable: jax.stages.Compiled) -> dict[str, int]:
    analysis = executable.memory_analysis()
    sizes = {name: getattr(analysis, field, None) for name, field in _SIZES.items()}
    return {name: size for name, size in sizes.items() if size}


def _peak_of(executable: jax.stages.Compiled) -> float | None:
    for sharding in jax.tree.leaves((executable.input_shardings, executable.output_shardings)):
        for device in sharding.device_set:
            return peak_flops(device.device_kind)
    return None
