"""The sections of an explanation, in the order in which they are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from jaxboard._log import describe, logger
from jaxboard._why import text_entries
from jaxboard._why.evidence import Evidence
from jaxboard._why.finding import Finding
from jaxboard._why.profiled import profiles
from jaxboard._why.time_spent import time_spent

Section: TypeAlias = Callable[[Evidence], Iterable[Finding]]
"""A function that finds something in what jaxboard wrote about a run. It finds nothing in a run without such data."""

SECTIONS: tuple[Section, ...] = (
    text_entries.out_of_memory,
    text_entries.nonfinite,
    text_entries.layers,
    text_entries.spikes,
    text_entries.processes,
    time_spent,
    profiles,
    text_entries.recompiles,
)
"""All sections: first the faults that break a run, then the causes of a slow one.

To add one, write a module with such a function, and list it here.
"""


def explain(evidence: Evidence) -> list[Finding]:
    """Return the findings of all sections. A section that fails is logged and left out."""
    findings: list[Finding] = []
    for section in SECTIONS:
        try:
            findings += section(evidence)
        except Exception as fault:
            logger.error(
                "jaxboard: %s of run %s failed: %s",
                section.__name__,
                evidence.run,
                describe(fault),
                exc_info=fault,
            )
    return findings
