"""The values of records as MLflow takes them, within its limits of names and requests."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from jaxboard.records import Record
from jaxboard.sinks._tracker_values import Rows

_MAX_METRICS = 1000
"""Most metrics in one request."""

_REFUSED = "INVALID_PARAMETER_VALUE"


def metric_name(name: str) -> str:
    """Return the name of a metric, a parameter or an artifact."""
    allowed = re.sub(r"[^\w\-. :/]", "_", name)
    parts = [part for part in allowed.split("/") if part.strip(". ")]
    return "/".join(parts)[:250].rstrip("/") or "_"


def metrics(make: Callable[..., Any], names: Sequence[str], rows: Rows) -> Iterator[list[Any]]:
    """Yield the metrics of each request, made by ``mlflow.entities.Metric``."""
    rest = (
        make(name, value, _milliseconds(wall_time), step)
        for step, wall_time, values in rows
        for name, value in zip(names, values, strict=True)
    )
    while part := list(itertools.islice(rest, _MAX_METRICS)):
        yield part


def image_options(name: str, record: Record) -> dict[str, Any]:
    """Return the options of ``MlflowClient.log_image``. The key becomes a part of a file name."""
    return {
        "key": re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:100],
        "step": record.step,
        "timestamp": _milliseconds(record.wall_time),
        "synchronous": True,
    }


def is_refusal(error: Exception) -> bool:
    """Return whether MLflow refuses a value, and would refuse it again. Errors of other libraries count as refusals."""
    return getattr(error, "error_code", _REFUSED) == _REFUSED


def _milliseconds(wall_time: float) -> int:
    """Return a timestamp. MLflow accepts none before 1970."""
    return max(0, int(1000 * wall_time))
