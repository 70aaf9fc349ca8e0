"""A notebook cell that opens a run again: the run that an earlier cell left open in the directory is closed first."""

from __future__ import annotations

import pathlib
import threading
import weakref
from collections.abc import Iterable
from typing import Protocol

from jaxboard._errors import JaxboardError
from jaxboard._log import logger
from jaxboard._process.ipython import interactive_shell
from jaxboard._run import directories


class _Run(Protocol):
    """The part of a run that this module uses."""

    logdir: pathlib.Path | str | None

    def close(self) -> None: ...


_cells: weakref.WeakKeyDictionary[_Run, int] = weakref.WeakKeyDictionary()
"""The number of the cell that opened each run."""


def close_earlier(run: _Run, open_runs: Iterable[_Run]) -> None:
    """Close the run that an earlier cell opened in the directory of a run that is being opened.

    A cell that has ended can only be run again: its ``with`` block was left, or its run is the one that is opened again.
    Outside of interactive sessions and of their main thread, nothing is closed.

    Args:
        run: the run that is being opened.
        open_runs: the open runs.
    """
    cell = _current_cell()
    if cell is None:
        return
    _cells[run] = cell
    if run.logdir is None:
        return
    directory = directories.resolved(str(run.logdir))
    for other in list(open_runs):
        is_earlier = _cells.get(other, cell) < cell
        if is_earlier and directories.resolved(str(other.logdir)) == directory:
            logger.info("jaxboard: %s was left open; it is closed to be opened again", other)
            try:
                other.close()
            except JaxboardError as fault:
                logger.error("jaxboard: %s", fault)


def _current_cell() -> int | None:
    """Return the number of the cell that runs on this thread, or None."""
    shell = interactive_shell()
    if shell is None or threading.current_thread() is not threading.main_thread():
        return None
    return shell.execution_count
