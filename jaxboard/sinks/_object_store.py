"""The writer of event files in object stores and other file systems that fsspec knows: ``s3://``, ``gs://``, ``az://``.

Object stores cannot append. The writer keeps its file in memory and uploads all of it at each flush; an upload
replaces the object in one operation, so readers never see a partial record. :mod:`jaxboard.sinks._rolling` keeps the
files short.
"""

from __future__ import annotations

import contextlib
from typing import Any

from jaxboard.sinks import _event_files, _file_names, _tfrecords
from jaxboard.sinks._encoding import Events


class ObjectWriter:
    """A writer of one event file that fsspec uploads. It needs no TensorFlow.

    Args:
        file_system: an fsspec file system.
        directory: the path of the directory in it.
        suffix: the end of the file's name.

    Attributes:
        size: the size of the file in bytes.
    """

    def __init__(self, file_system: Any, directory: str, suffix: str = "") -> None:
        self._file_system = file_system
        name = _file_names.next_name(names_in(file_system, directory)) + suffix
        self._path = f"{directory.rstrip('/')}/{name}"
        self._data = bytearray()
        self._uploaded_size = 0
        self._confirmed_size = 0
        self.write(_event_files.version())
        self.flush()  # Credentials and buckets that do not work show now.

    @property
    def size(self) -> int:
        return len(self._data)

    def write(self, events: Events) -> None:
        """Append events to the file in memory."""
        self._data += _tfrecords.frame(events)

    def flush(self) -> None:
        """Upload the file, if it has grown."""
        if len(self._data) != self._uploaded_size:
            # An upload that fails may still arrive.
            self._uploaded_size = -1
            self._file_system.pipe_file(self._path, bytes(self._data))
            self._uploaded_size = len(self._data)

    def confirm(self) -> None:
        """Note that what was written so far will not be written again."""
        self._confirmed_size = len(self._data)

    def abandon(self) -> None:
        """Upload the file without what is not confirmed, if that is possible. An empty file is removed."""
        del self._data[self._confirmed_size :]
        with contextlib.suppress(Exception):
            if self._data:
                self.flush()
            else:
                self._file_system.rm_file(self._path)

    def close(self) -> None:
        """Do nothing: a file that is flushed is complete."""


def names_in(file_system: Any, directory: str) -> list[str]:
    """Return the names in a directory."""
    file_system.invalidate_cache()  # Another process may have written there.
    try:
        paths: list[str] = file_system.ls(directory, detail=False)
    except FileNotFoundError:
        return []
    return [path.rstrip("/").rpartition("/")[2] for path in paths]
