"""The comparison of a profile with the previous one of the same run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from jaxboard._profile.summary import HostPart, TraceSummary

_NOTABLE = 1.1
"""A step time that grew or shrank by less than this factor counts as unchanged."""

_MAX_OPERATIONS = 3
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
        part: the part of the time that grew most, by the name of its field in :class:`TimeParts`, if steps became slower;
            None if it is unknown.
        grown: the operations of the devices and the parts of the host's program that grew most, if steps became
            slower; the one that grew most is the first.
    """

    steps_before: list[int]
    before: float
    now: float
    slower: list[int]
    part: Growth | None
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
    steps_before = [step for step, _ in before.steps]
    slower = [step for step, ms in _durations(now) if ms > _NOTABLE * ms_before]
    if ms_now <= _NOTABLE * ms_before:
        return Comparison(steps_before, ms_before, ms_now, slower, None, [])
    grown = _grown(_costs(now), _costs(before), (ms_now - ms_before) / 10)
    (part, *_) = [*_grown(_parts(now), _parts(before), 0.0), None]
    return Comparison(steps_before, ms_before, ms_now, slower, part, grown)


def step_ms(summary: TraceSummary) -> float:
    """Return the mean milliseconds from one step to the next without pauses; 0 without steps."""
    if not summary.steps:
        return 0.0
    if summary.time is not None:
        return summary.time.whole / len(summary.steps)
    return sum(ms for _, ms in _durations(summary)) / len(summary.steps)


def _durations(summary: TraceSummary) -> list[tuple[int, float]]:
    """Return the milliseconds from the start of each step to that of the next one without pauses; of the last step, to its end."""
    last = [ms for _, ms in summary.steps[-1:]]
    pauses = () if summary.time is None else summary.time.pauses
    paused = {pause.step: pause.ms for pause in pauses}
    return [
        (number, ms - paused.get(number, 0.0))
        for (number, _), ms in zip(summary.steps, [*summary.intervals, *last], strict=True)
    ]


def _grown(now: dict[str, float], before: dict[str, float], least: float) -> list[Growth]:
    """Return what grew by at least some milliseconds a step, the largest growth first."""
    grown = [Growth(name, before.get(name, 0.0), ms) for name, ms in now.items()]
    grown = [growth for growth in grown if growth.now - growth.before > least]
    return sorted(grown, key=lambda growth: growth.before - growth.now)[:_MAX_OPERATIONS]


def _parts(summary: TraceSummary) -> dict[str, float]:
    """Return the milliseconds a step of each part of the time."""
    time = summary.time
    if time is None:
        return {}
    names = ("compute", "exposed", "between", "within")
    return {name: getattr(time, name) / len(summary.steps) for name in names}


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
