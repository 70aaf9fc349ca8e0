"""Texts of values and names, for messages and for sinks, whatever these values are."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Protocol

_MAX_CHARACTERS = 200
"""Most characters of a value in a message."""


def safe_repr(value: object) -> str:
    """Return ``repr(value)``, shortened, or the type of a value whose ``repr`` raises.

    Example:
        >>> safe_repr("text"), safe_repr(10**5000)
        ("'text'", '<int object>')
    """
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__} object>"
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 3]}..."


def describe_object(value: object) -> str:
    """Return a much shortened value and its type, for a value of a wrong type."""
    try:
        text = reprlib.repr(value)
    except Exception:
        text = safe_repr(value)
    return f"{text} ({type(value).__name__})"


class HasType(Protocol):
    """An array, or the type of one."""

    @property
    def dtype(self) -> object: ...

    @property
    def shape(self) -> Sequence[int]: ...


def describe_array(array: HasType) -> str:
    """Return the dtype and the shape of an array as JAX prints them.

    Example:
        >>> import numpy as np
        >>> describe_array(np.zeros((2, 3)))
        'float64[2,3]'
    """
    return f"{array.dtype}[{','.join(map(str, array.shape))}]"


def first_names(names: Sequence[str], count: int) -> str:
    """Return the first ``count`` names as text, with the number of the others.

    Example:
        >>> first_names(["a", "b", "c"], 2)
        'a, b and 1 more'
    """
    more = len(names) - count
    return ", ".join(names[:count]) + (f" and {more:,} more" if more > 0 else "")


def encodable(text: str) -> str:
    """Return a text with escapes for what UTF-8 cannot hold, such as bytes in a file name."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    r"""Return a line without control characters: they have escapes. A tag and a file may hold any.

    Example:
        >>> printable("a\x1b[31mb")
        'a\\x1b[31mb'
    """
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
