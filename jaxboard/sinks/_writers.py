"""The writer of an event file: jaxboard's own in a local directory and for fsspec, otherwise TensorFlow's.

A writer has one file in one directory and is discarded after its first error: readers cannot skip a partial record.
"""

from __future__ import annotations

from typing import Protocol

from jaxboard import _paths
from jaxboard.sinks import _file_systems, _log_files, _tensorflow
from jaxboard.sinks._encoding import Events
from jaxboard.sinks._event_files import LocalWriter
from jaxboard.sinks._file_names import is_event_file
from jaxboard.sinks._object_store import ObjectWriter


class Writer(Protocol):
    """An open event file."""

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        ...

    def write(self, events: Events) -> None:
        """Append events."""
        ...

    def flush(self) -> None:
        """Make all events visible to readers."""
        ...

    def confirm(self) -> None:
        """Note that what was written so far will not be written again."""
        ...

    def abandon(self) -> None:
        """Close the file after an error, if possible without what is not confirmed."""
        ...

    def close(self) -> None:
        """Flush and close the file."""
        ...


def has_event_files(logdir: str) -> bool:
    """Return whether a directory may hold event files: False only if it certainly holds none."""
    if _paths.is_remote(logdir) and _file_systems.locate(logdir) is None:
        return True  # Finding out would import TensorFlow.
    return any(map(is_event_file, _log_files.names_in_directory(logdir)))


def open_writer(logdir: str, suffix: str = "") -> Writer:
    """Open a new event file in a directory; readers will read it after those that already exist.

    The directory is created if it does not exist.

    Args:
        logdir: the directory.
        suffix: the end of the file's name.

    Raises:
        RunError: this installation cannot write to such a directory.
        Exception: an error of the file system.
    """
    if not _paths.is_remote(logdir):
        return LocalWriter(logdir, suffix)
    located = _file_systems.locate(logdir)
    if located is not None:
        return ObjectWriter(*located, suffix)
    return _tensorflow.open_writer(logdir, suffix)
