"""A warning for images whose floats were clipped, found when the flusher makes their points."""

from __future__ import annotations

import dataclasses

from jaxboard._host.complete_points import Point
from jaxboard._log import logger
from jaxboard._reduce.image import ClippedImages
from jaxboard.records import Record

CLIPPED = (
    "{}: pixels outside of 0 to 1 were clipped; the values reach from {:.4g} to {:.4g}. Pass "
    "range=(low, high) to show all of them, or range=(0, 1) if clipping is intended."
)


class ClippingLog:
    """Logs each tag once. Used by one thread, the flusher, where a warning must not raise.

    Args:
        name: the run, for messages.
    """

    def __init__(self, name: str = "run"):
        self._name = name
        self._logged: set[str] = set()

    def plain(self, point: Point) -> Point:
        """Return a point as sinks receive it, and log that images were clipped."""
        if not isinstance(point, Record) or not isinstance(point.value, ClippedImages):
            return point
        images = point.value
        if point.tag not in self._logged:
            self._logged.add(point.tag)
            text = CLIPPED.format(f"image {point.tag!r}", images.low, images.high)
            logger.warning("jaxboard, run %s: %s", self._name, text)
        return dataclasses.replace(point, value=images.images)
