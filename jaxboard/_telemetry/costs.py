"""What a compiled step needs: floating-point operations, memory traffic, memory. Told by XLA."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax

from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard._telemetry.compiles import Compiles
from jaxboard._telemetry.peaks import peak_flops
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
    flops: float | None
    peak: float | None


class Costs:
    """Asks XLA about the programs of instrumented functions, when they are compiled.

    Scalars at the step that compiled, per device and call: ``cost/<function>/flops`` and
    ``cost/<function>/bytes_accessed``. Text ``memory/<function>``: what the program takes of a device's
    memory. With each point of step times ``step/<function>/flops_per_second`` of one device, and
    ``step/<function>/mfu`` where the device's peak is known; neither where programs that differ in
    their operations were compiled for different arguments, as it isn't known which one ran.

    Args:
        reporter: where they go.
        compiles: where it is seen whether asking compiled something.
        peak: of one device, instead of what is known of it.
    """

    def __init__(self, reporter: Reporter, compiles: Compiles, peak: float | None):
        self._reporter = reporter
        self._compiles = compiles
        self._peak = peak
        self._costs: dict[str, _Cost] = {}
        self._off = False

    def called(self, call: Call, step: int, *, first: bool) -> None:
        """A call compiled its function or was the first of it; whether ``first`` with such arguments."""
        if self._off or call.program is None:
            return
        executable = self._executable(call, call.program, call.leading)
        if executable is None:
            return
        flops, accessed = _count(executable, "flops"), _count(executable, "bytes accessed")
        tag = f"cost/{call.name}"
        self._reporter.scalars(step, {f"{tag}/flops": flops, f"{tag}/bytes_accessed": accessed})
        sizes = _sizes(executable)
        if sizes:
            rows = [["memory of one device", "bytes"], *([k, f"{v:,}"] for k, v in sizes.items())]
            self._reporter.text(step, f"memory/{call.name}", rows)
        known = self._costs.get(call.name)
        if known is None:
            self._costs[call.name] = _Cost(flops, self._peak or _peak_of(executable))
            self._reporter.text(step, tag, _NOTE)
        elif first and known.flops != flops:
            known.flops = None
        elif not first and known.flops is not None and flops is not None:
            # Of jaxboard's programs for the same arguments, the one that reports least.
            known.flops = min(known.flops, flops)

    def rate(self, name: str, step: int, per_second: float) -> None:
        """So many calls a second were made of a function."""
        cost = self._costs.get(name)
        if cost is None or cost.flops is None:
            return
        rate = cost.flops * per_second
        mfu = None if cost.peak is None else rate / cost.peak
        self._reporter.scalars(
            step, {f"step/{name}/flops_per_second": rate, f"step/{name}/mfu": mfu}
        )

    def _executable(self, call: Call, jitted: Any, before: tuple[Any, ...]) -> Any:
        """What was just compiled, out of JAX's caches."""
        self._compiles.begin()
        try:
            return jitted.lower(*before, *call.args, **call.kwargs).compile()
        except Exception as fault:
            self._off = True
            logger.warning("jaxboard: what %s costs is not shown: %s", call.name, describe(fault))
            return None
        finally:
            if self._compiles.end():
                # It was not in the caches, and took as long again. Once is enough.
                self._off = True


def _count(executable: Any, key: str) -> float | None:
    analysis = executable.cost_analysis()
    count = analysis.get(key) if isinstance(analysis, Mapping) else None
    # https://github.com/jax-ml/jax/issues/20184: -1 stands for not known.
    return float(count) if count is not None and count > 0 else None


def _sizes(executable: Any) -> dict[str, int]:
    analysis = executable.memory_analysis()
    sizes = {name: getattr(analysis, field, None) for name, field in _SIZES.items()}
    return {name: size for name, size in sizes.items() if size}


def _peak_of(executable: Any) -> float | None:
    for sharding in jax.tree.leaves((executable.input_shardings, executable.output_shardings)):
        for device in sharding.device_set:
            return peak_flops(device.device_kind)
    return None
