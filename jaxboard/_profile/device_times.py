"""Where the time of a trace went: computation, communication, and idle devices."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable

from jaxboard._profile.summary import HostPart, TimeParts
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
"""On CPUs, the thread of a device waits during this event for operations on other threads."""

_MOST_PARTS = 5
"""Parts of the host's program that are listed."""


def is_communication(name: str) -> bool:
    """Return whether an operation communicates with other devices.

    Example:
        >>> is_communication("all-reduce.3"), is_communication("psum_invariant.7"), is_communication("dot.1")
        (True, True, False)
    """
    return _COLLECTIVES.match(name.lower()) is not None


class DeviceTimes:
    """The times at which each device computes, and at which it communicates."""

    def __init__(self) -> None:
        self._compute: dict[Hashable, Spans] = defaultdict(list)
        self._communication: dict[Hashable, Spans] = defaultdict(list)
        self._last = 0.0

    def add(self, device: Hashable, name: str, spans: Spans) -> None:
        """Add an operation of a device."""
        busy = self._communication if is_communication(name) else self._compute
        busy[device] += spans
        if spans and name != _WAIT:
            self._last = max(self._last, spans[-1][1])

    def add_host_event(self, event: Event, spans: Spans) -> None:
        """Add an event of a host's plane if it is the work of a CPU device."""
        stats = dict(event.stats)
        if ("hlo_op" in stats or event.name == _WAIT) and stats.get(
            "hlo_module"
        ) != BARRIER_PROGRAM:
            self.add(stats.get("device_ordinal"), event.name, spans)

    def add_plane(self, plane: str, lines: Iterable[tuple[str, list[Event]]], end: float) -> None:
        """Add the operations of an accelerator.

        Args:
            plane: the name of its plane.
            lines: the names and events of the plane's lines.
            end: the end of the last marker: after it, jaxboard's own program may run.
        """
        for name, events in lines:
            # A GPU has a line for each stream, a TPU one for operations and one for those that run beside them.
            if not name.startswith(("Stream", "XLA Ops", "Async XLA Ops")):
                continue
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
        steps = union((step.start, step.end) for _, steps in threads for step in steps)
        devices = self._compute.keys() | self._communication.keys()
        if not steps or not devices:
            return None
        window = [(steps[0][0], max(steps[-1][1], self._last))]
        outside = difference(window, steps)
        busy_anywhere: Spans = []
        totals = [0.0] * 5
        for device in devices:
            compute = intersection(union(self._compute[device]), window)
            communication = intersection(union(self._communication[device]), window)
            busy = union([*compute, *communication])
            busy_anywhere += busy
            idle = difference(window, busy)
            parts = (
                compute,
                difference(communication, compute),
                intersection(idle, outside),
                intersection(idle, steps),
                communication,
            )
            totals = [total + length(part) / 1e6 for total, part in zip(totals, parts, strict=True)]
        idle = difference(window, union(busy_anywhere))
        between, within = _host_parts(threads, idle)
        compute, exposed, gaps, waits, communication = (total / len(devices) for total in totals)
        return TimeParts(
            compute, exposed, gaps, waits, communication, len(devices), between, within
        )


def _host_parts(
    threads: Iterable[tuple[list[Event], list[Marker]]], idle: Spans
) -> tuple[list[HostPart], list[HostPart]]:
    """Return what the host did while all devices were idle: between the steps, and within them."""
    found: tuple[dict[str, Spans], dict[str, Spans]] = {}, {}
    for events, steps in threads:
        for spans_by_name, of_thread in zip(found, host_parts(events, steps), strict=True):
            for name, spans in of_thread.items():
                spans_by_name.setdefault(name, []).extend(spans)
    between, within = (
        [
            HostPart(name, length(intersection(union(spans), idle)) / 1e6)
            for name, spans in spans_by_name.items()
        ]
        for spans_by_name in found
    )
    return _longest(between), _longest(within)


def _longest(parts: list[HostPart]) -> list[HostPart]:
    parts = [part for part in parts if part.ms > 0 and "jaxboard_barrier" not in part.name]
    parts.sort(key=lambda part: -part.ms)
    return parts[:_MOST_PARTS]
