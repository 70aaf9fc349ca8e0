"""The files of a log directory: local ones, and those of URLs, which fsspec or TensorFlow reads and writes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from typing import IO, Any

from jaxboard import _paths
from jaxboard.sinks import _file_systems, _live_writers, _tensorflow
from jaxboard.sinks._object_store import names_in


def names_in_directory(directory: str) -> list[str]:
    """Return the names in a directory, none if it does not exist yet."""
    if not _paths.is_remote(directory):
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(directory)
        return []
    located = _file_systems.locate(directory)
    if located is not None:
        return names_in(*located)
    files = gfile("read", directory)
    return files.listdir(directory) if files.isdir(directory) else []


def walk(logdir: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each directory at and below ``logdir`` with the names of its files."""
    located = _file_systems.locate(logdir) if _paths.is_remote(logdir) else None
    if located is not None:
        file_system, root = located
        file_system.invalidate_cache()
        for directory, _, names in file_system.walk(root):
            yield logdir + directory[len(root) :], names
        return
    walked: Any = gfile("read", logdir).walk if _paths.is_remote(logdir) else os.walk
    for directory, _, names in walked(logdir):
        yield directory, names


@contextlib.contextmanager
def opened(path: str) -> Generator[IO[bytes]]:
    """Open a file for reading bytes during a block."""
    if not _paths.is_remote(path):
        try:
            with open(path, "rb") as file:
                yield file
        finally:
            _live_writers.mark_again()
        return
    located = _file_systems.locate(path)
    if located is not None:
        file_system, place = located
        remote = file_system.open(place, "rb")
    else:
        remote = gfile("read", path).GFile(path, "rb")
    with remote as file:
        yield file


def content(path: str) -> bytes | None:
    """Return the content of a file, or None if there is no such file."""
    located = _file_systems.locate(path) if _paths.is_remote(path) else None
    try:
        if located is not None:
            file_system, place = located
            return file_system.cat_file(place)
        if _paths.is_remote(path) and not gfile("read", path).exists(path):
            return None
        with opened(path) as file:
            return file.read()
    except FileNotFoundError:
        return None


def replace(path: str, content: bytes) -> None:
    """Write a file, in a directory that is created if it does not exist. Readers see the old content or the new one."""
    if not _paths.is_remote(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        partial = f"{path}.{os.getpid()}"
        with open(partial, "wb") as file:
            file.write(content)
        os.replace(partial, path)
        return
    located = _file_systems.locate(path)
    if located is not None:
        file_system, place = located
        file_system.makedirs(place.rpartition("/")[0], exist_ok=True)
        file_system.pipe_file(place, content)
        return
    files = gfile("write to", path)
    files.makedirs(path.rpartition("/")[0])
    with files.GFile(path, "wb") as file:
        file.write(content)


def gfile(task: str, url: str) -> Any:
    """Return TensorFlow's functions for files, for a URL that fsspec does not know.

    Args:
        task: what they are needed for, for the message: ``"read"``.
        url: the URL.

    Raises:
        RunError: TensorFlow does not work in this process.
    """
    return _tensorflow.usable_tensorflow(task, url).io.gfile
