"""The line at the end of a run: where it is and how to open it.

It is logged at the level INFO. As this level is invisible by default, the line of the first run that ends in
a process is also printed where a user sees it: on a terminal's standard error, or in a notebook.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import sys
import threading

from jaxboard import _paths
from jaxboard._log import logger
from jaxboard._process.ipython import notebook_shell

_lock = threading.Lock()
_announced = False


def announce(logdir: pathlib.Path | str) -> None:
    """Log where a run is, and print it if it is the first one and a user would see it."""
    global _announced
    with _lock:
        is_first, _announced = not _announced, True
    logger.info("The run is in %s. Open it: %s", logdir, _paths.view_command(logdir))
    # A level above INFO was set for this logger, or logging has just shown the line.
    is_shown = logger.isEnabledFor(logging.INFO) and logger.hasHandlers()
    is_unwanted = is_shown or logger.level > logging.INFO
    if not is_first or is_unwanted or "PYTEST_CURRENT_TEST" in os.environ:
        return
    place = f"jaxboard: the run is in {_paths.shorten(logdir)}. Open it:"
    with contextlib.suppress(Exception):  # Standard error is closed.
        if notebook_shell() is not None:
            magic = f"%jaxboard {_paths.viewed_directory(logdir)}"
            print(f"{place} %load_ext jaxboard, then {magic}")  # noqa: T201
        elif sys.stderr.isatty():
            print(f"{place} {_paths.view_command(logdir)}", file=sys.stderr)  # noqa: T201
