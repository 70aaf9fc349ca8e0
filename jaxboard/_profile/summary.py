"""What is told of a trace."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple


class Op(NamedTuple):
    """An operation, all of its executions together.

    Attributes:
        name: what XLA, or who wrote the host's code, calls it.
        program: the compiled program that it's in; empty for the host's, and where it isn't known.
        scope: which of the user's operations it is, within their names (``encoder/dot_general``);
            empty where that isn't known.
        times: how often it ran.
        ms: the milliseconds it took by itself, without what ran within it.
    """

    name: str
    program: str
    scope: str
    times: int
    ms: float


@dataclasses.dataclass
class Summary:
    """What is told of a trace.

    Attributes:
        steps: the steps that have a marker, with their times in milliseconds, in order.
        host: what host threads did, the longest first.
        device: what the devices did, the longest first; on CPU, XLA's threads.
        source: where ``device`` is from: ``"trace"``, or the name of a tool of xprof's. None if the
            trace is of an accelerator and xprof, which can read that, isn't installed.
    """

    steps: list[tuple[int, float]]
    host: list[Op]
    device: list[Op]
    source: str | None
