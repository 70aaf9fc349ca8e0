"""The monitor that warns when a run has more tags than TensorBoard shows quickly."""

from __future__ import annotations

from collections.abc import Callable

from jaxboard._host.complete_points import Assembled, Composed
from jaxboard._log import logger
from jaxboard.records import Record, Scalars

MANY = 5000
"""More tags than these are slow to open: on a busy machine with two cores, the Time Series tab of a run with 1,000 tags shows
its first chart after 6 s, with 4,000 after 12 s, with 16,000 after up to 20 s."""


class TagCountMonitor:
    """Counts the tags of all runs in a directory. Used by one thread, the flusher.

    Args:
        run: the name of the run, for messages.

    Attributes:
        found: nothing.
    """

    def __init__(self, run: str):
        self.found = set[str]()
        self._name = run
        self._columns: set[tuple[str, tuple[str, ...]]] = set()
        self._tags: set[tuple[str, str]] = set()
        self._has_warned = False

    def start(self, settle: Callable[[float], object]) -> None:
        """Prepare for the first points; see :meth:`BatchMonitor.start`."""

    def observe(self, assembled: Assembled) -> list[Record]:
        """Note the tags of these points."""
        if self._has_warned:
            return []
        for item in assembled.items:
            if isinstance(item, Scalars):
                self._note(item.run, item.tags, item)
            else:
                self._tags.add((item.run, item.tag))
        for point in assembled.norms:
            self._note(point.run, (point.tag, *point.norms.names), point)
        for point in assembled.health:
            self._note(point.run, (point.tag, *point.health.table.layers), point)
        if len(self._tags) > MANY:
            self._has_warned = True
            self._warn()
            self._columns, self._tags = set(), set()
        return []

    def finish(self) -> list[Record]:
        """Return nothing."""
        return []

    def _note(self, run: str, columns: tuple[str, ...], point: Scalars | Composed) -> None:
        """Note the tags of a point of several columns, unless a point with the same columns was noted before."""
        if (run, columns) not in self._columns:
            self._columns.add((run, columns))
            row = point if isinstance(point, Scalars) else point.scalars()
            self._tags.update((run, tag) for tag in row.tags)

    def _warn(self) -> None:
        counts: dict[str, int] = {}
        for _, tag in self._tags:
            group = tag.partition("/")[0]
            counts[group] = counts.get(group, 0) + 1
        largest = sorted(counts, key=lambda group: -counts[group])[:3]
        listed = ", ".join(f"{counts[group]} below {group!r}" for group in largest)
        logger.warning(
            "jaxboard, run %s: %d tags so far, %s. TensorBoard takes long to show more than %d. Report fewer: "
            "jaxboard.health shows all layers in one image, and watch(what=...) selects statistics.",
            self._name,
            len(self._tags),
            listed,
            MANY,
        )
