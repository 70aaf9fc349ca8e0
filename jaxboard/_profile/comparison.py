"""The comparison of a profile with the one before it in the same run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from jaxboard._profile.summary import HostPart, TraceSummary

_NOTABLE = 1.1
"""A step time that grew or shrank by less than this factor counts as unchanged."""

_MOST = 3
"""Operations that are listed."""


class Growth(NamedTuple):
    """Something that takes longer than before.

    Attributes:
        name: what it is, for readers.
        before: its milliseconds a step in the earlier profile.
        now: its milliseconds a step in this one.
    """

    name: str
    before: float
    now: float


class Comparison(NamedTuple):
    """The change since an earlier profile.

    Attributes:
        steps_before: the steps of the earlier profile.
        before: the milliseconds from one step to the next, in the earlier profile.
        now: the milliseconds from one step to the next, in this one.
        slower: the steps of this profile that took longer than the mean of the earlier one.
        grown: the operations of the devices and the parts of the host's program that grew most, if steps became
            slower; the one that grew most is the first.
    """

    steps_before: list[int]
    before: float
    now: float
    slower: list[int]
    grown: list[Growth]

    @property
    def ratio(self) -> float:
        """The step time now, divided by that of the earlier profile."""
        return self.now / self.before

    @property
    def is_notable(self) -> bool:
        """True if the step time changed by more than a tenth."""
        return not 1 / _NOTABLE < self.ratio < _NOTABLE


def compare(now: TraceSummary, before: TraceSummary) -> Comparison | None:
    """Return what changed; None if one of the profiles has no steps."""
    ms_now, ms_before = step_ms(now), step_ms(before)
    if not ms_now or not ms_before:
        return None
    slower = [step for step, ms in _durations(now) if ms > _NOTABLE * ms_before]
    grown = _grown(now, before) if ms_now > _NOTABLE * ms_before else []
    return Comparison([step for step, _ in before.steps], ms_before, ms_now, slower, grown)


def step_ms(summary: TraceSummary) -> float:
    """Return the mean milliseconds from one step to the next; 0 without steps."""
    if not summary.steps:
        return 0.0
    if summary.time is not None:
        return summary.time.whole / len(summary.steps)
    return sum(ms for _, ms in _durations(summary)) / len(summary.steps)


def _durations(summary: TraceSummary) -> list[tuple[int, float]]:
    """Return the milliseconds from the start of each step to that of the next one; of the last step, to its end."""
    numbers = [step for step, _ in summary.steps]
    last = [ms for _, ms in summary.steps[-1:]]
    return list(zip(numbers, [*summary.intervals, *last], strict=True))


def _grown(now: TraceSummary, before: TraceSummary) -> list[Growth]:
    now_ms, before_ms = _costs(now), _costs(before)
    grown = [
        Growth(name, before_ms.get(name, 0.0), ms)
        for name, ms in now_ms.items()
        if ms > before_ms.get(name, 0.0)
    ]
    grown.sort(key=lambda growth: growth.before - growth.now)
    if not grown:
        return []
    most = grown[0].now - grown[0].before
    return [growth for growth in grown[:_MOST] if growth.now - growth.before >= most / 10]


def _costs(summary: TraceSummary) -> dict[str, float]:
    """Return the milliseconds a step of each operation and of each part of the host's program.

    Operations are identified by their scopes, because XLA may rename them in the next compilation.
    """
    costs: dict[str, float] = defaultdict(float)
    devices = 1 if summary.time is None else summary.time.devices
    for op in summary.device:
        program = f" in `{op.program}`" if op.program else ""
        costs[f"`{op.scope or op.name}`{program}"] += op.ms / devices
    if summary.time is not None:
        _add(costs, summary.time.between_parts, "between the steps")
        _add(costs, summary.time.within_parts, "on the host, within the steps")
    return {name: ms / len(summary.steps) for name, ms in costs.items()}


def _add(costs: dict[str, float], parts: Iterable[HostPart], place: str) -> None:
    for part in parts:
        costs[f"`{part.name}` {place}"] += part.ms
