"""The events that earlier runs left in a log directory: where they end, and what they hold from a step on.

The files are read without their checksums, 3 µs for an event of a few scalars. A file ends at the first record that is
cut off, as readers see it too.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Generator, Iterator
from typing import Any

from jaxboard import _paths
from jaxboard.sinks import _file_names, _log_files, _proto
from jaxboard.sinks._tfrecords import FRAME_BYTES, HEADER_BYTES

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
    for directory, names in _log_files.walk(logdir):
        run = directory[len(logdir) :].strip("/\\").replace(os.sep, "/")
        suffix = _file_names.file_suffix(run)
        if run and any(_file_names.is_event_file(n) and n.endswith(suffix) for n in names):
            found.append(run)
    return sorted(found)


def _events(directory: str) -> Iterator[Any]:
    """Yield the events of a directory's files, in the order in which readers read them."""
    names = _log_files.names_in_directory(directory)
    for name in sorted(filter(_file_names.is_event_file, names)):
        with _mapped(_paths.below(directory, name)) as data:
            yield from _records(data)


@contextlib.contextmanager
def _mapped(path: str) -> Generator[bytes | mmap.mmap]:
    """Map a local file into memory during a block, or load a remote one."""
    if _paths.is_remote(path):
        yield _log_files.content(path) or b""
        return
    with _log_files.opened(path) as file:
        if not os.fstat(file.fileno()).st_size:
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            yield view


def _records(data: bytes | mmap.mmap) -> Iterator[Any]:
    """Yield the events of a file up to its end, or up to the first that is not whole."""
    start = HEADER_BYTES
    while start <= len(data):
        end = start + int.from_bytes(
            data[start - HEADER_BYTES : start - HEADER_BYTES + 8], "little"
        )
        following = end + FRAME_BYTES
        if following - HEADER_BYTES > len(data):
            return
        try:
            event = _proto.Event.FromString(data[start:end])
        except _proto.DecodeError:
            return
        yield event
        start = following
