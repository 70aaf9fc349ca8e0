"""The wall times that users give to reports from plain Python, in place of the time of the report.

Points are ordered by the times of their reports: TensorBoard drops the points of a tag whose step goes back. A given time
therefore takes the place of the other one at the end, when the points are complete and in order.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import time
from collections.abc import Generator, Iterable, Iterator

import numpy as np

from jaxboard._host.complete_points import Point
from jaxboard._process import rank
from jaxboard._reduce.stack_tags import is_tag_of
from jaxboard.records import Scalars

_given: contextvars.ContextVar[float | None] = contextvars.ContextVar("given", default=None)


def given_time() -> float | None:
    """Return the wall time of the block around this call, in seconds since the epoch, or None."""
    return _given.get()


def at_walltime(walltime: float | None) -> contextlib.AbstractContextManager[None]:
    """Give the reports of a ``with`` block a wall time, in seconds since the epoch; None changes nothing."""
    return contextlib.nullcontext() if walltime is None else _given_in_block(float(walltime))


@contextlib.contextmanager
def _given_in_block(walltime: float) -> Generator[None]:
    token = _given.set(walltime)
    try:
        yield
    finally:
        _given.reset(token)


class GivenTimes:
    """The wall times that reports of a run were given, until their points are complete.

    Example:
        >>> from jaxboard.records import Kind, Record
        >>> times = GivenTimes()
        >>> with at_walltime(5.0):
        ...     reported = times.time_of_report("loss")
        >>> [point.wall_time for point in times.applied([Record(Kind.SCALAR, "loss", 0, reported, 1.0)])]
        [5.0]
    """

    def __init__(self) -> None:
        # By the time of the report: the tag and the given time.
        self._times: dict[float, tuple[str, float]] = {}

    def time_of_report(self, tag: str) -> float:
        """Return the time now, for a report that is made now, and note the wall time that it was given."""
        now = time.time()
        given = _given.get()
        if given is not None and rank.is_writer(False):
            while now in self._times:
                now = float(np.nextafter(now, np.inf))
            self._times[now] = tag, given
        return now

    def applied(self, points: Iterable[Point]) -> Iterable[Point]:
        """Return points with the times that their reports were given. A report has its points in one call."""
        return list(self._applied(points)) if self._times else points

    def _applied(self, points: Iterable[Point]) -> Iterator[Point]:
        used: set[float] = set()
        for point in points:
            times = point.wall_times.tolist() if isinstance(point, Scalars) else [point.wall_time]
            tag = point.tags[0] if isinstance(point, Scalars) else point.tag
            found = [self._find(each, tag) for each in times]
            shown = [b if a is None else a for a, b in zip(found, times, strict=True)]
            used.update(t for t, given in zip(times, found, strict=True) if given is not None)
            if shown == times:
                yield point
            elif isinstance(point, Scalars):
                yield dataclasses.replace(point, wall_times=np.array(shown))
            else:
                yield dataclasses.replace(point, wall_time=shown[0])
        for each in used:
            self._times.pop(each, None)

    def _find(self, reported: float, tag: str) -> float | None:
        """Return the time that the report of a point was given. Another report may have been made at the same time."""
        report_tag, given = self._times.get(reported, ("", None))
        return given if is_tag_of(report_tag, tag) else None
