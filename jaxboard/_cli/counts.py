"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "run"), counted(1200, "point")
        ('1 run', '1,200 points')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
