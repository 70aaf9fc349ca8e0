"""The ``jaxboard`` logger, one-line descriptions of faults, and warnings that appear once."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Hashable

from jaxboard._errors import JaxboardWarning

# A logger rather than ``warnings`` for machine faults: they happen on jaxboard's own threads or during a
# training step, where a warnings filter set to "error" must not raise. Without a logging configuration,
# Python prints them on standard error.
logger = logging.getLogger("jaxboard")

_lock = threading.Lock()
_warned: set[Hashable] = set()


def describe(fault: BaseException) -> str:
    """Return a fault as one line: its type and its message."""
    text = str(fault).strip()
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__


def warn_once(key: Hashable, text: str, *, stacklevel: int) -> None:
    """Issue a :class:`JaxboardWarning`, unless one with the same key was issued before.

    Args:
        key: identifies the warning in this process.
        text: the message.
        stacklevel: as for :func:`warnings.warn`, counted from the caller of this function.
    """
    if _is_first(key):
        warnings.warn(text, JaxboardWarning, stacklevel=stacklevel + 1)


def log_once(key: Hashable, text: str) -> None:
    """Log a warning, unless :func:`warn_once` or this function was called with the same key before.

    For jaxboard's own threads, where a warnings filter set to "error" must not raise.

    Args:
        key: identifies the warning in this process.
        text: the message.
    """
    if _is_first(key):
        logger.warning("jaxboard: %s", text)


def forget_warnings() -> None:
    """Let every warning appear again. For tests."""
    with _lock:
        _warned.clear()


def _is_first(key: Hashable) -> bool:
    with _lock:
        if key in _warned:
            return False
        _warned.add(key)
    return True
