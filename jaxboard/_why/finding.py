"""A finding: one thing that explains why a run is slow, or why it broke."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Figure: TypeAlias = "str | float | Sequence[Figure] | Mapping[str, Figure] | None"
"""A figure of a finding, as JSON stores it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One finding about a run.

    Attributes:
        section: a short name that programs may compare, such as ``"time"``.
        title: the headline, such as ``"Where the time went"``.
        sentence: the finding in one plain sentence, with its numbers.
        step: the step that it concerns; None for the whole run.
        figures: its numbers by name, for programs.
        details: more lines of Markdown, or "".
    """

    section: str
    title: str
    sentence: str
    step: int | None = None
    figures: Mapping[str, Figure] = dataclasses.field(default_factory=dict)
    details: str = ""
