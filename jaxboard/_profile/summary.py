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


@dataclasses.dataclass
class TraceSummary:
    """The step times and operations of a trace.

    Attributes:
        steps: the number and the time in milliseconds of each marked step, in order.
        host: the operations of host threads, the longest first.
        device: the operations of the devices, the longest first; on CPUs, those of XLA's threads.
        source: the source of ``device``: ``"trace"`` or the name of an xprof tool. None if the trace is
            of an accelerator and xprof, which can read it, is not installed.
    """

    steps: list[tuple[int, float]]
    host: list[Operation]
    device: list[Operation]
    source: str | None
