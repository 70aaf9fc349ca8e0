"""The detection of two processes that write to one directory at the same time.

TensorBoard's slow loader stops reading the older of two files that grow. Each writer therefore locks its event file
while it is open, and a new writer looks for locked files. The operating system releases the lock when the process
ends, however it ends. Locks also work between the hosts of a network file system that supports them; on others,
and on Windows, nothing is detected.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import weakref
from collections.abc import Iterable
from io import FileIO

from jaxboard._log import log_once
from jaxboard.sinks import _file_names

try:
    import fcntl
except ImportError:  # Windows.
    fcntl = None

_HOST_AND_PROCESS = re.compile(r"\.tfevents\.\d+\.(?P<host>.+)\.(?P<process>\d+)\.\d+(\D.*)?$")
"""The end of the name that jaxboard gives to an event file."""


_marked: list[weakref.ref[FileIO]] = []
"""The event files that this process has opened for writing."""


def mark(file: FileIO) -> None:
    """Lock an event file for as long as it is open in this process."""
    _marked.append(weakref.ref(file, _marked.remove))
    _lock(file)


def mark_again() -> None:
    """Lock the event files of this process again: closing a file that was opened for reading releases its locks."""
    for reference in _marked.copy():
        file = reference()
        if file is not None and not file.closed:
            _lock(file)


def _lock(file: FileIO) -> None:
    # POSIX locks belong to one process: unlike those of flock(), a forked child does not hold them.
    if fcntl is not None:
        with contextlib.suppress(OSError):  # The file system has no locks.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def warn_of_others(logdir: str, names: Iterable[str]) -> None:
    """Log a warning if another process has one of these event files open for writing."""
    own = (_file_names.host(), str(os.getpid()))
    for name in names:
        match = _HOST_AND_PROCESS.search(name)
        # A process does not see its own locks.
        if (
            match is None
            or match.group("host", "process") == own
            or not is_locked(os.path.join(logdir, name))
        ):
            continue
        log_once(
            ("two writers", logdir),
            f"process {match['process']} on {match['host']} is writing to {logdir!r}, too. TensorBoard may show the "
            "points of one of the two only: end that process, or choose another directory.",
        )


def is_locked(path: str) -> bool:
    """Return whether another process has an event file open for writing."""
    if fcntl is None:
        return False
    try:
        with open(path, "rb") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EACCES, errno.EAGAIN)
    finally:
        mark_again()
    return False
