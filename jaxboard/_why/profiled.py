"""The section about profiles: what limits the steps, and what grew since the window before."""

from __future__ import annotations

from collections.abc import Iterator

from jaxboard._read.curves import Curve
from jaxboard._why.evidence import Entry, Evidence
from jaxboard._why.finding import Figure, Finding
from jaxboard._why.text_entries import plain

VERDICT = "profile/verdict"
"""The tag of the text entries of ``jaxboard.profile``."""

_RATIO = "profile/step_time_ratio"

_SLOWER = 1.1
"""A step time that grew by less than this factor is no slowdown."""


def profiles(evidence: Evidence) -> Iterator[Finding]:
    """Yield the window with the worst slowdown, if there is one, and the last window."""
    windows = {entry.step: entry for entry in evidence.entries.get(VERDICT, ())}
    if not windows:
        return
    last = max(windows)
    worst = _slowest(evidence.curves.get(_RATIO), windows)
    if worst is not None and worst != last:
        yield _finding(
            evidence, windows[worst], "The profile with the worst slowdown", len(windows)
        )
    yield _finding(evidence, windows[last], "The last profile", len(windows))


def _slowest(ratio: Curve | None, windows: dict[int, Entry]) -> int | None:
    """Return the step of the window that is slower than the one before by the largest factor; None if none is slower."""
    if ratio is None:
        return None
    factors = {
        int(step): float(value)
        for step, value in zip(ratio.steps, ratio.values, strict=True)
        if int(step) in windows and value > _SLOWER
    }
    return max(factors, key=lambda step: factors[step]) if factors else None


def _finding(evidence: Evidence, entry: Entry, title: str, count: int) -> Finding:
    figures: dict[str, Figure] = {"tag": VERDICT, "entries": count}
    for name, curve in {
        **{
            f"{name}_percent": c
            for name, c in evidence.curves_below("profile/time_percent").items()
        },
        "communication_percent": evidence.curves.get("profile/communication_percent"),
        "step_time_ratio": evidence.curves.get(_RATIO),
    }.items():
        value = _at(curve, entry.step)
        if value is not None:
            figures[name] = value
    headline, _, details = entry.text.strip().partition("\n")
    return Finding("profile", title, plain(headline), entry.step, figures, details.strip("\n"))


def _at(curve: Curve | None, step: int) -> float | None:
    """Return the last value of a curve at a step."""
    found = [] if curve is None else curve.values[curve.steps == step]
    return float(found[-1]) if len(found) else None
