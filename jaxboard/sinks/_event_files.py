"""Event files of a local directory: their names, their removal, and a writer that needs only TensorBoard."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from typing import Protocol, cast

import numpy as np
from tensorboard.summary.writer import record_writer  # pyright: ignore[reportMissingTypeStubs]

from jaxboard import _paths
from jaxboard._log import log_once
from jaxboard.sinks import _proto
from jaxboard.sinks._encoding import Events


class _RecordWriter(Protocol):
    """TensorBoard's ``RecordWriter``, which has no annotations."""

    def write(self, data: bytes) -> None: ...


class RecordFileWriter:
    """A writer of local event files that uses TensorBoard's record writer, and no TensorFlow."""

    _numbers = itertools.count()

    def __init__(self, logdir: str) -> None:
        os.makedirs(logdir, exist_ok=True)
        await_later_name(logdir, os.listdir(logdir))
        name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
            f".{next(self._numbers)}"
        )
        # Unbuffered: no data is left over that a forked child, or a close() after an error, would write.
        self.path: str | None = os.path.join(logdir, name)
        self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 (closed by close())
        version = _proto.Event(
            wall_time=time.time(),
            file_version="brain.Event:2",
            source_metadata=_proto.SourceMetadata(writer="jaxboard"),
        ).SerializeToString()
        try:
            self.write(Events(version, np.array([len(version)])))
        except BaseException:
            self._file.close()
            remove(self.path)
            raise

    def write(self, events: Events) -> None:
        """Append events to the file."""
        framed = io.BytesIO()
        records = cast("_RecordWriter", record_writer.RecordWriter(framed))
        for data in split(events):
            records.write(data)
        rest = framed.getbuffer()
        while rest:  # A nearly full disk takes a part of the data without an error.
            rest = rest[self._file.write(rest) :]

    def flush(self) -> None:
        """Raise if the file is gone. There is nothing to flush: the file is unbuffered."""
        check_exists(self.path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def split(events: Events) -> Iterator[bytes]:
    """Yield each serialised event."""
    sizes: list[int] = events.sizes.tolist()
    start = 0
    for size in sizes:
        yield events.data[start : start + size]
        start += size


def has_event_files(logdir: str) -> bool:
    """Return whether a directory may hold event files: False only if it is local and holds none."""
    if _paths.is_remote(logdir):
        return True
    with contextlib.suppress(FileNotFoundError):
        return any(".tfevents." in name for name in os.listdir(logdir))
    return False


def remove(path: str | None) -> None:
    """Remove an event file that holds no confirmed record, if that is possible."""
    if path is not None:
        with contextlib.suppress(OSError):
            os.remove(path)


def size_of(path: str | None) -> int | None:
    """Return the size of a local file in bytes, or None if it is unknown."""
    if path is not None:
        with contextlib.suppress(OSError):
            return os.path.getsize(path)
    return None


def shorten(path: str | None, size: int | None) -> None:
    """Cut off what a file holds beyond a size in bytes, if that is possible."""
    if path is not None and size is not None:
        with contextlib.suppress(OSError):
            if os.path.getsize(path) > size:
                os.truncate(path, size)


def check_exists(path: str | None) -> None:
    """Raise if a file is gone: the operating system raises no error on a write to a removed file."""
    if path is not None and not os.path.exists(path):
        raise FileNotFoundError(f"the event file {path!r} was removed while it was written to")


def find_new_file(logdir: str, existing: Iterable[str]) -> str | None:
    """Return the path of the file that TensorFlow has just created; its writer does not expose it."""
    with contextlib.suppress(OSError):
        for name in sorted(set(os.listdir(logdir)) - set(existing)):
            if ".tfevents." in name and f".{os.getpid()}." in name:
                return os.path.join(logdir, name)
    return None


def await_later_name(logdir: str, names: Iterable[str]) -> None:
    """Wait, at most one second, until a new event file sorts after those in the directory.

    Readers read the files of a directory in the order of their names and never go back. A name holds
    the second, followed by host and process: two files of one second may sort either way.
    """
    newest = max(
        (int(match[1]) for name in names if (match := re.search(r"\.tfevents\.(\d{10})\b", name))),
        default=0,
    )
    if newest - time.time() > 1:
        log_once(
            ("future", logdir),
            f"{logdir!r} holds an event file from {newest - time.time():.0f} s in the future. "
            "TensorBoard reads files in the order of their names and may not show what is written "
            "now: log to a new directory, or fix the system clock.",
        )
        return
    while (wait := newest + 1 - time.time()) > 0:
        time.sleep(wait)
