"""Programs that report, and the values that each of them has to report.

A program is called with ``report(tag, value)`` and its arguments. The expected values are those that plain
Python reports when it runs the program by hand: for each tag a list of executions of the report, and for
each execution the values of its lanes. ``[[1, 2, 3]]`` is one execution under a ``vmap`` of three lanes,
``[[1], [2], [3]]`` three iterations of a loop. Values are small integers, so that every reduction of them
is exact.

In a lambda, ``(report("x", x), y)[1]`` reports ``x`` and returns ``y``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

Observed: TypeAlias = Mapping[str, Sequence[Sequence[float]]]
Report: TypeAlias = Callable[[str, Any], None]


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A program and the values that it reports.

    Attributes:
        name: the name of the program's function.
        program: the function, called with ``report`` and ``args``.
        args: the arguments of the program.
        observed: the values that each call reports.
        unharvested: the values that callbacks report without ``instrument``, if they differ.
        unordered: whether those callbacks arrive in no particular order, which leaves ``"last"`` undefined.
        family: the section of the table of guarantees.
        note: a remark for that table about a value that readers may not expect.
    """

    name: str
    program: Callable[..., Any]
    args: tuple[Any, ...]
    observed: Observed
    unharvested: Observed | None
    unordered: bool
    family: str
    note: str


registered: list[Case] = []
"""The cases of the modules that are imported. ``conformance.cases`` imports all of them."""


def add_case(
    *args: Any,
    observed: Observed,
    unharvested: Observed | None = None,
    unordered: bool = False,
    family: str,
    note: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that registers a program under the name of its function."""

    def add(program: Callable[..., Any]) -> Callable[..., Any]:
        name = program.__name__
        registered.append(Case(name, program, args, observed, unharvested, unordered, family, note))
        return program

    return add


def executions(*values: float) -> list[list[float]]:
    """Return executions of one value each."""
    return [[value] for value in values]


X = np.float32(2.0)
XS = np.array([3.0, 1.0, 2.0, 6.0], np.float32)
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
