"""Event files of a local directory: their names, and the writer that appends to one of them."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Iterable

import numpy as np

from jaxboard import _paths
from jaxboard.sinks import _live_writers, _proto, _tfrecords
from jaxboard.sinks._encoding import Events

_numbers = itertools.count()


class LocalWriter:
    """A writer of one local event file. It needs no TensorFlow.

    Each write goes to the operating system immediately and survives a SIGKILL. There is no queue that a forked
    child, or a ``close`` after an error, could write again.
    """

    def __init__(self, logdir: str) -> None:
        os.makedirs(logdir, exist_ok=True)
        names = [name for name in os.listdir(logdir) if _is_event_file(name)]
        _live_writers.warn_of_others(logdir, names)
        self._path = os.path.join(logdir, _next_name(names))
        self._file = open(self._path, "xb", buffering=0)  # noqa: SIM115 (closed by close())
        _live_writers.mark(self._file)
        self._size = 0
        self._confirmed_size = 0
        try:
            self.write(_version())
        except BaseException:
            self.abandon()
            raise

    def write(self, events: Events) -> None:
        """Append events to the file."""
        rest = memoryview(_tfrecords.frame(events))
        while rest:  # A nearly full disk takes a part of the data without an error.
            written = self._file.write(rest)
            self._size += written
            rest = rest[written:]

    def flush(self) -> None:
        """Raise if the file has lost data: writing to a removed or truncated file raises no error."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            found = None
        opened = os.fstat(self._file.fileno())
        if found is None or not os.path.samestat(found, opened):
            raise FileNotFoundError(
                f"the event file {self._path!r} was removed while it was written to"
            )
        if found.st_size < self._size:
            raise OSError(
                f"the event file {self._path!r} was truncated while it was written to: it has {found.st_size} of "
                f"{self._size} bytes, and the reports in the others are lost"
            )

    def confirm(self) -> None:
        """Note that what was written so far will not be written again."""
        self._confirmed_size = self._size

    def abandon(self) -> None:
        """Close the file without what is not confirmed, if that is possible. An empty file is removed."""
        with contextlib.suppress(OSError):
            if os.fstat(self._file.fileno()).st_size > self._confirmed_size:
                # Not by its path: the directory may have been renamed.
                os.ftruncate(self._file.fileno(), self._confirmed_size)
        if not self._confirmed_size:
            with contextlib.suppress(OSError):
                os.remove(self._path)
        with contextlib.suppress(OSError):
            self._file.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def has_event_files(logdir: str) -> bool:
    """Return whether a directory may hold event files: False only if it is local and holds none."""
    if _paths.is_remote(logdir):
        return True
    with contextlib.suppress(FileNotFoundError):
        return any(map(_is_event_file, os.listdir(logdir)))
    return False


def newest_time(names: Iterable[str]) -> int:
    """Return the latest second that the name of an event file holds; 0 if there is none."""
    matches = (re.search(r"\.tfevents\.(\d{10})\b", name) for name in names)
    return max((int(match[1]) for match in matches if match), default=0)


def _next_name(names: Iterable[str]) -> str:
    """Return the name of a new file, which sorts after the others: readers read files in the order of names.

    A name holds the second, followed by host and process. The second is one that no other name has, also on a host
    whose clock is behind.
    """
    second = max(int(time.time()), newest_time(names) + 1)
    host = _live_writers.host()
    return f"events.out.tfevents.{second:010d}.{host}.{os.getpid()}.{next(_numbers)}"


def _is_event_file(name: str) -> bool:
    return ".tfevents." in name


def _version() -> Events:
    """Return the first event of a file."""
    data = _proto.Event(
        wall_time=time.time(),
        file_version="brain.Event:2",
        source_metadata=_proto.SourceMetadata(writer="jaxboard"),
    ).SerializeToString()
    return Events(data, np.array([len(data)]))
