"""Where the time of a trace went: computation, communication, and idle devices."""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import chain, pairwise

from jaxboard._profile.summary import HostPart, Pause, TimeParts
from jaxboard._profile.time_spans import Spans, difference, intersection, length, union
from jaxboard._profile.trace_events import Event, Marker, host_parts, self_times

BARRIER_PROGRAM = "jit_jaxboard_barrier"
"""The program that jaxboard itself runs to wait for the devices."""

_COLLECTIVES = re.compile(
    r"all.(reduce|gather|to.all)|reduce.scatter|collective|ragged.all|psum|pmax|pmin|ppermute|pshuffle"
    r"|send|recv|.*[nr]ccl"
)
"""The start of the names of collective operations in XLA, and in JAX, after which XLA names them; NCCL's kernels."""

_WAIT = "ThunkExecutor::Execute (wait for completion)"
"""On CPUs, the thread of a device waits during this event for operations on other threads. It does not name their program."""

_DEVICE = re.compile(r"/device:(GPU|TPU):\d+")

_TPU_LINES = ("XLA Ops", "Async XLA Ops")

_FEWEST_GAPS = 3
"""Gaps between steps from which on one of them can be a pause."""

_LONG_GAP = 5
"""A pause is longer than the median of the gaps by this factor, and longer than a whole step."""

_MAX_PARTS = 5
"""Parts of the host's program that are listed."""


def is_communication(name: str) -> bool:
    """Return whether an operation communicates with other devices.

    Example:
        >>> is_communication("all-reduce.3"), is_communication("psum_invariant.7"), is_communication("dot.1")
        (True, True, False)
    """
    return _COLLECTIVES.match(name.lower()) is not None


class DeviceTimeline:
    """The times at which each device computes, and at which it communicates."""

    def __init__(self) -> None:
        self._compute: dict[Hashable, Spans] = defaultdict(list)
        self._communication: dict[Hashable, Spans] = defaultdict(list)
        self._devices: set[Hashable] = set()
        self._last = 0.0

    def add(self, device: Hashable, name: str, spans: Spans) -> None:
        """Add an operation of a device."""
        busy = self._communication if is_communication(name) else self._compute
        busy[device] += spans
        if name == _WAIT:  # perhaps for the program of jaxboard
            return
        self._devices.add(device)
        if spans:
            self._last = max(self._last, spans[-1][1])

    def add_host_event(self, name: str, stats: Mapping[str, object], spans: Spans) -> None:
        """Add an event of a host's plane if it is the work of a CPU device."""
        if ("hlo_op" in stats or name == _WAIT) and stats.get("hlo_module") != BARRIER_PROGRAM:
            self.add(stats.get("device_ordinal"), name, spans)

    def add_plane(self, plane: str, lines: Sequence[tuple[str, list[Event]]], end: float) -> None:
        """Add the operations of an accelerator.

        Args:
            plane: the name of its plane. Planes of parts of a device, such as a TPU's sparse cores, are left out.
            lines: the name and the events of each of the plane's lines.
            end: the end of the last marker: after it, jaxboard's own program may run.
        """
        if not _DEVICE.fullmatch(plane):
            return
        # A GPU has a line for each stream, a TPU one for operations and one for those that run beside them.
        streams = [events for name, events in lines if name.startswith("Stream")]
        for events in streams or [events for name, events in lines if name in _TPU_LINES]:
            for event, spans in self_times(events):
                if event.start_ns < end or dict(event.stats).get("hlo_module") != BARRIER_PROGRAM:
                    self.add(plane, event.name, spans)

    def parts(self, threads: Iterable[tuple[list[Event], list[Marker]]]) -> TimeParts | None:
        """Return the parts of the time from the start of the first step to the end of the last one.

        Args:
            threads: the events and the markers of each thread with steps.

        Returns:
            None if there are no steps, or no operations.
        """
        threads = list(threads)
        order = sorted((step for _, steps in threads for step in steps), key=lambda s: s.start)
        steps = union((step.start, step.end) for step in order)
        if not steps or not self._devices:
            return None
        window = [(steps[0][0], max(steps[-1][1], self._last))]
        work = {
            device: (union(self._compute[device]), union(self._communication[device]))
            for device in self._devices
        }
        idle = difference(window, union(span for spans in work.values() for span in chain(*spans)))
        pauses = _pauses(order, idle)
        window = difference(window, union(span for _, spans in pauses for span in spans))
        totals = [0.0] * 5
        for spans in work.values():
            compute, communication = (intersection(each, window) for each in spans)
            waits = difference(window, union([*compute, *communication]))
            exposed = difference(communication, compute)
            between, within = difference(waits, steps), intersection(waits, steps)
            parts = compute, exposed, between, within, communication
            totals = [total + length(part) / 1e6 for total, part in zip(totals, parts, strict=True)]
        between, within = _parts_by_name(threads)
        means = [total / len(self._devices) for total in totals]
        idle = intersection(idle, window)
        return TimeParts(
            *means,
            devices=len(self._devices),
            between_parts=_longest(between, idle),
            within_parts=_longest(within, idle),
            pauses=[_described(step, spans, between) for step, spans in pauses],
        )


def _pauses(steps: list[Marker], idle: Spans) -> list[tuple[Marker, Spans]]:
    """Return the steps that a single pause follows, and the time in which all devices were idle in it."""
    pairs = list(pairwise(steps))
    if len(pairs) < _FEWEST_GAPS:
        return []
    gaps = [
        (a, intersection([(a.end, b.start)], idle) if a.end < b.start else []) for a, b in pairs
    ]
    typical_gap = statistics.median(length(spans) for _, spans in gaps)
    typical_step = statistics.median(b.start - a.start for a, b in pairs)
    least = max(typical_step, _LONG_GAP * typical_gap)
    return [(step, spans) for step, spans in gaps if length(spans) > least]


def _described(step: Marker, spans: Spans, parts: Mapping[str, Spans]) -> Pause:
    """Return the pause after a step."""
    ms = length(spans) / 1e6
    longest = _longest(parts, spans)
    name = longest[0].name if longest and longest[0].ms > ms / 2 else ""
    return Pause(step.step, ms, name)


def _parts_by_name(
    threads: Iterable[tuple[list[Event], list[Marker]]],
) -> tuple[dict[str, Spans], dict[str, Spans]]:
    """Return when the host did what, by name: between the steps, and within them."""
    found: tuple[dict[str, Spans], dict[str, Spans]] = {}, {}
    for events, steps in threads:
        for spans_by_name, of_thread in zip(found, host_parts(events, steps), strict=True):
            for name, spans in of_thread.items():
                spans_by_name.setdefault(name, []).extend(spans)
    return found


def _longest(spans_by_name: Mapping[str, Spans], idle: Spans) -> list[HostPart]:
    """Return the parts of the host's program that took longest while all devices were idle."""
    parts = [
        HostPart(name, length(intersection(union(spans), idle)) / 1e6)
        for name, spans in spans_by_name.items()
        if "jaxboard_barrier" not in name
    ]
    parts = sorted((part for part in parts if part.ms > 0), key=lambda part: -part.ms)
    return parts[:_MAX_PARTS]
