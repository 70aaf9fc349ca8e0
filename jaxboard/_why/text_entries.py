"""Sections that show text entries of the run: non-finite values, layers, spikes, recompiles, out of memory, processes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from jaxboard._why.evidence import Entry, Evidence
from jaxboard._why.finding import Finding

_MAX_ENTRIES = 5
"""Entries of one kind that are shown. The first ones are nearest to the cause."""


def nonfinite(evidence: Evidence) -> Iterator[Finding]:
    """Yield the values that were NaN or infinite, and the operation that made the first one."""
    yield from _shown(evidence, "nonfinite", "NaN or infinite values")
    yield from _shown(evidence, "autopsy", "The operation that made them")


def out_of_memory(evidence: Evidence) -> Iterator[Finding]:
    """Yield the calls that ran out of memory."""
    yield from _shown(evidence, "out_of_memory", "Out of memory")


def layers(evidence: Evidence) -> Iterator[Finding]:
    """Yield the layers that died, exploded or drifted."""
    yield from _shown(evidence, "health", "Health of layers")


def spikes(evidence: Evidence) -> Iterator[Finding]:
    """Yield the spikes of scalars, with the arrays that were kept, and the findings of the rules of the run."""
    yield from _shown(evidence, "spikes", "Spike")
    yield from _shown(evidence, "alerts", "Alert")


def processes(evidence: Evidence) -> Iterator[Finding]:
    """Yield the process that the others wait for, the slowest one, and programs that differ."""
    yield from _shown(evidence, "processes", "Processes of the job")


def recompiles(evidence: Evidence) -> Iterator[Finding]:
    """Yield the calls that JAX compiled again, with the arguments that changed."""
    yield from _shown(evidence, "recompiles", "Compiled again")


def _shown(evidence: Evidence, tag: str, title: str) -> Iterator[Finding]:
    entries = evidence.entries_below(tag)
    for entry in entries[:_MAX_ENTRIES]:
        yield _finding(entry, tag, title, len(entries))


def _finding(entry: Entry, section: str, title: str, count: int) -> Finding:
    headline, _, details = entry.text.strip().partition("\n")
    figures = {"tag": entry.tag, "entries": count}
    return Finding(section, title, plain(headline), entry.step, figures, details.strip("\n"))


def plain(markdown: str) -> str:
    """Return a line of Markdown without the marks of bold text and code.

    Example:
        >>> plain("**Not finite:** `loss`.")
        'Not finite: loss.'
    """
    return re.sub(r"\*\*|`", "", markdown).strip()
