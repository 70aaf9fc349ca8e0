"""The summary of a trace as records of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from jaxboard._profile.comparison import Comparison
from jaxboard._profile.notices import INSTALL_XPROF, format_steps
from jaxboard._profile.summary import Operation, TraceSummary
from jaxboard._profile.verdict import shares, verdict
from jaxboard.records import Histogram, Kind, Record

_MAX_ROWS = 10
"""Operations in a table."""

_MAX_CURVES = 5
"""Operations that have a scalar."""

_BUCKETS = 30
"""Buckets of the histogram of step times."""

_HEADER = ["share", "self time (ms)", "count", "operation", "scope", "program"]


def summary_records(
    summary: TraceSummary,
    step: int,
    mean_ms: float | None = None,
    *,
    synchronized: bool = True,
    comparison: Comparison | None = None,
) -> Iterator[Record]:
    """Yield the scalars and tables of a summary, under the tags ``profile/...``.

    Args:
        summary: the summary of the trace.
        step: the last profiled step.
        mean_ms: the mean step time by the clock in milliseconds, for steps that are not synchronized.
        synchronized: whether each step waited for its results. Otherwise its marker only covers dispatch.
        comparison: the comparison with the previous profile; None if there is none.
    """
    now = time.time()
    if summary.steps:
        text = verdict(summary, comparison, synchronized=synchronized)
        yield _text("verdict", step, now, text)
    if summary.steps and synchronized:
        yield from _step_times(summary.steps, step, now)
    elif mean_ms is not None:
        yield _scalar("step_ms_mean", step, now, mean_ms)
    if summary.intervals:
        histogram = _histogram(summary.intervals)
        yield Record(Kind.HISTOGRAM, "profile/step_interval_ms", step, now, histogram)
    yield from _time_scalars(summary, comparison, step, now)
    for place, operations in ("device", summary.device), ("host", summary.host):
        total = sum(op.ms for op in operations)
        if total:
            for op in operations[:_MAX_CURVES]:
                name = f"{op.program}/{op.name}" if op.program else op.name
                yield _scalar(f"{place}_ops_percent/{name}", step, now, 100 * op.ms / total)
            yield _text(f"{place}_ops", step, now, _table(operations, total))
    if summary.source is None:
        hint = f"Reading the operations of accelerators needs xprof: `{INSTALL_XPROF}`."
        yield _text("device_ops", step, now, hint)


def _time_scalars(
    summary: TraceSummary, comparison: Comparison | None, step: int, now: float
) -> Iterator[Record]:
    if summary.time is not None:
        for name, percent in shares(summary.time).items():
            yield _scalar(f"time_percent/{name}", step, now, percent)
        communication = 100 * summary.time.communication / summary.time.whole
        yield _scalar("communication_percent", step, now, communication)
    if comparison is not None:
        yield _scalar("step_time_ratio", step, now, comparison.ratio)
    for name, percent in sorted(summary.metrics.items()):
        yield _scalar(f"xprof/{name}", step, now, percent)


def _histogram(values: Sequence[float]) -> Histogram:
    array = np.asarray(values, np.float64)
    low, high = array.min(), array.max()
    if low == high:
        edges, counts = np.array([low, high]), np.array([len(array)])
    else:
        counts, edges = np.histogram(array, _BUCKETS)
    return Histogram(edges, counts, sum=float(array.sum()), sum_squares=float((array**2).sum()))


def _step_times(steps: list[tuple[int, float]], step: int, now: float) -> Iterator[Record]:
    for number, ms in steps:
        yield _scalar("step_ms", number, now, ms)
    shortest, longest = (choose(steps, key=lambda step: step[1]) for choose in (min, max))
    mean = sum(ms for _, ms in steps) / len(steps)
    for name, ms in ("mean", mean), ("min", shortest[1]), ("max", longest[1]):
        yield _scalar(f"step_ms_{name}", step, now, ms)
    table = [
        ["step time", "ms", "step"],
        ["mean", f"{mean:.3f}", format_steps([number for number, _ in steps])],
        ["min", f"{shortest[1]:.3f}", f"{shortest[0]}"],
        ["max", f"{longest[1]:.3f}", f"{longest[0]}"],
    ]
    yield _text("step_times", step, now, table)


def _scalar(tag: str, step: int, now: float, value: float) -> Record:
    return Record(Kind.SCALAR, f"profile/{tag}", step, now, np.float64(value))


def _text(tag: str, step: int, now: float, value: str | list[list[str]]) -> Record:
    return Record(Kind.TEXT, f"profile/{tag}", step, now, value)


def _table(operations: Sequence[Operation], total: float) -> list[list[str]]:
    rows = [
        [
            f"{100 * op.ms / total:.1f} %",
            f"{op.ms:.3f}",
            f"{op.executions}",
            op.name,
            op.scope,
            op.program,
        ]
        for op in operations[:_MAX_ROWS]
    ]
    used_columns = [i for i in range(len(_HEADER)) if any(row[i] for row in rows)]
    return [[row[i] for i in used_columns] for row in [_HEADER, *rows]]
