"""The line at the end of a run: where it is and how to open it.

It is logged at the level INFO. As this level is invisible by default, the line of the first run that ends in
a process is also printed where a person reads along: on a terminal's standard error, or in a notebook.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import shlex
import shutil
import sys
import threading
from typing import Any

from jaxboard import _paths
from jaxboard._log import logger

_lock = threading.Lock()
_announced = False


def announce(logdir: pathlib.Path | str) -> None:
    """Log where a run is, and print it if it is the first one and a person reads along."""
    global _announced  # noqa: PLW0603 (once per process)
    with _lock:
        is_first, _announced = not _announced, True
    logger.info("The run is in %s. Open it: %s", logdir, view_command(logdir))
    # A level above INFO was set for this logger, or logging has just shown the line.
    is_unwanted = logger.level > logging.INFO or logger.isEnabledFor(logging.INFO)
    if not is_first or is_unwanted or "PYTEST_CURRENT_TEST" in os.environ:
        return
    with contextlib.suppress(Exception):  # Standard error is closed.
        if _in_notebook():
            view = f"%load_ext tensorboard, then %tensorboard --logdir {_shown(logdir)}"
            print(f"jaxboard: the run is in {_short(logdir)}. Open it: {view}")  # noqa: T201
        elif sys.stderr.isatty():
            line = f"jaxboard: the run is in {_short(logdir)}. Open it: {view_command(logdir)}"
            print(line, file=sys.stderr)  # noqa: T201


def view_command(logdir: pathlib.Path | str) -> str:
    """Return the shell command that shows a run, and its neighbours if their folder is below the working directory.

    The command works in a shell that has not activated the environment of this process.
    """
    path = min(sys.executable, _short(sys.executable), key=len)
    on_path = shutil.which("tensorboard")
    if on_path is not None and os.path.dirname(on_path) == os.path.dirname(sys.executable):
        return f"tensorboard --logdir {_shown(logdir)}"
    return f"{shlex.quote(path)} -m tensorboard.main --logdir {_shown(logdir)}"


def _shown(logdir: pathlib.Path | str) -> str:
    """Return the directory for TensorBoard: the parent, to compare runs, unless it may hold much else."""
    short = _short(logdir)
    parent = os.path.dirname(short)
    is_below = bool(parent) and not os.path.isabs(short) and not short.startswith(os.pardir)
    return shlex.quote(parent if is_below and not _paths.is_remote(short) else short)


def _short(path: pathlib.Path | str) -> str:
    """Return a path relative to the working directory, if it is below it."""
    path = str(path)
    if _paths.is_remote(path):
        return path
    with contextlib.suppress(OSError, ValueError):  # No working directory; another drive.
        relative = os.path.relpath(path)
        if not relative.startswith(os.pardir):
            return relative
    return path


def _in_notebook() -> bool:
    shell: Any = sys.modules.get("IPython")
    return "ipykernel" in sys.modules and shell is not None and shell.get_ipython() is not None
