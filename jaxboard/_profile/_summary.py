"""What a trace says: the times of its steps, and the operations that took longest.

In a process of its own: reading a large trace takes Python seconds, in which the training would share
its interpreter's lock; and xprof stays out of the training's process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from jax.profiler import ProfileData

from jaxboard._errors import ProfileError
from jaxboard._host.losses import describe

Op: TypeAlias = tuple[str, int, float]
"""Name, how often, and the time it took itself (without what ran within it), in milliseconds."""


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


def summarize_apart(file: str, timeout: float) -> Summary:
    """Reads an ``.xplane.pb`` in another process, of low priority.

    Raises:
        ProfileError: it failed, or took too long.
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
        return Summary(**json.loads(done.stdout))
    except subprocess.CalledProcessError as fault:
        last = fault.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ProfileError(f"reading it failed: {''.join(last)}") from fault
    except (OSError, ValueError, subprocess.TimeoutExpired) as fault:
        raise ProfileError(f"reading it failed: {describe(fault)}") from fault


def main() -> None:
    """Prints, as JSON, the summary of the file that is named on the command line."""
    with contextlib.suppress(AttributeError, OSError):  # Windows has no nice().
        os.nice(10)
    json.dump(dataclasses.asdict(summarize(sys.argv[1])), sys.stdout)


def summarize(file: str) -> Summary:
    """Reads an ``.xplane.pb``."""
    planes = list(ProfileData.from_file(file).planes)
    lines = [
        list(line.events)
        for plane in planes
        if plane.name.startswith("/host:")
        for line in plane.lines
    ]
    steps = sorted(step for events in lines for step in _steps(events))
    host, device = _operations(lines)
    source: str | None = "trace"
    if any(plane.name.startswith(("/device:GPU", "/device:TPU")) for plane in planes):
        device, source = _accelerator(file)
    return Summary(steps, host, device, source)


def _steps(events: Iterable[Any]) -> Iterator[tuple[int, float]]:
    """The step markers on a thread, of nested ones the outermost."""
    end = -1.0
    for event in sorted(events, key=_order):
        if event.start_ns >= end:
            stats = dict(event.stats)
            if "step_num" in stats and stats.get("_r"):
                end = event.start_ns + event.duration_ns
                yield int(stats["step_num"]), event.duration_ns / 1e6


def _operations(lines: Iterable[Iterable[Any]]) -> tuple[list[Op], list[Op]]:
    """What the threads of a host did, and what among it are operations of a program."""
    totals: tuple[dict[str, list[float]], ...] = (defaultdict(list), defaultdict(list))
    compiled: dict[str, bool] = {}
    for events in lines:
        for name, own, event in _own_times(events):
            if name not in compiled:
                compiled[name] = any(key == "hlo_op" for key, _ in event.stats)
            totals[compiled[name]][name].append(own)
    host, device = (
        _sorted((n, len(t), sum(t) / 1e6) for n, t in total.items()) for total in totals
    )
    return host, device


def _own_times(events: Iterable[Any]) -> Iterator[tuple[str, float, Any]]:
    """Name and nanoseconds of each event on one line, without the time of events within it."""
    # XLA marks the end of an operation by an event of its own, "end: NAME".
    spans = [e for e in events if e.duration_ns > 0 and not e.name.startswith("end: ")]
    own = [event.duration_ns for event in spans]
    around: list[int] = []
    order = sorted(range(len(spans)), key=lambda i: _order(spans[i]))
    for i in order:
        start = spans[i].start_ns
        while around and start >= spans[around[-1]].start_ns + spans[around[-1]].duration_ns:
            around.pop()
        if around:
            own[around[-1]] -= spans[i].duration_ns
        around.append(i)
    for i in order:
        yield spans[i].name, max(own[i], 0.0), spans[i]


def _order(event: Any) -> tuple[float, float]:
    return event.start_ns, -event.duration_ns


def _sorted(operations: Iterable[Op]) -> list[Op]:
    return sorted(operations, key=lambda op: -op[2])


# --- Accelerators: xprof knows how their planes are to be read. ------------------------------------

_TOOLS = (
    ("hlo_stats", "hlo_op_name", "total_self_time"),
    # Where CUDA graphs hide the operations there are at least kernels (openxla/xprof#3070).
    ("kernel_stats", "kernel_name", "total_duration_us"),
)


def _accelerator(file: str) -> tuple[list[Op], str | None]:
    try:
        from xprof.convert import raw_to_tool_data as xprof
    except ImportError:
        return [], None
    host = os.path.basename(file).removesuffix(".xplane.pb")
    for tool, name, microseconds in _TOOLS:
        data, _ = xprof.xspace_to_tool_data(
            [file], tool, {"use_saved_result": False, "hosts": [host]}
        )
        rows = _rows(json.loads(data or "{}"))
        if rows:
            totals: dict[str, tuple[int, float]] = defaultdict(lambda: (0, 0.0))
            for row in rows:
                count, total = totals[row[name]]
                totals[row[name]] = (
                    count + int(row["occurrences"]),
                    total + row[microseconds] / 1e3,
                )
            return _sorted((name, count, total) for name, (count, total) in totals.items()), tool
    return [], _TOOLS[0][0]


def _rows(table: Any) -> list[dict[str, Any]]:
    """The rows of a table as xprof's tools give it."""
    table = table[0] if isinstance(table, list) else table
    names = [column["id"] for column in table.get("cols", ())]
    return [
        dict(zip(names, (cell["v"] for cell in row["c"]), strict=True))
        for row in table.get("rows", ())
    ]
