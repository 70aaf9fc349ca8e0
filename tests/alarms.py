"""The text entries by which jaxboard raises an alarm. Programs without a fault have none."""

from __future__ import annotations

from collections.abc import Iterable

_TABLES = ("compile", "cost", "memory", "program", "processes", "time")
"""The first parts of the tags, below ``jaxboard/``, of texts that every run with telemetry may have."""


def alarms(tags: Iterable[str]) -> list[str]:
    """Return the tags of alarms among those of text entries: a text of jaxboard that is none of its tables is an alarm."""
    own = [tag.split("/") for tag in tags if tag.startswith("jaxboard/")]
    return sorted("/".join(parts) for parts in own if parts[1] not in _TABLES)
