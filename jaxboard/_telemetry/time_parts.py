"""The parts into which the time of a run is divided, and the sentence that sums them up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

DEVICE = "device"
INPUT = "input"
PAUSE = "pause"
DISPATCH = "dispatch"
COMPILE = "compile"
EVALUATION = "evaluation"
CHECKPOINT = "checkpoint"
JAXBOARD = "jaxboard"
OUTSIDE = "outside"
REDONE = "redone"
STOPPED = "stopped"


class Part(NamedTuple):
    """One part of the time of a run.

    Attributes:
        name: its name in tags.
        phrase: the rest of a sentence that begins with "38 % of the time".
        color: its color in pictures, 0 to 255.
    """

    name: str
    phrase: str
    color: tuple[int, int, int]


PARTS = (
    Part(DEVICE, "computes training steps", (52, 128, 84)),
    Part(INPUT, "waits for input", (217, 95, 14)),
    Part(PAUSE, "passes in single long pauses of the loop", (253, 174, 107)),
    Part(DISPATCH, "dispatches steps", (250, 218, 94)),
    Part(COMPILE, "compiles", (106, 81, 163)),
    Part(EVALUATION, "evaluates", (49, 130, 189)),
    Part(CHECKPOINT, "saves and restores checkpoints", (140, 86, 75)),
    Part(JAXBOARD, "is spent in jaxboard", (0, 150, 160)),
    Part(OUTSIDE, "is before the first step and after the last one", (189, 193, 198)),
    Part(REDONE, "is lost to steps that were trained again after a restart", (203, 24, 29)),
    Part(STOPPED, "is lost while the program was stopped", (252, 146, 146)),
)
"""All parts. Together they are the wall time. In pictures, the first one is at the bottom."""

NAMES = tuple(part.name for part in PARTS)
PART = {part.name: part for part in PARTS}

_LARGE = 0.05
"""The share from which a part is a cause that leads the sentence."""

_MAX_NAMED = 5
"""Most parts that the sentence names."""

_SMALLEST_NAMED = 0.01
"""The smallest share of a part that the sentence names."""


def shares(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each part that has any time, the largest first."""
    total = sum(seconds.values())
    found = {name: seconds[name] / total for name in NAMES if seconds.get(name, 0) > 0}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def largest_loss(seconds: Mapping[str, float]) -> str | None:
    """Return the largest part other than training, if its share is large."""
    name = next((name for name in shares(seconds) if name != DEVICE), None)
    return name if name is not None and shares(seconds)[name] >= _LARGE else None


def sentence(seconds: Mapping[str, float]) -> str:
    """Return where the time went, in one sentence.

    Example:
        >>> sentence({"device": 11.0, "input": 7.6, "compile": 1.4})
        '38 % of the time waits for input, 55 % computes training steps, 7 % compiles.'
    """
    found = shares(seconds)
    if not found:
        return "No time has passed."
    leading = largest_loss(seconds)
    first = [DEVICE] if leading is None else [leading, DEVICE]
    names = [*first, *(name for name in found if name not in first)]
    named = [name for name in names if found.get(name, 0.0) >= _SMALLEST_NAMED][:_MAX_NAMED]
    texts = [f"{_percent(found[name])} {PART[name].phrase}" for name in named]
    rest = 1 - sum(found[name] for name in named)
    if rest >= _SMALLEST_NAMED:
        texts.append(f"{_percent(rest)} is spent otherwise")
    return f"{', '.join(texts)}.".replace(" % ", " % of the time ", 1)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
