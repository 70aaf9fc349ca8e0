"""The records that an event file cannot hold: logged once for each tag and cause, and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

from jaxboard._log import logger

Lose: TypeAlias = Callable[[object, int, str], None]
"""Counts records as lost. The arguments are their tag, how many they are, and the reason as one line."""

_MAX_REASONS = 16
"""Most tags that are logged and counted separately: a program may compute its tags."""

_OTHERS = "other reports that cannot be shown"


class LostRecords:
    """The records that one sink could not write.

    A batch that is written again loses the same records again. They are therefore counted once the batch is
    flushed: until then they are unconfirmed.
    """

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, str], str] = {}
        self._unconfirmed: Counter[str] = Counter()
        self._confirmed: Counter[str] = Counter()

    def add(self, tag: object, count: int, reason: str) -> None:
        """Count records of a tag as lost, and log the first of each cause.

        Args:
            tag: the tag.
            count: how many records.
            reason: why, as one line. The part before a colon is the cause; what follows may differ each time.
        """
        name = repr(tag)
        key = name, reason.partition(":")[0]
        if key not in self._reasons and len(self._reasons) < _MAX_REASONS:
            self._reasons[key] = f"report {name}: {reason}"
            logger.error("jaxboard: report %s is lost: %s. Others are written.", name, reason)
        self._unconfirmed[self._reasons.get(key, _OTHERS)] += count

    def confirm(self) -> None:
        """Note that the records around the lost ones are written."""
        self._confirmed += self._unconfirmed
        self._unconfirmed.clear()

    def discard(self) -> None:
        """Forget the unconfirmed records: they will be written again."""
        self._unconfirmed.clear()

    def take(self) -> Mapping[str, int]:
        """Return the confirmed counts by reason, and reset them."""
        taken, self._confirmed = self._confirmed, Counter()
        return taken
