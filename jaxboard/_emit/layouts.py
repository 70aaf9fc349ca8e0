"""``layout``: the charts of the dashboard of custom scalars."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from jaxboard._emit import arguments
from jaxboard._emit.reporting import report_record
from jaxboard._safe_repr import describe_object, safe_repr
from jaxboard.records import Kind, Margin

Chart: TypeAlias = (
    "str | Sequence[str] | tuple[str, str, str, str] | Sequence[tuple[str, str, str, str]]"
)
"""A chart: regular expressions of tags, or ``("margin", value, lower, upper)``, one or several."""


def layout(
    categories: Mapping[str, Mapping[str, Chart]],
    *,
    step: int | None = None,
    walltime: float | None = None,
) -> None:
    """Report which scalars share a chart in the dashboard of custom scalars. Only for plain Python.

    TensorBoard shows the last layout of a run, and merges those of several runs.

    Args:
        categories: a dict of categories, each a dict of charts by their titles. A chart is a regular expression, or a list
            of them: it has a curve for each tag that one of them matches from its beginning. Or it is ``("margin", value,
            lower, upper)``, or a list of these: the tags of a curve and of the edges of the band around it.
        step: the step of the record, instead of the last step taken.
        walltime: the time of the record, in seconds since the epoch, instead of now.

    Raises:
        ReportError: JAX is tracing, or an argument is invalid.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.layout({"losses": {"all": ["loss/.*"], "seeds": ("margin", "loss/mean", "loss/min", "loss/max")}})
        >>> records[0].value["losses"]["all"]
        ('loss/.*',)
    """
    parsed = parsed_layout(categories)
    report_record(
        "layout", Kind.LAYOUT, "layout", lambda: parsed, step=step, every=1, walltime=walltime
    )


def parsed_layout(
    categories: Mapping[str, Mapping[str, Chart]],
) -> dict[str, dict[str, tuple[str | Margin, ...]]]:
    """Return the value of a record, or raise :class:`ReportError`; see :func:`layout`."""
    return {
        title: {name: _parts(name, chart) for name, chart in charts.items()}
        for title, charts in _mapping(categories, "categories").items()
        for charts in (_mapping(charts, f"category {safe_repr(title)}"),)
    }


def _mapping(value: object, name: str) -> Mapping[str, object]:
    """Return a mapping from titles, or raise."""
    if not isinstance(value, Mapping) or not value:
        raise arguments.report_error(
            "layout",
            f"expected {name} to be a dict that is not empty, got {describe_object(value)}.",
        )
    titled = cast("Mapping[str, object]", value)
    for title in titled:
        arguments.check_tag(title)
    return titled


def _parts(name: str, chart: object) -> tuple[str | Margin, ...]:
    """Return the parts of a chart, all regular expressions or all margins."""
    listed = chart if isinstance(chart, list | tuple) else [chart]
    parts = [chart] if _is_margin(listed) else list(cast("Sequence[object]", listed))
    if parts and all(map(_is_margin, parts)):
        return tuple(Margin(*cast("Sequence[str]", part)[1:]) for part in parts)
    is_margin = isinstance(chart, tuple) and parts[:1] == ["margin"]
    if not parts or is_margin or not all(isinstance(part, str) for part in parts):
        raise arguments.report_error(
            "layout",
            f"expected chart {safe_repr(name)} to be regular expressions of tags, or ('margin', value, lower, upper), got "
            f"{safe_repr(chart)}.",
        )
    for part in cast("list[str]", parts):
        try:
            re.compile(part)
        except re.error as error:
            raise arguments.report_error(
                "layout",
                f"chart {name!r}: {part!r} is not a regular expression: {error}. re.escape(tag) matches a tag exactly.",
            ) from error
        arguments.check_tag(part)
    return tuple(cast("list[str]", parts))


def _is_margin(part: object) -> bool:
    items = cast("Sequence[object]", part) if isinstance(part, list | tuple) else ()
    return len(items) == 4 and items[0] == "margin" and all(isinstance(tag, str) for tag in items)
