"""Messages to the user about a profile."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec

from jaxboard import _paths
from jaxboard._log import logger

STEP_HELP = (
    "Steps are calls of functions under jaxboard.instrument, or blocks `with profiler.step(i):`."
)

INSTALL_XPROF = f"{_paths.python()} -m pip install 'xprof>=2.21'"


def notify(line: str) -> None:
    """Log at level INFO, or print to standard error if logging is not configured for it."""
    if logger.isEnabledFor(logging.INFO) and logger.hasHandlers():
        logger.info("jaxboard: %s", line)
    elif logger.level <= logging.INFO:
        sys.stderr.write(f"jaxboard: {line}\n")


def saved_notice(path: str, logdir: str, steps: Sequence[int], seconds: float) -> str:
    """Return the message about a saved trace.

    Args:
        path: the path of the trace.
        logdir: its log directory.
        steps: the steps in it.
        seconds: the time that saving took.
    """
    size = f", {os.path.getsize(path) / 1e6:.1f} MB" if os.path.exists(path) else ""
    count = len(steps)
    recorded = f"{count} step{'s' * (count > 1)} ({format_steps(steps)})" if steps else "no steps"
    install = "" if has_xprof() else f"{INSTALL_XPROF} && "
    return (
        f"profiled {recorded}, saved in {seconds:.1f} s: {path}{size}. "
        f"View it in the Profile tab: {install}{_paths.view_command(logdir)}"
    )


def has_xprof() -> bool:
    """Return whether TensorBoard has a Profile tab, without importing xprof."""
    return find_spec("xprof") is not None


def format_steps(steps: Sequence[int]) -> str:
    """Return the first and the last of consecutive steps, such as ``10-19``."""
    return f"{steps[0]}-{steps[-1]}" if len(steps) > 1 else f"{steps[0]}"
