"""The alert: what a rule of a run has found."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """One finding of a rule of ``Run(alerts=[...])``. Functions in that list are called with it.

    Attributes:
        rule: the rule, as the list has it.
        run: the directory of the run; for a run below it, followed by that run's relative path.
        tag: the tag; "" for a rule about all reports.
        step: the step.
        value: the value at that step.
        text: one sentence.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.sinks import MemorySink
        >>> received = []
        >>> with jb.Run(None, sinks=[MemorySink()], alerts=["loss > 10", received.append]):
        ...     jb.scalar("loss", 12.5)
        >>> print(received[0].text)
        loss > 10: it is 12.5 at step 0.
    """

    rule: str
    run: str
    tag: str
    step: int
    value: float
    text: str

    __module__ = "jaxboard"
