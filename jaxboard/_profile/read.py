"""Reading a trace: the times of its steps, and the operations that took longest.

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
from typing import Any

from jax.profiler import ProfileData

from jaxboard._errors import ProfileError
from jaxboard._log import describe
from jaxboard._profile.summary import Op, Summary

_OWN = "jit_jaxboard_barrier"
"""The program that runs for the sake of the profile."""


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
        read = json.loads(done.stdout)
        for operations in "host", "device":
            read[operations] = [Op(*fields) for fields in read[operations]]
        return Summary(**read)
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
    try:
        from jaxboard._profile import xprof
    except ImportError:
        xprof = None
    if any(plane.name.startswith(("/device:GPU", "/device:TPU")) for plane in planes):
        source, device = (None, []) if xprof is None else xprof.operations(file)
    elif xprof is not None:
        device = _with_scopes(device, xprof.scopes(file, {op.program for op in device}))
    # A program is known by its name and a number; the number is xprof's.
    device = [op._replace(program=op.program.partition("(")[0]) for op in device]
    device = [op for op in device if op.program != _OWN]
    return Summary(steps, _sorted(host), _sorted(device), source)


def _with_scopes(operations: list[Op], scopes: dict[tuple[str, str], str]) -> list[Op]:
    return [op._replace(scope=scopes.get((op.program, op.name), "")) for op in operations]


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
    host: dict[tuple[str, str], list[float]] = defaultdict(list)
    device: dict[tuple[str, str], list[float]] = defaultdict(list)
    compiled: dict[str, bool] = {}
    for events in lines:
        for event, own in _own_times(events):
            name = event.name
            if name not in compiled:
                compiled[name] = any(key == "hlo_op" for key, _ in event.stats)
            if compiled[name]:
                stats = dict(event.stats)
                program = "{}({})".format(stats.get("hlo_module"), stats.get("program_id"))
                device[name, program].append(own)
            else:
                host[name, ""].append(own)
    return _totals(host), _totals(device)


def _totals(times: dict[tuple[str, str], list[float]]) -> list[Op]:
    return [
        Op(name, program, "", len(own), sum(own) / 1e6) for (name, program), own in times.items()
    ]


def _own_times(events: Iterable[Any]) -> Iterator[tuple[Any, float]]:
    """Each event on one line, and its nanoseconds without those of the events within it."""
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
        yield spans[i], max(own[i], 0.0)


def _order(event: Any) -> tuple[float, float]:
    return event.start_ns, -event.duration_ns


def _sorted(operations: Iterable[Op]) -> list[Op]:
    return sorted(operations, key=lambda op: -op.ms)
