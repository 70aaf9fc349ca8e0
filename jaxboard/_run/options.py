"""Checks of the options of a run, made on the user's thread and without TensorFlow."""

from __future__ import annotations

import itertools
import math
import os
import pathlib
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import SupportsIndex

from jaxboard import _paths
from jaxboard._check import as_int, as_number, fits_64_bits, is_one_of, positive_number
from jaxboard._errors import UsageError
from jaxboard._log import is_first, logger
from jaxboard._safe_repr import safe_repr
from jaxboard.sinks import Sink, TensorBoardSink

_FLUSH_SECS = 1.0
_REMOTE_FLUSH_SECS = 30.0


def check_positive(**options: float) -> None:
    """Raise :class:`UsageError` unless every option is a number above 0."""
    for name, value in options.items():
        positive_number("Run", name, value)


def check_seconds(**options: float | None) -> None:
    """Raise :class:`UsageError` unless every option is None or a number above 0."""
    check_positive(**{name: value for name, value in options.items() if value is not None})


def check_overflow(overflow: object) -> None:
    """Raise :class:`UsageError` unless it is one of the ways to deal with a full buffer."""
    if not is_one_of(overflow, ("wait", "drop")):
        raise UsageError(f"Run(overflow={safe_repr(overflow)}): expected 'wait' or 'drop'.")


def check_file_size(max_file_bytes: int | None, sinks: Sequence[Sink] | None) -> None:
    """Check the size at which event files are finished.

    Raises:
        UsageError: it is not a number above 0, or the run does not make the sink that needs it.
    """
    if max_file_bytes is None:
        return
    check_positive(max_file_bytes=max_file_bytes)
    if sinks is not None:
        raise UsageError(
            f"Run(max_file_bytes={max_file_bytes}, sinks=[...]): pass max_file_bytes to the TensorBoardSink."
        )


def flush_seconds(flush_secs: float | None, sinks: Sequence[Sink]) -> float:
    """Return the ``flush_secs`` of a run; the default depends on where its event files are.

    An object store cannot append: each flush uploads the open event file again.
    """
    if flush_secs is not None:
        return float(flush_secs)
    logdirs = [sink.logdir for sink in sinks if isinstance(sink, TensorBoardSink)]
    remote = next(filter(_paths.is_remote, logdirs), None)
    if remote is None:
        return _FLUSH_SECS
    if is_first(("remote", remote)):
        logger.info(
            "%s is a URL, where each flush uploads the open event file again. Reports are written every %g s; "
            "Run(flush_secs=) changes that.",
            remote,
            _REMOTE_FLUSH_SECS,
        )
    return _REMOTE_FLUSH_SECS


def limit(number: float) -> int:
    """Return a limit that is above 0 as an int: at least 1, and at most what a list can hold."""
    return max(1, int(min(number, sys.maxsize)))


def wait_seconds(call: str, timeout: float) -> float:
    """Return a timeout that a lock accepts: an infinite one becomes 292 years, a negative one 0.

    Args:
        call: what was called, for the message: ``"run.flush"``.
        timeout: how many seconds to wait.

    Raises:
        UsageError: ``timeout`` is not a number.
    """
    seconds = as_number(timeout)
    if math.isnan(seconds):
        raise UsageError(f"{call}(timeout={safe_repr(timeout)}): expected a number of seconds.")
    return min(max(seconds, 0.0), threading.TIMEOUT_MAX)


def step_number(form: str, step: SupportsIndex) -> int:
    """Return a step as an int.

    Args:
        form: what the user wrote, for the message, with ``{}`` for the step: ``"Run(step={})"``.
        step: the step.

    Raises:
        UsageError: ``step`` is not an integer of at least 0.
    """
    number = as_int(step)
    if number is None or number < 0:
        raise UsageError(f"{form.format(safe_repr(step))}: expected an integer, 0 or more.")
    if not fits_64_bits(number):
        raise UsageError(f"{form.format(safe_repr(step))}: the step does not fit in 64 bits.")
    return number


def default_logdir(comment: str = "") -> str:
    """Return a new directory below ``runs``, named after the time, the host and a comment."""
    name = f"runs/{time.strftime('%Y-%m-%d_%H-%M-%S')}_{socket.gethostname()}{comment}"
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(path for path in itertools.chain([name], numbered) if not os.path.exists(path))


def parse_logdir(logdir: object, *, needed: bool) -> pathlib.Path | str | None:
    """Return the log directory of a run: an absolute path, a URL, or None.

    Args:
        logdir: the path; the default is a new directory if the run needs one, otherwise None.
        needed: whether the run cannot be opened without a directory.

    Raises:
        UsageError: ``logdir`` is not a path, is empty, or is None and needed.
    """
    if logdir is ...:
        logdir = default_logdir() if needed else None
    if logdir is None:
        if needed:
            raise UsageError("Run(None): pass a log directory, or sinks=[...] that need none.")
        return None
    path = _paths.absolute(_paths.checked("Run({})", logdir))
    return path if _paths.is_remote(path) else pathlib.Path(path)
