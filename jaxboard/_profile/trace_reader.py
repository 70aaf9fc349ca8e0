"""Reading a trace: the step times, and the operations that took longest.

Large traces take seconds of Python to read. A separate process reads them, so that the training thread
keeps its interpreter lock and xprof is not imported into the training process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from jax.profiler import ProfileData

from jaxboard._errors import ProfileError
from jaxboard._log import describe
from jaxboard._profile.summary import Operation, TraceSummary

_BARRIER_PROGRAM = "jit_jaxboard_barrier"
"""The program that jaxboard itself runs to wait for the devices."""


class _Event(Protocol):
    """An event of ``jax.profiler.ProfileData``."""

    @property
    def name(self) -> str: ...
    @property
    def start_ns(self) -> float: ...
    @property
    def duration_ns(self) -> float: ...
    @property
    def stats(self) -> Iterable[tuple[str, int | float | str]]: ...


def summarize_in_subprocess(file: str, timeout: float) -> TraceSummary:
    """Read an ``.xplane.pb`` in another process of low priority.

    Raises:
        ProfileError: reading failed or took longer than ``timeout`` seconds.
    """
    program = f"from {__name__} import main; main()"
    try:
        done = subprocess.run(  # noqa: S603 (this interpreter, this module)
            [sys.executable, "-W", "ignore", "-c", program, file],
            capture_output=True,
            check=True,
            timeout=timeout,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        fields = json.loads(done.stdout)
        for operations in "host", "device":
            fields[operations] = [Operation(*values) for values in fields[operations]]
        return TraceSummary(**fields)
    except subprocess.CalledProcessError as fault:
        last_line = fault.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ProfileError(f"cannot read the trace: {''.join(last_line)}") from fault
    except (OSError, ValueError, subprocess.TimeoutExpired) as fault:
        raise ProfileError(f"cannot read the trace: {describe(fault)}") from fault


def main() -> None:
    """Print the summary of the file on the command line as JSON."""
    with contextlib.suppress(AttributeError, OSError):  # Windows has no nice()
        os.nice(10)
    json.dump(dataclasses.asdict(summarize(sys.argv[1])), sys.stdout)


def summarize(file: str) -> TraceSummary:
    """Read an ``.xplane.pb``."""
    planes = list(ProfileData.from_file(file).planes)
    lines: list[list[_Event]] = [
        list(line.events)
        for plane in planes
        if plane.name.startswith("/host:")
        for line in plane.lines
    ]
    steps = sorted(step for events in lines for step in _steps(events))
    host, device = _operations(lines)
    source: str | None = "trace"
    try:
        from jaxboard._profile import xprof_tools
    except ImportError:
        xprof_tools = None
    if any(plane.name.startswith(("/device:GPU", "/device:TPU")) for plane in planes):
        source, device = (None, []) if xprof_tools is None else xprof_tools.operations(file)
    elif xprof_tools is not None:
        device = _with_scopes(device, xprof_tools.scopes(file, {op.program for op in device}))
    # Programs have a name and a number in parentheses; only xprof needs the number.
    device = [op._replace(program=op.program.partition("(")[0]) for op in device]
    device = [op for op in device if op.program != _BARRIER_PROGRAM]
    return TraceSummary(steps, _longest_first(host), _longest_first(device), source)


def _with_scopes(
    operations: list[Operation], scopes: Mapping[tuple[str, str], str]
) -> list[Operation]:
    return [op._replace(scope=scopes.get((op.program, op.name), "")) for op in operations]


def _steps(events: Iterable[_Event]) -> Iterator[tuple[int, float]]:
    """Yield the outermost step markers of a thread, with their milliseconds."""
    end = -1.0
    for event in sorted(events, key=_outer_first):
        if event.start_ns >= end:
            stats = dict(event.stats)
            if "step_num" in stats and stats.get("_r"):
                end = event.start_ns + event.duration_ns
                yield int(stats["step_num"]), event.duration_ns / 1e6


def _operations(lines: Iterable[Iterable[_Event]]) -> tuple[list[Operation], list[Operation]]:
    """Return the host's own operations, and the operations of compiled programs on its threads."""
    host: dict[tuple[str, str], list[float]] = defaultdict(list)
    device: dict[tuple[str, str], list[float]] = defaultdict(list)
    is_compiled: dict[str, bool] = {}
    for events in lines:
        for event, self_ns in _self_times(events):
            name = event.name
            if name not in is_compiled:
                is_compiled[name] = any(key == "hlo_op" for key, _ in event.stats)
            if is_compiled[name]:
                stats = dict(event.stats)
                program = "{}({})".format(stats.get("hlo_module"), stats.get("program_id"))
                device[name, program].append(self_ns)
            else:
                host[name, ""].append(self_ns)
    return _totals(host), _totals(device)


def _totals(times: Mapping[tuple[str, str], list[float]]) -> list[Operation]:
    return [
        Operation(name, program, "", len(self_ns), sum(self_ns) / 1e6)
        for (name, program), self_ns in times.items()
    ]


def _self_times(events: Iterable[_Event]) -> Iterator[tuple[_Event, float]]:
    """Yield each event of a line, and its nanoseconds without those of the events within it."""
    # XLA marks the end of an operation with a separate event, "end: NAME".
    spans = [e for e in events if e.duration_ns > 0 and not e.name.startswith("end: ")]
    self_ns = [event.duration_ns for event in spans]
    enclosing: list[int] = []
    order = sorted(range(len(spans)), key=lambda i: _outer_first(spans[i]))
    for i in order:
        start = spans[i].start_ns
        while enclosing:
            outer = spans[enclosing[-1]]
            if start < outer.start_ns + outer.duration_ns:
                break
            enclosing.pop()
        if enclosing:
            self_ns[enclosing[-1]] -= spans[i].duration_ns
        enclosing.append(i)
    for i in order:
        yield spans[i], max(self_ns[i], 0.0)


def _outer_first(event: _Event) -> tuple[float, float]:
    return event.start_ns, -event.duration_ns


def _longest_first(operations: Iterable[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda op: -op.ms)
