"""Text for a terminal: names and texts in event files may hold control characters, such as those that move the cursor."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return a text of one line with its control characters as escape sequences of Python.

    Example:
        >>> printable("loss\x1b[2J")
        'loss\\x1b[2J'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
