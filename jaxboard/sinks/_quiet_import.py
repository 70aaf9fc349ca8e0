"""Import TensorFlow without its messages on standard error.

TensorFlow's C++ libraries log while they are loaded, before they read any setting of a log level:

    WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
    I0000 00:00:1795937335.373773   11214 port.cc:153] oneDNN custom operations are on. …

The lines appear in every program with a run, in the middle of progress bars. `TF_ENABLE_ONEDNN_OPTS=0` would
remove them together with oneDNN, which changes the results of the user's own TensorFlow.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import sys
import threading
from collections.abc import Generator, Iterator

from jaxboard._process.fork import Stage, on_fork

_LEVEL = "TF_CPP_MIN_LOG_LEVEL"

_BEFORE_SETTINGS = b"WARNING: All log messages before absl::InitializeLog() is called"
"""The start of a line that precedes the first message of each library."""

_UNBUFFERED = 2  # _IONBF in <stdio.h>


@contextlib.contextmanager
def quiet_import() -> Generator[None]:
    """Remove what the C++ code of the calling thread logs to standard error, except fatal errors.

    Everything else that the process writes to standard error appears there: output of Python and of child
    processes immediately, lines from the C libraries of other threads when the block ends. If the block
    raises, all lines appear. If the user asked for messages with ``TF_CPP_MIN_LOG_LEVEL=0``, nothing is
    removed.
    """
    if os.environ.get(_LEVEL) == "0":
        yield
        return
    was_set = _LEVEL in os.environ
    os.environ.setdefault(_LEVEL, "3")
    stream = _stream()
    try:
        if stream is None:
            yield
        else:
            with stream.diverted():
                yield
    finally:
        if not was_set:
            os.environ.pop(_LEVEL, None)


class _Stream:
    """The variable ``stderr`` of the C library, which C and C++ code writes to and Python does not.

    Diverting this variable leaves file descriptor 2 as it is, and with it Python's ``sys.stderr``, the
    terminal and all child processes.
    """

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._variable = ctypes.c_void_p.in_dll(libc, "stderr")
        self._original = self._variable.value
        self._lines = os.memfd_create("jaxboard")
        libc.fdopen.restype = ctypes.c_void_p
        # Never closed: another thread may have read the variable and be about to write.
        self._replacement: int | None = libc.fdopen(self._lines, b"w")
        libc.setvbuf(ctypes.c_void_p(self._replacement), None, _UNBUFFERED, 0)

    @contextlib.contextmanager
    def diverted(self) -> Generator[None]:
        """Collect lines during a block, then write those that other threads wrote."""
        start = os.fstat(self._lines).st_size
        removed = _logged_by(threading.get_native_id())
        self._variable.value = self._replacement
        try:
            yield
        except BaseException:
            removed = None  # The lines may explain the error.
            raise
        finally:
            self.restore()
            text = os.pread(self._lines, os.fstat(self._lines).st_size - start, start)
            rest = memoryview(b"".join(_keep(text, removed)))
            with contextlib.suppress(OSError):  # Standard error is closed.
                while rest:
                    rest = rest[os.write(2, rest) :]

    def restore(self) -> None:
        """Point the variable at standard error again."""
        self._variable.value = self._original


def _logged_by(thread: int) -> re.Pattern[bytes]:
    """Match a line that a thread logged: below the severity F, in Abseil's or TensorFlow's older format."""
    abseil = rf"[IWE]\d{{4}} [\d:.]+ +{thread} [^ ]+:\d+\] "
    # JAX's profiler may import TensorFlow on another thread meanwhile.
    onednn = r"I\d{4} [^\]]*\] oneDNN custom operations are on"
    older = r"\d{4}-\d\d-\d\d [\d:.]+: [IWE] (tensorflow|external)/"
    return re.compile(rf"{abseil}|{onednn}|{older}".encode())


def _keep(text: bytes, removed: re.Pattern[bytes] | None) -> Iterator[bytes]:
    """Yield the lines of ``text`` that do not match, with the announcement before the first."""
    announcement = b""
    for line in text.splitlines(keepends=True):
        if removed is not None and line.startswith(_BEFORE_SETTINGS):
            announcement = line
        elif removed is not None and removed.match(line):
            announcement = b""
        else:
            yield announcement + line
            announcement = b""
    yield announcement


@functools.cache
def _stream() -> _Stream | None:
    """Return the stream; None where its variable cannot be set: glibc allows it, others may not."""
    try:
        if sys.platform == "linux" and os.confstr("CS_GNU_LIBC_VERSION"):
            return _Stream()
    except (OSError, ValueError, AttributeError):
        pass
    return None


def _restore_in_child() -> None:
    # The thread that would end the block does not exist in a forked child.
    if _stream.cache_info().currsize and (stream := _stream()) is not None:
        stream.restore()


on_fork(Stage.STATE, in_child=_restore_in_child)
