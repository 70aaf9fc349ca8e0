"""The events of a trace: their nesting on a thread, and the markers of steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

from jaxboard._profile.summary import Compilation
from jaxboard._profile.time_spans import Spans

_CALL = "PjitFunction("
"""The start of the name of the event of a call of a jitted function."""

_COMPILE = "backend_compile"
"""The start of the name of the event during which XLA compiles a program."""


class Event(Protocol):
    """An event of ``jax.profiler.ProfileData``."""

    @property
    def name(self) -> str: ...
    @property
    def start_ns(self) -> float: ...
    @property
    def duration_ns(self) -> float: ...
    @property
    def stats(self) -> Iterable[tuple[str, int | float | str]]: ...


class SelfTime(NamedTuple):
    """An event with the time in which no event within it ran.

    Attributes:
        event: the event.
        spans: that time, in nanoseconds.
    """

    event: Event
    spans: Spans


class Marker(NamedTuple):
    """The marker of a step, from its start to its end in nanoseconds."""

    step: int
    start: float
    end: float


def self_times(events: Iterable[Event]) -> Iterator[SelfTime]:
    """Yield each event of a line with its own time."""
    # By event: its end, the end of the last event within it, and its own time so far.
    enclosing: list[tuple[float, list[float], SelfTime]] = []
    for start, end, event in _outer_first(events):
        while enclosing and enclosing[-1][0] <= start:
            yield _closed(enclosing)
        if enclosing:
            _, until, outer = enclosing[-1]
            if until[0] < start:
                outer.spans.append((until[0], start))
            until[0] = max(until[0], end)
        enclosing.append((end, [start], SelfTime(event, [])))
    while enclosing:
        yield _closed(enclosing)


def _closed(enclosing: list[tuple[float, list[float], SelfTime]]) -> SelfTime:
    """Remove the innermost event and return it."""
    end, until, closed = enclosing.pop()
    if until[0] < end:
        closed.spans.append((until[0], end))
    return closed


def _outer_first(events: Iterable[Event]) -> list[tuple[float, float, Event]]:
    """Return the start and the end of each event with a duration, an outer event before those within it."""
    # XLA marks the end of an operation with a separate event, "end: NAME".
    spans = [
        (event.start_ns, event.start_ns + event.duration_ns, event)
        for event in events
        if event.duration_ns > 0 and not event.name.startswith("end: ")
    ]
    return sorted(spans, key=lambda span: (span[0], -span[1]))


def markers(events: Iterable[Event]) -> list[Marker]:
    """Return the outermost step markers of a line, in order."""
    found: list[Marker] = []
    for start, end, event in sorted(
        ((e.start_ns, e.start_ns + e.duration_ns, e) for e in events),
        key=lambda span: (span[0], -span[1]),
    ):
        if not found or start >= found[-1].end:
            stats = dict(event.stats)
            if "step_num" in stats and stats.get("_r"):
                found.append(Marker(int(stats["step_num"]), start, end))
    return found


def compilations(events: Iterable[Event], steps: list[Marker]) -> list[Compilation]:
    """Return what the thread of the steps compiled, from its first step to the end of its last one."""
    found: dict[float, Compilation] = {}
    call_start = call_end = float("-inf")
    for start, end, event in _outer_first(events):
        if event.name.startswith(_CALL) and start >= call_end:
            call_start, call_end = start, end
        elif event.name.startswith(_COMPILE) and steps[0].start <= start < steps[-1].end:
            # The call of a jitted function also traces and lowers it.
            began, ended = (call_start, call_end) if start < call_end else (start, end)
            last = max((s for s in steps if s.start <= start), key=lambda s: s.start)
            found[began] = Compilation(last.step, (ended - began) / 1e6)
    return list(found.values())


def host_parts(
    events: Iterable[Event], steps: list[Marker]
) -> tuple[dict[str, Spans], dict[str, Spans]]:
    """Return when the thread of the steps did what: between its steps, and within them.

    Args:
        events: the events of the thread.
        steps: its markers.

    Returns:
        The spans of the outermost named parts by name, which may be unsorted. A part that contains a step, such as a whole
        epoch, is left out in favor of the parts within it.
    """
    between: dict[str, Spans] = {}
    within: dict[str, Spans] = {}
    number, taken_until = 0, float("-inf")
    for start, end, event in _outer_first(events):
        while number < len(steps) and steps[number].end <= start:
            number += 1
        step = steps[number] if number < len(steps) else None
        if step is not None and start <= step.start < end:
            continue  # It contains a step, or is its marker.
        if start < taken_until:
            continue
        taken_until = end
        inside = step is not None and step.start <= start
        (within if inside else between).setdefault(event.name, []).append((start, end))
    return between, within
