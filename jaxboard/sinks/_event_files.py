"""Event files of a local directory, and the writer that appends to one of them."""

from __future__ import annotations

import contextlib
import os
import time

import numpy as np

from jaxboard.sinks import _file_names, _live_writers, _proto, _tfrecords
from jaxboard.sinks._encoding import Events


class LocalWriter:
    """A writer of one local event file. It needs no TensorFlow.

    Each write goes to the operating system immediately and survives a SIGKILL. There is no queue that a forked
    child, or a ``close`` after an error, could write again.

    Args:
        logdir: the directory, created if it does not exist.
        suffix: the end of the file's name.

    Attributes:
        size: the size of the file in bytes.
    """

    def __init__(self, logdir: str, suffix: str = "") -> None:
        os.makedirs(logdir, exist_ok=True)
        names = [name for name in os.listdir(logdir) if _file_names.is_event_file(name)]
        _live_writers.warn_of_others(logdir, names)
        self._path = os.path.join(logdir, _file_names.next_name(names) + suffix)
        self._file = open(self._path, "xb", buffering=0)  # noqa: SIM115 (closed by close())
        _live_writers.mark(self._file)
        self.size = 0
        self._confirmed_size = 0
        try:
            self.write(version())
        except BaseException:
            self.abandon()
            raise

    def write(self, events: Events) -> None:
        """Append events to the file."""
        rest = memoryview(_tfrecords.frame(events))
        while rest:  # A nearly full disk takes a part of the data without an error.
            written = self._file.write(rest)
            self.size += written
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
        if found.st_size < self.size:
            raise OSError(
                f"the event file {self._path!r} was truncated while it was written to: it has {found.st_size} of "
                f"{self.size} bytes, and the reports in the others are lost"
            )

    def confirm(self) -> None:
        """Note that what was written so far will not be written again."""
        self._confirmed_size = self.size

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


def version() -> Events:
    """Return the first event of a file."""
    data = _proto.Event(
        wall_time=time.time(),
        file_version="brain.Event:2",
        source_metadata=_proto.SourceMetadata(writer="jaxboard"),
    ).SerializeToString()
    return Events(data, np.array([len(data)]))
