"""The limits of MLflow: the names that it accepts, and requests that it accepts in part."""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

_MOST_METRICS = 1000
"""Most metrics in one request."""


def metric_name(name: str) -> str:
    """Return the name of a metric, a parameter or an artifact."""
    allowed = re.sub(r"[^\w\-. :/]", "_", name)
    parts = [part for part in allowed.split("/") if part.strip(". ")]
    return "/".join(parts)[:250].rstrip("/") or "_"


def image_key(name: str) -> str:
    """Return the key of an image, which becomes a part of a file name."""
    return re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)[:100]


def requests(metrics: Iterable[Any]) -> Iterator[list[Any]]:
    """Yield the metrics of each request."""
    rest = iter(metrics)
    while part := list(itertools.islice(rest, _MOST_METRICS)):
        yield part


def log_params(
    values: Mapping[str, object],
    log: Callable[[str, object], object],
    is_machine_fault: Callable[[Exception], bool],
) -> None:
    """Log each parameter, also those that follow one that MLflow refuses: its text is too long, for example.

    Args:
        values: the parameters.
        log: logs one parameter.
        is_machine_fault: whether an error may be gone at the next attempt.

    Raises:
        Exception: a machine fault, immediately; the last refusal, after all parameters.
    """
    refused: Exception | None = None
    for name, value in values.items():
        try:
            log(metric_name(name), value)
        except Exception as error:
            if is_machine_fault(error):
                raise
            refused = error
    if refused is not None:
        raise refused
