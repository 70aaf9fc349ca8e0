"""Texts for a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return a line without control characters: they have escapes. A file may hold any name and text.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> counted(1, "run"), counted(1200, "point")
        ('1 run', '1,200 points')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
