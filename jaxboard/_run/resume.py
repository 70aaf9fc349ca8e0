"""The first step of a run that may continue an earlier one in the same directory."""

from __future__ import annotations

import pathlib
from typing import Literal, SupportsIndex, TypeAlias

import jax

from jaxboard._check import is_one_of
from jaxboard._errors import RunError, UsageError
from jaxboard._log import logger
from jaxboard._run import options
from jaxboard._safe_repr import safe_repr

Resume: TypeAlias = bool | Literal["auto"]


def first_step(
    resume: Resume, step: SupportsIndex | None, logdir: pathlib.Path | str | None
) -> int:
    """Return the first step of a run.

    Args:
        resume: whether the run continues after the last step in its directory; see :class:`jaxboard.Run`.
        step: the first step, if the user passed one.
        logdir: the directory of the run.

    Raises:
        UsageError: an argument is invalid, or the directory cannot be the same for all processes of a job.
        RunError: ``resume`` is True and the directory has no event files, or it cannot be read.
    """
    if not isinstance(resume, bool) and not is_one_of(resume, ("auto",)):
        raise UsageError(f"Run(resume={safe_repr(resume)}): expected True, False or 'auto'.")
    first = None if step is None else options.step_number(f"Run(step={safe_repr(step)})", step)
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


def _check_one_process(resume: Resume) -> None:
    """Raise if other processes might find another last step, and then run other programs."""
    count: int = jax.process_count() if jax.distributed.is_initialized() else 1  # pyright: ignore[reportUnknownMemberType]
    if count > 1:
        raise UsageError(
            f"Run(resume={safe_repr(resume)}) in a job of {count} processes: process 0 may already write to the "
            "directory while others look for its last step. Pass step=N, the same in all processes, for example from "
            "the checkpoint."
        )
