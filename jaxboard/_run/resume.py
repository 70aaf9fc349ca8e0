"""The start of a run that continues an earlier one in the same directory."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Literal, SupportsIndex, TypeAlias, TypedDict

import jax

from jaxboard._check import as_int, is_one_of
from jaxboard._errors import RunError, UsageError
from jaxboard._host.points import finish_state, tags_of
from jaxboard._host.run_state import RunState
from jaxboard._host.state_arrays import decode
from jaxboard._log import logger
from jaxboard._run import options
from jaxboard._safe_repr import safe_repr

Resume: TypeAlias = bool | Literal["auto"]


def check_start(resume: Resume, step: SupportsIndex | None, saved: object) -> None:
    """Check the arguments of :func:`first_state`, whatever the directory holds.

    Raises:
        UsageError: one is invalid.
    """
    if not isinstance(resume, bool) and not is_one_of(resume, ("auto",)):
        raise UsageError(f"Run(resume={safe_repr(resume)}): expected True, False or 'auto'.")
    if step is not None:
        options.step_number("Run(step={})", step)
    state = None if saved is None else decode(saved)
    if state is not None and step is not None and as_int(step) != state.step:
        raise UsageError(
            f"Run(step={safe_repr(step)}, state=...): the state continues at step {state.step}. Leave out step=."
        )


def first_state(
    resume: Resume,
    step: SupportsIndex | None,
    saved: object,
    logdir: pathlib.Path | str | None,
) -> RunState:
    """Return the state in which a run starts.

    Args:
        resume: whether the run continues after the last step in its directory; see :class:`jaxboard.Run`.
        step: the first step, if the user passed one.
        saved: the state of an earlier run, if the user passed one.
        logdir: the directory of the run.

    Raises:
        UsageError: an argument is invalid, or the directory cannot be the same for all processes of a job.
        RunError: ``resume`` is True and the directory has no event files, or it cannot be read.
    """
    check_start(resume, step, saved)
    state = None if saved is None else decode(saved)
    if state is None:
        first = _first_step(resume, step, logdir)
        return RunState(first, first)
    _first_step(resume, state.step, logdir)
    return state


def _first_step(
    resume: Resume, step: SupportsIndex | None, logdir: pathlib.Path | str | None
) -> int:
    """Return the first step of a run without a state; see :func:`first_state`.

    Raises:
        UsageError: the directory is missing or cannot be the same for all processes of a job.
        RunError: ``resume`` is True and the directory has no event files, or it cannot be read.
    """
    first = None if step is None else options.step_number("Run(step={})", step)
    if not resume:
        return first or 0
    if logdir is None:
        if resume == "auto":
            return first or 0
        raise UsageError(
            "Run(None, resume=True): there is no log directory to continue. Pass one, or step=N."
        )
    # Imported here: it imports tensorboard, which runs that do not resume load later, on their flusher.
    from jaxboard.sinks import _earlier_events

    try:
        if resume is True and not _earlier_events.has_events(str(logdir)):
            raise RunError(
                f"Run({str(logdir)!r}, resume=True): the directory has no event files to continue. Check the path, or "
                "pass resume='auto', which starts at step 0 then."
            )
        if first is not None:
            return first
        _check_one_process(resume)
        last = _earlier_events.last_step(str(logdir))
    except OSError as fault:
        raise RunError(f"cannot read the event files in {str(logdir)!r}: {fault}") from fault
    if last is None:
        return 0
    logger.info("jaxboard: the run in %s continues at step %s.", logdir, last + 1)
    return last + 1


class _Hiding(TypedDict, total=False):
    """The options of a :class:`TensorBoardSink` that hide points of earlier runs."""

    start_step: int
    hidden: Mapping[str, Mapping[str, int]] | None


def hiding_options(start: RunState | None) -> _Hiding:
    """Return the options of the sink of a run that starts in a state or at a step; None hides nothing."""
    if start is None:
        return {}
    return {"start_step": start.step, "hidden": _hidden_points(start) if start.is_saved else None}


def _hidden_points(state: RunState) -> dict[str, dict[str, int]]:
    """Return the first hidden step, by run and tag: the one after the last point before the state was saved.

    Other tags are hidden from the step of the state on. Points that were incomplete are hidden too, as the earlier run may
    have written them when it ended, and this one writes them again.
    """
    first_steps = {
        run: {tag: last + 1 for tag, last in tags.items()} for run, tags in state.last_steps.items()
    }
    for point in state.all_points:
        curves = point.tags or tags_of(
            finish_state(point.spec, point.state, point.end, point.wall_time)
        )
        for run, tag in curves:
            known = first_steps.setdefault(run, {})
            known[tag] = min(known.get(tag, point.first_step), point.first_step)
    return first_steps


def _check_one_process(resume: Resume) -> None:
    """Raise if other processes might find another last step, and then run other programs."""
    count: int = jax.process_count() if jax.distributed.is_initialized() else 1  # pyright: ignore[reportUnknownMemberType]
    if count > 1:
        raise UsageError(
            f"Run(resume={safe_repr(resume)}) in a job of {count} processes: process 0 may already write to the "
            "directory while others look for its last step. Pass step=N, the same in all processes, for example from "
            "the checkpoint."
        )
