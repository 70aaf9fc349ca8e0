"""The options of one instrumented function, and their checks."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from typing import Literal, SupportsIndex

from jaxboard._check import checked_bool, is_one_of, positive_int
from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr
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


def checked_options(
    *,
    every: SupportsIndex,
    step: Literal["auto"] | Callable[..., SupportsIndex | Array],
    advance: bool,
    delivery: Literal["auto", "output", "callback"],
    gate: Literal["compile", "cond"],
    stream: SupportsIndex | None,
    progress: bool,
    runs: Literal["vmap"] | None,
    exact: bool,
    name: str | None,
) -> InstrumentOptions:
    """Return the arguments of :func:`instrument` as options.

    Raises:
        UsageError: an argument is invalid, or two cannot be combined.
    """
    if not is_one_of(step, ("auto",)) and not callable(step):
        raise UsageError(
            f"instrument(step={safe_repr(step)}): expected 'auto' or a function of the arguments."
        )
    if not is_one_of(delivery, ("auto", "output", "callback")):
        raise UsageError(
            f"instrument(delivery={safe_repr(delivery)}): expected 'auto', 'output' or 'callback'."
        )
    if not is_one_of(gate, ("compile", "cond")):
        raise UsageError(f"instrument(gate={safe_repr(gate)}): expected 'compile' or 'cond'.")
    if runs is not None and not is_one_of(runs, ("vmap",)):
        raise UsageError(f"instrument(runs={safe_repr(runs)}): expected 'vmap' or None.")
    if name is not None and not isinstance(name, str):
        raise UsageError(f"instrument(name={safe_repr(name)}): expected a str, or None.")
    options = InstrumentOptions(
        every=positive_int("instrument", "every", every, "steps"),
        step=None if step == "auto" else step,
        advance=checked_bool("instrument", "advance", advance),
        delivery=delivery,
        gate=gate,
        stream=None
        if stream is None
        else positive_int("instrument", "stream", stream, "iterations"),
        progress=checked_bool("instrument", "progress", progress),
        seed_runs=runs == "vmap",
        exact=checked_bool("instrument", "exact", exact),
        name=name,
    )
    _check_combination(options)
    return options


def _check_combination(options: InstrumentOptions) -> None:
    is_streamed, has_delivery = options.stream is not None, options.delivery != "auto"
    if is_streamed and (has_delivery or not options.advance):
        raise UsageError(
            "instrument(stream=...): delivery= and advance= cannot be combined with stream=, where each "
            "iteration is a step of the run and leaves by callback."
        )
    if options.exact and (is_streamed or has_delivery):
        raise UsageError(
            "instrument(exact=True): stream= and delivery= cannot be combined with exact=True, which runs two "
            "programs."
        )
    if options.progress and not is_streamed:
        raise UsageError(
            "instrument(progress=True): the progress bar is that of a streamed loop; pass stream= too."
        )
    if options.progress and importlib.util.find_spec("tqdm") is None:
        raise UsageError("instrument(progress=True) needs tqdm: pip install tqdm.")
