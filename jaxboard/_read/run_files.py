"""The event files below a directory, by run: local ones, and those of URLs, which fsspec or TensorFlow reads."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxboard import _paths
from jaxboard._errors import RunError, UsageError
from jaxboard._log import describe
from jaxboard._read.framing import File
from jaxboard._safe_repr import safe_repr
from jaxboard.sinks import _file_systems, _log_files


class EventFile(NamedTuple):
    """An event file.

    Attributes:
        path: its path or URL.
        size: its size in bytes, when it was found.
    """

    path: str
    size: int

    def open(self) -> contextlib.AbstractContextManager[File]:
        """Open the file for reading bytes during a block."""
        return _log_files.opened(self.path)


def find_runs(logdir: str | os.PathLike[str], call: str) -> dict[str, list[EventFile]]:
    """Return the event files of each run, in the order in which they were written.

    A run is a directory with event files. Its name is its path below ``logdir``, with ``/`` between the parts, and
    ``"."`` for ``logdir`` itself. Links are followed.

    Args:
        logdir: a directory, or a single event file.
        call: what was called, for messages: ``"read"``.

    Raises:
        UsageError: there is no such directory or file.
        RunError: a URL cannot be read: fsspec and TensorFlow are not installed or have no file system for it.
    """
    path = _paths.absolute(_paths.checked(f"{call}({{}})", logdir))
    runs: dict[str, list[EventFile]] = {}
    try:
        for directory, name, size in _files(path):
            below = "/".join(filter(None, [directory, name]))
            file = EventFile(_paths.below(path.rstrip("/"), below) if below else path, size)
            runs.setdefault(directory or ".", []).append(file)
    except FileNotFoundError:
        raise UsageError(f"{call}({safe_repr(path)}): there is no such directory.") from None
    except RunError:
        raise
    except Exception as error:
        if not _paths.is_remote(path):
            raise
        raise RunError(
            f"{call}({safe_repr(path)}): the files cannot be listed: {describe(error)}"
        ) from error
    return {run: sorted(runs[run]) for run in sorted(runs)}


def is_event_file(name: str) -> bool:
    """Return whether TensorBoard reads a file of this name."""
    return "tfevents" in name and not name.endswith(".profile-empty")


def _files(path: str) -> Iterator[tuple[str, str, int]]:
    """Yield directory, name and size of each event file; the first two are empty if ``path`` is a single file.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    if not _paths.is_remote(path):
        return _local_files(path)
    located = _file_systems.locate(path)
    return _remote_files(path) if located is None else _stored_files(*located)


def _local_files(path: str) -> Iterator[tuple[str, str, int]]:
    if os.path.isfile(path):
        yield "", "", os.path.getsize(path)
        return
    if not os.path.isdir(path):
        raise FileNotFoundError(path)
    seen: set[tuple[int, int]] = set()  # Links may lead back.
    for directory, subdirectories, names in os.walk(path, followlinks=True):
        with contextlib.suppress(OSError):  # Removed meanwhile.
            found = os.stat(directory)
            if (found.st_dev, found.st_ino) in seen:
                subdirectories.clear()
                continue
            seen.add((found.st_dev, found.st_ino))
        relative = directory[len(path) :].replace(os.sep, "/").strip("/")
        for name in filter(is_event_file, names):
            with contextlib.suppress(OSError):
                found = os.stat(os.path.join(directory, name))
                if stat.S_ISREG(found.st_mode):  # Opening a pipe would wait.
                    yield relative, name, found.st_size


def _stored_files(file_system: Any, root: str) -> Iterator[tuple[str, str, int]]:
    file_system.invalidate_cache()
    if file_system.isfile(root):
        yield "", "", file_system.size(root)
        return
    if not file_system.isdir(root):
        raise FileNotFoundError(root)
    for path, entry in file_system.find(root, detail=True).items():
        directory, _, name = path[len(root) :].strip("/").rpartition("/")
        if is_event_file(name):
            yield directory, name, entry["size"]


def _remote_files(url: str) -> Iterator[tuple[str, str, int]]:
    gfile = _log_files.gfile("read", url)
    if not gfile.exists(url):
        raise FileNotFoundError(url)
    if not gfile.isdir(url):
        yield "", "", gfile.stat(url).length
        return
    for directory, _, names in gfile.walk(url):
        for name in filter(is_event_file, names):
            path = f"{directory.rstrip('/')}/{name}"
            yield directory[len(url) :].strip("/"), name, gfile.stat(path).length
