"""The summary of a trace."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


class Operation(NamedTuple):
    """An operation, with all of its executions.

    Attributes:
        name: its name in XLA, or in the host's code.
        program: the compiled program that contains it; empty on the host and if unknown.
        scope: the user's operation with its name scopes (``encoder/dot_general``); empty if unknown.
        executions: the number of times it ran.
        ms: the total self time in milliseconds, without operations that ran within it.
    """

    name: str
    program: str
    scope: str
    executions: int
    ms: float


class HostPart(NamedTuple):
    """A part of the host's program during which all devices were idle.

    Attributes:
        name: its name in the trace: that of ``jaxboard.trace``, of a JAX function, or of a Python function.
        ms: how long the devices were idle during it, in milliseconds.
    """

    name: str
    ms: float


class Pause(NamedTuple):
    """A single pause between two steps, much longer than those between the others, during which all devices were idle.

    Attributes:
        step: the step before it.
        ms: how long the devices were idle, in milliseconds.
        part: the name of the part of the host's program that took most of it; empty if it has none.
    """

    step: int
    ms: float
    part: str


class Compilation(NamedTuple):
    """A call of a jitted function that compiled it.

    Attributes:
        step: the step during which, or after which, it was compiled.
        ms: how long the call took with tracing, lowering and compilation, in milliseconds.
    """

    step: int
    ms: float


class TimeParts(NamedTuple):
    """The time from the start of the first step to the end of the last one without pauses, in milliseconds.

    The first four parts are means over the devices, and add up to the whole time.

    Attributes:
        compute: a device computes, or moves data in its own memory.
        exposed: a device only communicates with other devices, which no computation hides.
        between: a device is idle, and the host is between two steps.
        within: a device is idle, and the host is in a step.
        communication: a device communicates, hidden by a computation or not.
        devices: the number of devices with operations.
        between_parts: the parts of the host's program between the steps, the longest first.
        within_parts: the parts of the host's program in the steps, the longest first.
        pauses: the pauses, in order.
    """

    compute: float
    exposed: float
    between: float
    within: float
    communication: float
    devices: int
    between_parts: list[HostPart]
    within_parts: list[HostPart]
    pauses: list[Pause]

    @property
    def whole(self) -> float:
        """The whole time."""
        return self.compute + self.exposed + self.between + self.within


@dataclasses.dataclass
class TraceSummary:
    """The step times and operations of a trace.

    Attributes:
        steps: the number and the time in milliseconds of each marked step, in order.
        host: the operations of host threads, the longest first.
        device: the operations of the devices, the longest first; on CPUs, those of XLA's threads.
        source: the source of ``device``: ``"trace"`` or the name of an xprof tool. None if the trace is
            of an accelerator and xprof, which can read it, is not installed.
        intervals: the milliseconds from the start of each marked step to that of the next one, in order.
        time: the parts of the time; None without step markers or without operations of devices.
        advice: the advice of xprof, in plain text.
        metrics: the metrics of xprof by their names, for accelerators.
        compilations: the calls that compiled, in order.
        bound_by: the limit of the program in xprof's roofline model, such as ``"HBM"``; empty if unknown.
    """

    steps: list[tuple[int, float]]
    host: list[Operation]
    device: list[Operation]
    source: str | None
    intervals: list[float] = dataclasses.field(default_factory=list)
    time: TimeParts | None = None
    advice: list[str] = dataclasses.field(default_factory=list)
    metrics: dict[str, float] = dataclasses.field(default_factory=dict)
    compilations: list[Compilation] = dataclasses.field(default_factory=list)
    bound_by: str = ""
