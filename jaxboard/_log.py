"""The ``jaxboard`` logger, one-line descriptions of faults, and warnings that appear once."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Hashable

from jaxboard._errors import JaxboardWarning

# A logger rather than ``warnings`` for machine faults: they happen on jaxboard's own threads or during a
# training step, where a warnings filter set to "error" must not raise. Without a logging configuration,
# Python prints them on standard error.
logger = logging.getLogger("jaxboard")

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep

_LIBRARIES = ("jax", "flax", "equinox")
"""Libraries whose functions call instrumented functions: a user did not write those lines."""

_lock = threading.Lock()
_warned: set[Hashable] = set()


def describe(fault: BaseException) -> str:
    """Return a fault as one line: its type and its message."""
    try:
        text = str(fault).strip()
    except Exception:  # An exception of the user, whose text raises.
        text = ""
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def warn(text: str) -> None:
    """Issue a :class:`JaxboardWarning` at the user's line: the innermost one outside of jaxboard and JAX."""
    frame, level = sys._getframe(1), 2  # noqa: SLF001 (the documented way)
    while frame.f_back is not None and is_internal(frame.f_code.co_filename):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, JaxboardWarning, stacklevel=level)


def is_internal(filename: str) -> bool:
    """Return whether a file belongs to jaxboard, or to a library whose functions call jaxboard."""
    if filename.startswith(_PACKAGE):
        return True
    return any(f"{os.sep}site-packages{os.sep}{name}{os.sep}" in filename for name in _LIBRARIES)


def warn_once(key: Hashable, text: str) -> None:
    """Issue a :class:`JaxboardWarning`, unless one with the same key was issued before.

    Args:
        key: identifies the warning in this process.
        text: the message.
    """
    if is_first(key):
        warn(text)


def warn_once_without_raising(key: Hashable, text: str) -> None:
    """Issue a :class:`JaxboardWarning` like :func:`warn_once`; if a warnings filter makes it an error, log it.

    For a function of the user that has run: its results must be returned.

    Args:
        key: identifies the warning in this process.
        text: the message.
    """
    try:
        warn_once(key, text)
    except JaxboardWarning:
        logger.warning("jaxboard: %s", text)


def log_once(key: Hashable, text: str) -> None:
    """Log a warning, unless :func:`warn_once` or this function was called with the same key before.

    For jaxboard's own threads, where a warnings filter set to "error" must not raise.

    Args:
        key: identifies the warning in this process.
        text: the message.
    """
    if is_first(key):
        logger.warning("jaxboard: %s", text)


def forget_warnings() -> None:
    """Let every warning appear again. For tests."""
    with _lock:
        _warned.clear()


def is_first(key: Hashable) -> bool:
    """Return whether no warning was issued or logged with this key, and note that one will be."""
    if key in _warned:  # without the lock, as calls without a run ask each time
        return False
    with _lock:
        is_new = key not in _warned
        _warned.add(key)
    return is_new
