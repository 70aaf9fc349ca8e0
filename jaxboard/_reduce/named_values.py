"""Values of one report that are points of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from jaxboard.records import Kind


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class NamedValues:
    """Several values of one report. Each is a point with the tag ``tag/name``.

    Attributes:
        kind: the kind of the points.
        items: the name and the value of each.
    """

    kind: Kind
    items: tuple[tuple[str, Any], ...]

    def tagged(self, tag: str) -> Iterator[tuple[str, Any]]:
        """Yield the tag and the value of each point."""
        for name, value in self.items:
            yield f"{tag}/{name}", value
