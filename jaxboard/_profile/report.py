"""What is told of a profile: a line to the user, and a summary in the run."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from jaxboard._log import logger
from jaxboard._profile.summary import Op, Summary
from jaxboard.records import Kind, Record

_ROWS = 10
_CURVES = 5
"""How many operations are listed, and how many of them have a scalar."""

XPROF = "pip install 'jaxboard-tb[profile]'"


def say(line: str) -> None:
    """Tells the user something that is no fault, unless their logging wants to hear of faults only."""
    if logger.isEnabledFor(logging.INFO) and logger.hasHandlers():
        logger.info("jaxboard: %s", line)
    elif logger.level <= logging.INFO:
        sys.stderr.write(f"jaxboard: {line}\n")


def saved(path: str, logdir: str, steps: Sequence[int], seconds: float) -> str:
    """The line about a trace that is in place."""
    size = f", {os.path.getsize(path) / 1e6:.1f} MB" if os.path.exists(path) else ""
    what = f"{len(steps)} step{'s' * (len(steps) > 1)} ({stretch(steps)})" if steps else "no steps"
    return (
        f"profiled {what}, saved in {seconds:.1f} s: {path}{size}. "
        f"Look at it in the Profile tab: {'' if has_xprof() else XPROF + ' && '}tensorboard --logdir {logdir}"
    )


def has_xprof() -> bool:
    """Whether TensorBoard has a Profile tab here. Imports nothing."""
    return find_spec("xprof") is not None


def stretch(steps: Sequence[int]) -> str:
    """The first and the last of some steps."""
    return f"{steps[0]}-{steps[-1]}" if len(steps) > 1 else f"{steps[0]}"


def records(summary: Summary, step: int, mean_ms: float | None = None) -> Iterator[Record]:
    """A summary as scalars and tables.

    Args:
        summary: what was read in the trace.
        step: the last one that was profiled.
        mean_ms: the mean of the steps' times by the clock, for where the summary has no times.
    """
    now = time.time()

    def record(kind: Kind, tag: str, value: Any, step: int = step) -> Record:
        return Record(kind, f"profile/{tag}", step, now, value)

    for number, ms in summary.steps:
        yield record(Kind.SCALAR, "step_ms", np.float64(ms), number)
    if summary.steps:
        times = [ms for _, ms in summary.steps]
        shortest, longest = (
            choose(summary.steps, key=lambda step: step[1]) for choose in (min, max)
        )
        mean = sum(times) / len(times)
        for name, value in ("mean", mean), ("min", shortest[1]), ("max", longest[1]):
            yield record(Kind.SCALAR, f"step_ms_{name}", np.float64(value))
        numbers = [number for number, _ in summary.steps]
        table = [
            ["step time", "ms", "step"],
            ["mean", f"{mean:.3f}", f"{stretch(numbers)}"],
            ["min", f"{shortest[1]:.3f}", f"{shortest[0]}"],
            ["max", f"{longest[1]:.3f}", f"{longest[0]}"],
        ]
        yield record(Kind.TEXT, "step_times", table)
    elif mean_ms is not None:
        yield record(Kind.SCALAR, "step_ms_mean", np.float64(mean_ms))
    for where, operations in ("device", summary.device), ("host", summary.host):
        total = sum(op.ms for op in operations)
        if total:
            for op in operations[:_CURVES]:
                tag = f"{where}_ops_percent/{op.program}{'/' * bool(op.program)}{op.name}"
                yield record(Kind.SCALAR, tag, np.float64(100 * op.ms / total))
            yield record(Kind.TEXT, f"{where}_ops", _table(operations, total))
    if summary.source is None:
        yield record(Kind.TEXT, "device_ops", f"What the devices did is read by xprof: `{XPROF}`.")


def _table(operations: Sequence[Op], total: float) -> list[list[str]]:
    rows = [
        [
            f"{100 * op.ms / total:.1f} %",
            f"{op.ms:.3f}",
            f"{op.times}",
            op.name,
            op.scope,
            op.program,
        ]
        for op in operations[:_ROWS]
    ]
    head = ["share", "ms, by itself", "times", "operation", "which is", "in the program"]
    # Without the columns that have nothing to say here.
    kept = [i for i in range(len(head)) if any(row[i] for row in rows)]
    return [[row[i] for i in kept] for row in [head, *rows]]
