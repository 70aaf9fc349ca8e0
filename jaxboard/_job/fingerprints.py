"""Fingerprints of traced programs: all processes of a job have to run the same ones, or they wait for each other."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from typing import NamedTuple

_ADDRESS = re.compile(r"0x[0-9a-f]{6,}")
_SET = re.compile(r"frozenset\(\{([^{}]*)\}\)")
_MAX_CHARACTERS = 300


class Program(NamedTuple):
    """A traced program: the name of its function, and its number among the programs of that function."""

    name: str
    number: int


class Difference(NamedTuple):
    """The first line in which two texts differ.

    Attributes:
        line: its number, from 1.
        expected: the line of the first text; "" after its end.
        found: the line of the second one.
    """

    line: int
    expected: str
    found: str


def program_text(jaxpr: object) -> str:
    """Return the text of a jaxpr without what differs between processes: addresses, and the order of sets."""
    text = _ADDRESS.sub("0x", str(jaxpr))
    return _SET.sub(lambda found: f"frozenset({{{', '.join(sorted(found[1].split(', ')))}}})", text)


def fingerprint(text: str) -> str:
    """Return a fingerprint of a text: 16 characters."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def numbered(programs: list[list[str]]) -> dict[Program, str]:
    """Return the fingerprint of each program of a process, from names and fingerprints in order.

    Example:
        >>> [tuple(program) for program in numbered([["f", "1a"], ["g", "2b"], ["f", "3c"]])]
        [('f', 0), ('g', 0), ('f', 1)]
    """
    counts = Counter[str]()
    found: dict[Program, str] = {}
    for name, mark in programs:
        found[Program(name, counts[name])] = mark
        counts[name] += 1
    return found


def first_difference(expected: str, found: str) -> Difference | None:
    r"""Return the first line in which two texts differ, None if they are equal.

    Example:
        >>> first_difference("a\nb", "a\nc")
        Difference(line=2, expected='b', found='c')
    """
    lines = itertools.zip_longest(expected.splitlines(), found.splitlines(), fillvalue="")
    for number, (one, other) in enumerate(lines, 1):
        if one != other:
            return Difference(number, *(_shortened(line, one, other) for line in (one, other)))
    return None


def _shortened(line: str, *pair: str) -> str:
    """Return a part of a line that starts shortly before the place where the pair differs, if the line is long."""
    line, (one, other) = line.strip(), (text.strip() for text in pair)
    if len(line) <= _MAX_CHARACTERS:
        return line
    common = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    start = max(0, common - _MAX_CHARACTERS // 3)
    return ("…" if start else "") + line[start : start + _MAX_CHARACTERS]
