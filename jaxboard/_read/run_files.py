"""The event files below a directory, by run: local ones, and those that TensorFlow reaches by a URL."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

from jaxboard import _paths
from jaxboard._errors import RunError, UsageError
from jaxboard._read.framing import File
from jaxboard._safe_repr import safe_repr
from jaxboard.sinks import _live_writers, _tensorflow


class EventFile(NamedTuple):
    """An event file.

    Attributes:
        path: its path or URL.
        size: its size in bytes, when it was found.
    """

    path: str
    size: int

    @contextlib.contextmanager
    def open(self) -> Iterator[File]:
        """Open the file for reading bytes during a block."""
        if _paths.is_remote(self.path):
            with _tensorflow_for(self.path).io.gfile.GFile(self.path, "rb") as file:
                yield file
        else:
            try:
                with open(self.path, "rb") as file:
                    yield file
            finally:
                _live_writers.mark_again()


def find_runs(logdir: str | os.PathLike[str], call: str) -> dict[str, list[EventFile]]:
    """Return the event files of each run, in the order in which they were written.

    A run is a directory with event files. Its name is its path below ``logdir``, with ``/`` between the parts, and
    ``"."`` for ``logdir`` itself. Links are followed.

    Args:
        logdir: a directory, or a single event file.
        call: what was called, for messages: ``"read"``.

    Raises:
        UsageError: there is no such directory or file.
        RunError: TensorFlow, which a URL needs, does not work or has no file system for it.
    """
    path = _paths.absolute(_paths.checked(f"{call}({{}})", logdir))
    found = _remote_files(path, call) if _paths.is_remote(path) else _local_files(path, call)
    runs: dict[str, list[EventFile]] = {}
    for directory, name, size in found:
        run = directory[len(path) :].replace(os.sep, "/").strip("/") or "."
        file = (
            f"{directory.rstrip('/')}/{name}"
            if _paths.is_remote(path)
            else os.path.join(directory, name)
        )
        runs.setdefault(run, []).append(EventFile(file, size))
    return {run: sorted(runs[run]) for run in sorted(runs)}


def is_event_file(name: str) -> bool:
    """Return whether TensorBoard reads a file of this name."""
    return "tfevents" in name and not name.endswith(".profile-empty")


def _local_files(path: str, call: str) -> Iterator[tuple[str, str, int]]:
    """Yield the directory, the name and the size of each event file."""
    if os.path.isfile(path):
        yield *os.path.split(path), os.path.getsize(path)
        return
    if not os.path.isdir(path):
        raise UsageError(f"{call}({safe_repr(path)}): there is no such directory.")
    seen: set[tuple[int, int]] = set()  # Links may lead back.
    for directory, subdirectories, names in os.walk(path, followlinks=True):
        with contextlib.suppress(OSError):  # Removed meanwhile.
            found = os.stat(directory)
            if (found.st_dev, found.st_ino) in seen:
                subdirectories.clear()
                continue
            seen.add((found.st_dev, found.st_ino))
        for name in filter(is_event_file, names):
            with contextlib.suppress(OSError):
                found = os.stat(os.path.join(directory, name))
                if stat.S_ISREG(found.st_mode):  # Opening a pipe would wait.
                    yield directory, name, found.st_size


def _remote_files(url: str, call: str) -> Iterator[tuple[str, str, int]]:
    tf = _tensorflow_for(url)
    gfile: Any = tf.io.gfile
    try:
        if not gfile.exists(url):
            raise UsageError(f"{call}({url!r}): there is no such directory.")
        if not gfile.isdir(url):
            directory, _, name = url.rpartition("/")
            yield directory, name, gfile.stat(url).length
            return
        for directory, _, names in gfile.walk(url):
            for name in filter(is_event_file, names):
                yield directory, name, gfile.stat(f"{directory.rstrip('/')}/{name}").length
    except tf.errors.UnimplementedError as error:
        scheme = url.partition("://")[0]
        raise RunError(
            f"{call}({url!r}): TensorFlow has no file system for '{scheme}://'. Import a package that provides one "
            "before (tensorflow-io for s3, hdfs and az), or copy the directory."
        ) from error


def _tensorflow_for(url: str) -> ModuleType:
    tf = _tensorflow.tensorflow()
    if isinstance(tf, str):
        raise RunError(
            f"cannot read {url!r}: URLs need TensorFlow, and {tf}. Install tensorflow or tensorflow-cpu, or copy the "
            "directory."
        )
    return tf
