"""The cadences of a function's reports, and what is due at a step."""

from __future__ import annotations

import itertools
import math
from collections.abc import Set as AbstractSet


class Cadences:
    """The cadences above 1 of a function's reports, as far as it was traced. It does not change.

    Attributes:
        all: the cadences.
    """

    __slots__ = ("_divisor", "all")

    def __init__(self, cadences: frozenset[int] = frozenset()):
        self.all = cadences
        self._divisor = math.gcd(*cadences)

    def including(self, cadences: AbstractSet[int]) -> Cadences:
        """Return these cadences and some more."""
        return Cadences(self.all | cadences)

    def not_due(self, step: int) -> frozenset[int]:
        """Return the cadences that are not due at a step."""
        # Nearly always decided here: at a step that the common divisor does not divide, nothing is due.
        if not self.all or step % self._divisor:
            return self.all
        return frozenset([n for n in self.all if step % n])

    def skip_due(self, last_step: int, step: int) -> bool:
        """Return whether a window that holds ``last_step`` ends before ``step`` and was never due."""
        return any(last_step % n and -(-last_step // n) != -(-step // n) for n in self.all)

    def combinations(self) -> list[frozenset[int]]:
        """Return every set of cadences that are not due on some step."""
        found = set[frozenset[int]]()
        for size in range(len(self.all) + 1):
            for due in itertools.combinations(self.all, size):
                # All of these are due on the multiples of their period; so may others be.
                period = math.lcm(*due)
                found.add(frozenset(n for n in self.all if period % n))
        return sorted(found, key=sorted)
