"""The events that earlier runs left in a log directory: where they end, and what they hold from a step on.

The files are read without their checksums, 3 µs for an event of a few scalars. A file ends at the first record that is
cut off, as readers see it too.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Generator, Iterator
from typing import Any

from jaxboard import _paths
from jaxboard.sinks import _file_names, _file_systems, _live_writers, _proto, _tensorflow
from jaxboard.sinks._object_store import names_in

_HEADER = struct.Struct("<QI")
"""The length of a record and its checksum; see :mod:`jaxboard.sinks._tfrecords`."""

_FOOTER = 4
"""The length of the checksum of a record's data."""

_HPARAMS = "_hparams_/"
"""The prefix of the tags of hyperparameters. They belong to a run as a whole, not to a step."""


def has_events(logdir: str) -> bool:
    """Return whether a directory has an event file with an event."""
    return any(True for _ in _events(logdir))


def last_step(logdir: str) -> int | None:
    """Return the last step with a point, of a run and the runs below it; None if there is no point.

    A run that was to continue at step N, and reported nothing, ends at step N - 1.
    """
    directories = (logdir, *(_paths.below(logdir, run) for run in runs_below(logdir)))
    last = max((n for path in directories for n in last_steps(path).values()), default=-1)
    return None if last < 0 else last


def last_steps(directory: str) -> dict[str, int]:
    """Return the tags in the event files of one directory, with the last step of each that is not hidden."""
    steps: dict[str, int] = {}
    for event in _events(directory):
        if event.session_log.status == _proto.SessionLog.START:
            steps = {tag: min(step, event.step - 1) for tag, step in steps.items()}
        for value in event.summary.value:
            last = steps.get(value.tag, -1)
            if value.WhichOneof("value") == _proto.HIDING:
                steps[value.tag] = min(last, event.step - 1)
            elif not value.tag.startswith(_HPARAMS):
                steps[value.tag] = max(last, event.step)
    return steps


def runs_below(logdir: str) -> list[str]:
    """Return the runs below a run that have event files, by their relative paths.

    Other runs may have directories there, too. The names of their files differ: see :func:`_file_names.file_suffix`.
    """
    found: list[str] = []
    for directory, names in _walk(logdir):
        run = directory[len(logdir) :].strip("/\\").replace(os.sep, "/")
        suffix = _file_names.file_suffix(run)
        if run and any(_file_names.is_event_file(n) and n.endswith(suffix) for n in names):
            found.append(run)
    return sorted(found)


def _walk(logdir: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each directory at and below ``logdir`` with the names of its files."""
    located = _file_systems.locate(logdir) if _paths.is_remote(logdir) else None
    if located is not None:
        file_system, root = located
        file_system.invalidate_cache()
        for directory, _, names in file_system.walk(root):
            yield logdir + directory[len(root) :], names
        return
    walk: Any = _gfile(logdir).walk if _paths.is_remote(logdir) else os.walk
    for directory, _, names in walk(logdir):
        yield directory, names


def _events(directory: str) -> Iterator[Any]:
    """Yield the events of a directory's files, in the order in which readers read them."""
    for name in sorted(filter(_file_names.is_event_file, _names(directory))):
        with _opened(directory, name) as data:
            yield from _records(data)


def _names(directory: str) -> list[str]:
    """Return the names in a directory, none if it does not exist yet."""
    if not _paths.is_remote(directory):
        with contextlib.suppress(FileNotFoundError):
            return os.listdir(directory)
        return []
    located = _file_systems.locate(directory)
    if located is not None:
        return names_in(*located)
    gfile = _gfile(directory)
    return gfile.listdir(directory) if gfile.isdir(directory) else []


@contextlib.contextmanager
def _opened(directory: str, name: str) -> Generator[bytes | mmap.mmap]:
    path = _paths.below(directory, name)
    if not _paths.is_remote(path):
        try:
            with open(path, "rb") as file:
                if not os.fstat(file.fileno()).st_size:
                    yield b""
                    return
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                    yield view
        finally:
            _live_writers.mark_again()
        return
    located = _file_systems.locate(path)
    if located is not None:
        file_system, place = located
        yield file_system.cat_file(place)
        return
    with _gfile(path).GFile(path, "rb") as file:
        yield file.read()


def _records(data: bytes | mmap.mmap) -> Iterator[Any]:
    """Yield the events of a file up to its end, or up to the first that is not whole."""
    start = _HEADER.size
    while start <= len(data):
        size, _ = _HEADER.unpack_from(data, start - _HEADER.size)
        end = start + size
        if end + _FOOTER > len(data):
            return
        try:
            event = _proto.Event.FromString(data[start:end])
        except _proto.DecodeError:
            return
        yield event
        start = end + _FOOTER + _HEADER.size


def _gfile(path: str) -> Any:
    """Return TensorFlow's file system, which reads directories that fsspec does not know."""
    return _tensorflow.usable_tensorflow("read", path).io.gfile
