"""The cadences of a function's reports, and what is due at a step."""

from __future__ import annotations

import math
from collections.abc import Set as AbstractSet


class Cadences:
    """The cadences above 1 of a function's reports, as far as it was traced. It does not change.

    Attributes:
        all: the cadences.
        divisor: their greatest common divisor; 0 without cadences. Nothing is due at a step that it does not divide.
    """

    __slots__ = ("all", "divisor")

    def __init__(self, cadences: frozenset[int] = frozenset()):
        self.all = cadences
        self.divisor = math.gcd(*cadences)

    def including(self, cadences: AbstractSet[int]) -> Cadences:
        """Return these cadences and some more."""
        return Cadences(self.all | cadences)

    def not_due(self, step: int) -> frozenset[int]:
        """Return the cadences that are not due at a step."""
        # Nearly always decided here: at a step that the common divisor does not divide, nothing is due.
        if not self.all or step % self.divisor:
            return self.all
        return frozenset([n for n in self.all if step % n])

    def skip_due(self, last_step: int, step: int) -> bool:
        """Return whether a window that holds ``last_step`` ends before ``step`` and was never due."""
        return any(last_step % n and -(-last_step // n) != -(-step // n) for n in self.all)
