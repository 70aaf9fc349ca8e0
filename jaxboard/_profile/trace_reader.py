"""Reading a trace: the step times, and the operations that took longest.

Large traces take seconds of Python to read. A separate process reads them, so that the training thread
keeps its interpreter lock and xprof is not imported into the training process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from jax.profiler import ProfileData

from jaxboard._errors import ProfileError
from jaxboard._log import describe
from jaxboard._profile.device_timeline import BARRIER_PROGRAM, DeviceTimeline
from jaxboard._profile.summary import (
    Compilation,
    HostPart,
    Operation,
    Pause,
    TimeParts,
    TraceSummary,
)
from jaxboard._profile.time_spans import length
from jaxboard._profile.trace_events import Event, Marker, compilations, markers, self_times

_XLA_THREADS = "tf_"
"""The start of the names of XLA's threads."""


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
        return _restored(json.loads(done.stdout))
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
    lines: list[tuple[str, list[Event]]] = [
        (line.name, list(line.events))
        for plane in planes
        if plane.name.startswith("/host:")
        for line in plane.lines
    ]
    threads = [events for _, events in lines]
    # The threads of XLA have most of the events, and no steps.
    steps_by_thread = [(e, markers(e)) for name, e in lines if not name.startswith(_XLA_THREADS)]
    steps = sorted(step for _, steps in steps_by_thread for step in steps)
    timeline = DeviceTimeline()
    host, device = _operations(threads, timeline)
    accelerators = [p for p in planes if p.name.startswith(("/device:GPU", "/device:TPU"))]
    end = max((step.end for step in steps), default=0.0)
    for plane in accelerators:
        timeline.add_plane(
            plane.name, [(line.name, list(line.events)) for line in plane.lines], end
        )
    summary = TraceSummary(
        [(step.step, (step.end - step.start) / 1e6) for step in steps],
        _longest_first(host),
        device,
        "trace",
        intervals=_intervals(steps),
        compilations=[
            compilation
            for events, steps in steps_by_thread
            if steps
            for compilation in compilations(events, steps)
        ],
        time=timeline.parts((events, steps) for events, steps in steps_by_thread if steps),
    )
    _ask_xprof(summary, file, is_accelerator=bool(accelerators))
    # Programs have a name and a number in parentheses; only xprof needs the number.
    device = [op._replace(program=op.program.partition("(")[0]) for op in summary.device]
    summary.device = _longest_first(op for op in device if op.program != BARRIER_PROGRAM)
    return summary


def _ask_xprof(summary: TraceSummary, file: str, *, is_accelerator: bool) -> None:
    """Complete a summary by what only xprof knows, if it is installed."""
    try:
        from jaxboard._profile import xprof_tools
    except ImportError:
        if is_accelerator:
            summary.source, summary.device = None, []
        return
    with xprof_tools.readable(file) as path:
        if is_accelerator:
            summary.source, summary.device = xprof_tools.operations(path)
            summary.metrics = xprof_tools.metrics(path)
            summary.bound_by = xprof_tools.bound_by(path)
        else:
            scopes = xprof_tools.scopes(path, {op.program for op in summary.device})
            summary.device = [
                op._replace(scope=scopes.get((op.program, op.name), "")) for op in summary.device
            ]
        summary.advice = xprof_tools.advice(path, is_accelerator=is_accelerator)


def _restored(fields: dict[str, Any]) -> TraceSummary:
    """Return the summary that another process printed."""
    for operations in "host", "device":
        fields[operations] = [Operation(*values) for values in fields[operations]]
    fields["compilations"] = [Compilation(*values) for values in fields["compilations"]]
    if fields["time"] is not None:
        *figures, between, within, pauses = fields["time"]
        fields["time"] = TimeParts(
            *figures,
            between_parts=[HostPart(*part) for part in between],
            within_parts=[HostPart(*part) for part in within],
            pauses=[Pause(*pause) for pause in pauses],
        )
    return TraceSummary(**fields)


def _intervals(steps: Sequence[Marker]) -> list[float]:
    starts = sorted(step.start for step in steps)
    return [(b - a) / 1e6 for a, b in itertools.pairwise(starts)]


def _operations(
    threads: Iterable[Iterable[Event]], timeline: DeviceTimeline
) -> tuple[list[Operation], list[Operation]]:
    """Return the host's own operations, and the operations of compiled programs on its threads."""
    host: dict[tuple[str, str], list[float]] = defaultdict(list)
    device: dict[tuple[str, str], list[float]] = defaultdict(list)
    is_compiled: dict[str, bool] = {}
    is_of_device: dict[str, bool] = {}
    for events in threads:
        for event, spans in self_times(events):
            name = event.name
            if name not in is_compiled:
                keys = {key for key, _ in event.stats}
                is_compiled[name] = "hlo_op" in keys
                is_of_device[name] = "device_ordinal" in keys
            stats = dict(event.stats) if is_of_device[name] or is_compiled[name] else {}
            if is_of_device[name]:
                timeline.add_host_event(name, stats, spans)
            if is_compiled[name]:
                program = "{}({})".format(stats.get("hlo_module"), stats.get("program_id"))
                device[name, program].append(length(spans))
            else:
                host[name, ""].append(length(spans))
    return _totals(host), _totals(device)


def _totals(times: Mapping[tuple[str, str], list[float]]) -> list[Operation]:
    return [
        Operation(name, program, "", len(self_ns), sum(self_ns) / 1e6)
        for (name, program), self_ns in times.items()
    ]


def _longest_first(operations: Iterable[Operation]) -> list[Operation]:
    return sorted(operations, key=lambda op: -op.ms)
