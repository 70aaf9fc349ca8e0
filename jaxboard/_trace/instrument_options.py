"""The options of one instrumented function, after ``instrument`` has checked them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Literal, SupportsIndex

from jaxboard._types import Array


@dataclasses.dataclass(frozen=True, slots=True)
class InstrumentOptions:
    """The arguments of :func:`instrument`.

    Attributes:
        every: the cadence of reports without one, in steps.
        step: returns the step of a call from its arguments; None for the run's own count.
        advance: whether a call takes a step.
        delivery: see :func:`instrument`.
        gate: see :func:`instrument`.
        stream: iterations per chunk of a streamed loop; None if loops are not streamed.
        progress: whether streamed loops show a progress bar.
        seed_runs: whether each lane of a ``vmap`` is a run of its own.
        exact: whether the results come from a program without reports.
        name: the function's name in traces and messages; None for its own.
    """

    every: int
    step: Callable[..., SupportsIndex | Array] | None
    advance: bool
    delivery: Literal["auto", "output", "callback"]
    gate: Literal["compile", "cond"]
    stream: int | None
    progress: bool
    seed_runs: bool
    exact: bool
    name: str | None
