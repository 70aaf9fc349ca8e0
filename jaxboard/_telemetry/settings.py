"""What a user may say about the telemetry of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from jaxboard._errors import RunError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Telemetry:
    """Telemetry of a run, ``Run(telemetry=Telemetry(...))``; ``telemetry=True`` is ``Telemetry()``.

    It never waits for a device. What it writes, under ``jaxboard/``, for each instrumented function:

    - ``compile/<function>/…``: seconds of tracing, of lowering and of XLA, how many programs, how many of
      them from the persistent cache; a table of all. ``recompiles/<function>``: what made JAX compile
      it again.
    - ``step/<function>/…``: steps per second; median, 95th percentile and longest of the step times, from
      one call to the next; mean seconds in the call and between calls (``host_wait_seconds``). Steps
      that compiled don't count.
    - ``cost/<function>/…``: floating-point operations and bytes accessed of one call on one device, as
      XLA counts them, which is the body of a scan or a while loop once. ``step/<function>/…`` has
      them per second, and the MFU. ``memory/<function>``: a table of what the program takes.
    - ``memory/<device>/…``: bytes in use, peak and limit of each device of the process that writes; on a
      CPU the bytes of all arrays. In a profile made on a CPU xprof's memory profile shows them too.
    - ``overhead/…``: what jaxboard costs: seconds per call, seconds of its thread, bytes on disk.

    Args:
        window: how many seconds of steps one point of step times and memory stands for.
        per_call: how many of what a call takes in, by function: ``{"train_step": {"examples": 32,
            "tokens": 32 * 1024}}`` is shown as examples and tokens per second. Where calls differ, a
            function of the call's arguments stands for the number: ``lambda state, batch:
            len(batch["x"])``. It is called at every call, and must not wait for a device.
        peak_flops: how many floating-point operations per second one device can do at most, for the
            model FLOPs utilization (MFU). By default what its maker says of dense bfloat16; of other
            devices no MFU is shown.

    Raises:
        RunError: an argument is not what is said here.

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
        _positive("window", self.window)
        if self.peak_flops is not None:
            _positive("peak_flops", self.peak_flops)
        if not isinstance(self.per_call, Mapping) or not all(
            isinstance(counts, Mapping) for counts in self.per_call.values()
        ):
            raise RunError(
                f"Telemetry(per_call={self.per_call!r}): expected counts by function, as in "
                "{'train_step': {'examples': 32}}."
            )
        for name, counts in self.per_call.items():
            for what, count in counts.items():
                if not callable(count):
                    _positive(f"per_call[{name!r}][{what!r}]", count)


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise RunError(f"Telemetry({name}={value!r}): expected a number above 0.")
