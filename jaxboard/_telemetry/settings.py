"""The settings of a run's telemetry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from jaxboard._check import positive_number
from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr


@dataclasses.dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Settings for the telemetry of a run: ``Run(telemetry=Telemetry(...))``.

    ``Run(telemetry=True)`` is the same as ``Run(telemetry=Telemetry())``.

    Telemetry never waits for a device. It writes the following tags under ``jaxboard/``, where ``f`` is
    the name of an instrumented function:

    - ``compile/f/...``: the seconds that JAX spent on tracing, on lowering and in XLA; the number of
      compiled programs, and how many of them came from the persistent compilation cache; and a table of
      all compilations. ``recompiles/f`` is a text that names the argument that made JAX compile again.
    - ``step/f/...``: steps per second; the median, 95th percentile and maximum of the step time, which
      runs from one call to the next; and the mean seconds within calls and between calls
      (``host_wait_seconds``). Steps that compile are left out.
    - ``cost/f/...``: floating-point operations and bytes accessed of one call on one device, as XLA
      counts them. XLA counts the body of a scan or a while loop once. ``step/f/...`` adds operations
      per second and the model FLOPs utilization (MFU). ``memory/f`` is a table of the memory that the
      program needs.
    - ``memory/<device>/...``: bytes in use, peak bytes and the limit of each local device. CPUs do not
      report these and have the bytes of all live arrays instead. A profile on a CPU contains those
      bytes too, for xprof's memory profile.
    - ``overhead/...``: the cost of jaxboard itself: seconds per call, CPU seconds of its thread and
      bytes written.
    - ``time/...``: where the wall time goes: the device, waiting for input, compiling, evaluation, checkpoints
      and others, also over restarts; as scalars, a picture and a sentence.
    - ``program``: a table of the versions of libraries, the devices, the options of JAX that change results, and the
      environment variables of JAX and XLA.

    Args:
        window: seconds of training that one point of step times and of memory covers.
        per_call: units that one call processes, by the name of the function:
            ``{"train_step": {"examples": 32, "tokens": 32 * 1024}}`` adds examples and tokens per
            second. If calls differ, pass a function of the call's arguments instead of a number:
            ``lambda state, batch: len(batch["x"])``. jaxboard calls it at every call, so it must not
            wait for a device.
        peak_flops: peak floating-point operations per second of one device, for the MFU. The default is
            the vendor's figure for dense bfloat16. On a device that jaxboard does not know, there is no
            MFU.

    Raises:
        UsageError: an argument is invalid.

    Example:
        >>> import jax, jaxboard as jb
        >>> from jaxboard.sinks import MemorySink
        >>> sink = MemorySink()
        >>> telemetry = jb.Telemetry(per_call={"train_step": {"examples": 32}})
        >>> with jb.Run(None, sinks=[sink], telemetry=telemetry):
        ...     train_step = jb.instrument(jax.jit(lambda x: x + 1), name="train_step")
        ...     for x in range(3):
        ...         y = train_step(x)
        >>> "jaxboard/step/train_step/examples_per_second" in {r.tag for r in sink.records}
        True
    """

    window: float = 2.0
    per_call: Mapping[str, Mapping[str, int | Callable[..., int]]] = dataclasses.field(
        default_factory=dict
    )
    peak_flops: float | None = None

    def __post_init__(self) -> None:
        positive_number("Telemetry", "window", self.window)
        if self.peak_flops is not None:
            positive_number("Telemetry", "peak_flops", self.peak_flops)
        if not isinstance(self.per_call, Mapping) or not all(
            isinstance(counts, Mapping) for counts in self.per_call.values()
        ):
            raise UsageError(
                f"Telemetry(per_call={safe_repr(self.per_call)}): expected counts by function, as in "
                "{'train_step': {'examples': 32}}."
            )
        for function, counts in self.per_call.items():
            for unit, count in counts.items():
                if not callable(count):
                    positive_number(
                        "Telemetry", f"per_call[{safe_repr(function)}][{safe_repr(unit)}]", count
                    )


def check_telemetry(telemetry: object) -> None:
    """Raise unless ``telemetry`` is a valid argument of ``Run(telemetry=...)``.

    Raises:
        UsageError: it is neither a bool, nor None, nor a :class:`Telemetry`.
    """
    if not isinstance(telemetry, bool | Telemetry | None):
        raise UsageError(
            f"Run(telemetry={safe_repr(telemetry)}): expected a bool or a jaxboard.Telemetry."
        )
