"""Runs that a notebook opens again: the run that an earlier cell left open in the directory is closed first."""

from __future__ import annotations

import pathlib
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Protocol, SupportsIndex

from jaxboard._errors import JaxboardError
from jaxboard._host.channel import Channel
from jaxboard._host.run_state import RunState
from jaxboard._log import log_once, logger
from jaxboard._process.ipython import interactive_shell
from jaxboard._run import directories
from jaxboard._run.resume import Resume, check_start, first_state
from jaxboard.sinks import Sink


class _Run(Protocol):
    """The part of a run that this module uses."""

    logdir: pathlib.Path | str | None

    def close(self) -> None: ...


_cells: weakref.WeakKeyDictionary[_Run, int] = weakref.WeakKeyDictionary()
"""The number of the cell that opened each run."""


def reopen(
    run: _Run,
    open_runs: Mapping[Channel, _Run],
    sinks: Sequence[Sink] | None,
    *,
    resume: Resume,
    step: SupportsIndex | None,
    saved: object,
) -> RunState:
    """Close the run that an earlier cell opened in the same directory, and return the state in which the new one starts.

    Only a run that writes event files there is closed, only in an interactive session, on its main thread, and not by an
    invalid call. See :func:`first_state` for the state.

    Args:
        run: the run that is being opened.
        open_runs: the open runs.
        sinks: the sinks of the run; None for event files in its log directory.
        resume: see :class:`jaxboard.Run`.
        step: see :class:`jaxboard.Run`.
        saved: the ``state`` of :class:`jaxboard.Run`.

    Raises:
        UsageError: see :func:`first_state`.
        RunError: see :func:`first_state`.
    """
    cell = _current_cell()
    if cell is None:
        return first_state(resume, step, saved, run.logdir)
    check_start(resume, step, saved)
    _cells[run] = cell
    written = (
        [directories.resolved(str(run.logdir))] if sinks is None else directories.written_by(sinks)
    )
    for channel, other in list(open_runs.items()):
        is_earlier = _cells.get(other, cell) < cell
        if is_earlier and not set(written).isdisjoint(directories.claimed(channel)):
            _close(other)
    state = first_state(resume, step, saved, run.logdir)
    if not resume and step is None and saved is None:
        for directory in written:
            _warn_about_earlier_steps(directory)
    return state


def _close(run: _Run) -> None:
    logger.info(
        "jaxboard: %s is closed: an earlier cell left it open, and this one opens its directory.",
        run,
    )
    try:
        run.close()
    except JaxboardError as fault:
        logger.error("jaxboard: %s", fault)


def _warn_about_earlier_steps(directory: str) -> None:
    """Warn that TensorBoard will join the curves of a run with those of an earlier run of this session."""
    ended = directories.last_step(directory)
    if ended:
        log_once(
            ("starts over", directory),
            f"this run starts at step 0 in {directory}, where an earlier run of this session took {ended:,} steps; "
            "TensorBoard joins their curves. Run(..., step=0) replaces the earlier curves, and resume='auto' continues "
            "after them.",
        )


def _current_cell() -> int | None:
    """Return the number of the cell that runs on this thread, or None."""
    shell = interactive_shell()
    if shell is None or threading.current_thread() is not threading.main_thread():
        return None
    return getattr(shell, "execution_count", None)
