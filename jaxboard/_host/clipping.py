"""A warning for values that are not shown as they were reported, found when the flusher makes their points."""

from __future__ import annotations

import dataclasses

from jaxboard._frame import Composite
from jaxboard._host.complete_points import Point
from jaxboard._log import logger
from jaxboard._reduce.first_items import Clipped
from jaxboard.records import ConfusionMatrix, Kind, Record, ThresholdCounts

_PIXELS = (
    "pixels outside of 0 to 1 were clipped; the values reach from {:.4g} to {:.4g}. Pass "
    "range=(low, high) to show all of them, or range=(0, 1) if clipping is intended."
)
_SAMPLES = (
    "samples outside of -1 to 1 were clipped; the values reach from {:.4g} to {:.4g}. Scale them, as in "
    "x / abs(x).max(), or clip them if that is intended."
)
_COLORS = (
    "colors outside of 0 to 1 were clipped; the values reach from {:.4g} to {:.4g}. Scale them, or clip them if that "
    "is intended."
)
_NOTICES: dict[Kind | Composite, str] = {Kind.AUDIO: _SAMPLES, Kind.MESH: _COLORS}


def clipping_notice(kind: Kind | Composite, low: float, high: float) -> str:
    """Return what was clipped, and what to do.

    Args:
        kind: the kind of the report.
        low: the smallest value before clipping.
        high: the largest value before clipping.
    """
    return _NOTICES.get(kind, _PIXELS).format(low, high)


class ClippingLog:
    """Logs each tag once. Used by one thread, the flusher, where a warning must not raise.

    Args:
        name: the run, for messages.
    """

    def __init__(self, name: str = "run"):
        self._name = name
        self._logged: set[str] = set()

    def plain(self, point: Point) -> Point:
        """Return a point as sinks receive it, and log what it does not show as it was reported."""
        if not isinstance(point, Record):
            return point
        if isinstance(point.value, ThresholdCounts | ConfusionMatrix):
            problem = _problem(point.value)
            if problem is not None and point.tag not in self._logged:
                self._logged.add(point.tag)
                name = point.kind.value.replace("_", " ")
                logger.warning("jaxboard, run %s: %s %r: %s", self._name, name, point.tag, problem)
            return point
        if not isinstance(point.value, Clipped):
            return point
        clipped = point.value
        if point.tag not in self._logged:
            self._logged.add(point.tag)
            notice = clipping_notice(point.kind, clipped.low, clipped.high)
            kind = point.kind.value
            logger.warning("jaxboard, run %s: %s %r: %s", self._name, kind, point.tag, notice)
        return dataclasses.replace(point, value=clipped.value)


def _problem(counts: ThresholdCounts | ConfusionMatrix) -> str | None:
    """Return why counts do not have all samples as they were reported, or None if they have."""
    if isinstance(counts, ConfusionMatrix):
        size = len(counts.classes)
        return (
            f"some samples are left out: their label or prediction is not one of the {size} classes, 0 to {size - 1}."
            if counts.ignored
            else None
        )
    if counts.ignored:
        return "some samples are left out: their label is not one of the classes, or their prediction is NaN."
    if counts.clipped:
        return (
            "some predictions are outside of 0 to 1 and were clipped. Pass probabilities: jax.nn.sigmoid(logits), or "
            "jax.nn.softmax(logits) for several classes."
        )
    return None
