"""Writers of event files: one through TensorFlow, and one for installations without it.

A writer has one file in one directory and is discarded after its first error: after an error
TensorFlow's writer drops its queue and appends after a partial record, which readers cannot skip.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import itertools
import os
import re
import socket
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, Protocol, cast

import numpy as np

from jaxboard import _compat, _paths
from jaxboard._errors import JaxboardWarning, RunError
from jaxboard._process.fork import Stage, on_fork
from jaxboard.sinks import _proto
from jaxboard.sinks._encoding import Events
from jaxboard.sinks._quiet_import import quiet_import


class Writer(Protocol):
    """An open event file.

    Attributes:
        path: the path of the file, None for a remote one.
    """

    path: str | None

    def write(self, events: Events) -> None:
        """Append events."""
        ...

    def flush(self) -> None:
        """Make all events visible to readers."""
        ...

    def close(self) -> None:
        """Flush and close the file."""
        ...


def open_writer(logdir: str) -> Writer:
    """Open a new event file in a directory; readers will read it after those that already exist.

    The directory is created if it does not exist.

    Raises:
        RunError: this installation cannot write to such a directory.
        Exception: an error of the file system.
    """
    tf = tensorflow()
    return RecordFileWriter(logdir) if tf is None else TensorFlowWriter(tf, logdir)


# --- With TensorFlow. -----------------------------------------------------------------------------


@functools.cache
def tensorflow() -> ModuleType | None:
    """Return TensorFlow, or None with one warning if it cannot be imported.

    If this is its first import in the process, TensorFlow is kept off the GPUs, whose memory it would
    otherwise fill, and what it logs on import does not appear.
    """
    first = "tensorflow" not in sys.modules
    try:
        with quiet_import() if first else contextlib.nullcontext():
            tf = importlib.import_module("tensorflow")
            _ = (
                tf.summary.create_file_writer,
                tf.raw_ops.ImportEvent,
            )  # An empty namespace has neither.
            if first:
                with contextlib.suppress(RuntimeError):  # Its devices were started meanwhile.
                    tf.config.set_visible_devices([], "GPU")
    except Exception as error:  # A broken build can raise anything.
        warnings.warn(
            "TensorFlow cannot be imported, so events are written by TensorBoard's slower event writer, "
            f"to local directories only ({type(error).__name__}: {error}).",
            JaxboardWarning,
            stacklevel=2,
        )
        return None
    _compat.keep_tensorflow_working()
    return tf


class TensorFlowWriter:
    """A writer that uses ``tf.summary``. It holds the interpreter lock for one call per batch only."""

    def __init__(self, tf: ModuleType, logdir: str) -> None:
        self._tf = tf
        self.path: str | None = None
        try:
            existing: list[str] = tf.io.gfile.listdir(logdir) if tf.io.gfile.isdir(logdir) else []
            _await_later_name(logdir, existing)
            try:
                # A queue this long never flushes by itself; flush() does.
                self._writer = tf.summary.create_file_writer(logdir, max_queue=1 << 20)
            finally:
                if not _paths.is_remote(logdir):
                    self.path = _find_new_file(logdir, existing)
        except tf.errors.UnimplementedError as error:
            scheme = logdir.partition("://")[0]
            raise RunError(
                f"cannot write to {logdir!r}: TensorFlow has no file system for '{scheme}://'. "
                "Import a package that provides one before the run is opened (tensorflow-io for s3, "
                "hdfs and az), or log to a local directory and copy it."
            ) from error
        except Exception:
            remove(self.path)  # On a full disk the file exists and is empty.
            raise
        # Private, but the only way to the op that keeps an event's own wall time.
        self._resource: object | None = getattr(self._writer, "_resource", None)
        self._fault: Exception | None = None
        _flushed_before_fork.add(self)

    def write(self, events: Events) -> None:
        """Queue events."""
        self._raise_fault()
        if self._resource is None:
            self._write_summaries(events)
            return
        tf = self._tf
        with tf.device("/CPU:0"):
            starts = np.cumsum(events.sizes) - events.sizes
            _importer(tf)(
                self._resource,
                tf.constant(events.data),
                tf.constant(starts, tf.int64),
                tf.constant(events.sizes, tf.int64),
            )

    def flush(self) -> None:
        """Write the queue, and raise if the file is gone."""
        self._raise_fault()
        self._writer.flush()
        _check_exists(self.path)

    def close(self) -> None:
        """Write the queue and close the file."""
        _flushed_before_fork.discard(self)
        self._writer.close()

    def flush_before_fork(self) -> None:
        """Write the queue; otherwise the child would write its copy of it at its exit."""
        try:
            self.flush()
        except Exception as fault:  # Raised at the next call, not on the forking thread.
            self._fault = fault

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _write_summaries(self, events: Events) -> None:
        """Write through public functions only: the points get the wall time of writing."""
        for data in _split(events):
            event = _proto.Event.FromString(data)
            if event.HasField("summary"):
                with self._writer.as_default():
                    self._tf.summary.experimental.write_raw_pb(
                        event.summary.SerializeToString(), step=event.step
                    )


class _Tensor(Protocol):
    """A symbolic ``tf.Tensor``, as far as the graph below uses one."""

    def __getitem__(self, index: _Tensor) -> _Tensor: ...

    def __add__(self, other: int) -> _Tensor: ...


@functools.cache
def _importer(tf: ModuleType) -> Callable[..., object]:
    """Return a graph that writes events. The writer is an argument: the graph keeps none alive."""

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec((), tf.resource),
            tf.TensorSpec((), tf.string),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None,), tf.int64),
        ],
    )
    def import_events(writer: object, data: _Tensor, starts: _Tensor, sizes: _Tensor) -> None:
        def body(i: _Tensor) -> _Tensor:
            event = tf.strings.substr(data, starts[i], sizes[i])
            done = tf.raw_ops.ImportEvent(writer=writer, event=event)
            with tf.control_dependencies([done]):  # Keeps the events in order.
                return i + 1

        def has_next(i: _Tensor) -> Any:
            return tf.less(i, tf.size(starts))

        tf.while_loop(has_next, body, [tf.constant(0)], parallel_iterations=1)

    return import_events


_flushed_before_fork: weakref.WeakSet[TensorFlowWriter] = weakref.WeakSet()


def _flush_before_fork() -> None:
    for writer in list(_flushed_before_fork):
        writer.flush_before_fork()


on_fork(Stage.QUEUES, before=_flush_before_fork)


# --- Without TensorFlow. --------------------------------------------------------------------------


class _RecordWriter(Protocol):
    """TensorBoard's ``RecordWriter``, which has no annotations."""

    def write(self, data: bytes) -> None: ...


class RecordFileWriter:
    """A writer of local event files that needs only TensorBoard."""

    _numbers = itertools.count()

    def __init__(self, logdir: str) -> None:
        if _paths.is_remote(logdir):
            raise RunError(
                f"cannot write to {logdir!r}: remote directories need TensorFlow, which cannot be "
                "imported. Install tensorflow or tensorflow-cpu, or log to a local directory."
            )
        os.makedirs(logdir, exist_ok=True)
        _await_later_name(logdir, os.listdir(logdir))
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
        from tensorboard.summary.writer import record_writer  # pyright: ignore[reportMissingTypeStubs]

        framed = io.BytesIO()
        records = cast("_RecordWriter", record_writer.RecordWriter(framed))
        for data in _split(events):
            records.write(data)
        rest = framed.getbuffer()
        while rest:  # A nearly full disk takes a part of the data without an error.
            rest = rest[self._file.write(rest) :]

    def flush(self) -> None:
        """Raise if the file is gone. There is nothing to flush: the file is unbuffered."""
        _check_exists(self.path)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _split(events: Events) -> Iterator[bytes]:
    sizes: list[int] = events.sizes.tolist()
    start = 0
    for size in sizes:
        yield events.data[start : start + size]
        start += size


# --- Files. ---------------------------------------------------------------------------------------


def remove(path: str | None) -> None:
    """Remove an event file that holds no confirmed record, if that is possible."""
    if path is not None:
        with contextlib.suppress(OSError):
            os.remove(path)


def _check_exists(path: str | None) -> None:
    # The operating system raises no error when a process writes to a deleted file.
    if path is not None and not os.path.exists(path):
        raise FileNotFoundError(f"the event file {path!r} was removed while it was written to")


def _find_new_file(logdir: str, existing: Iterable[str]) -> str | None:
    """Return the path of the file that TensorFlow has just created; its writer does not expose it."""
    with contextlib.suppress(OSError):
        for name in sorted(set(os.listdir(logdir)) - set(existing)):
            if ".tfevents." in name and f".{os.getpid()}." in name:
                return os.path.join(logdir, name)
    return None


def _await_later_name(logdir: str, names: Iterable[str]) -> None:
    """Wait, at most one second, until a new event file sorts after those in the directory.

    Readers read the files of a directory in the order of their names and never go back. A name holds
    the second, followed by host and process: two files of one second may sort either way.
    """
    newest = max(
        (int(match[1]) for name in names if (match := re.search(r"\.tfevents\.(\d{10})\b", name))),
        default=0,
    )
    if newest - time.time() > 1:
        warnings.warn(
            f"{logdir!r} holds an event file from {newest - time.time():.0f} s in the future. "
            "TensorBoard reads files in the order of their names and may not show what is written "
            "now: log to a new directory, or fix the system clock.",
            JaxboardWarning,
            stacklevel=2,
        )
        return
    while (wait := newest + 1 - time.time()) > 0:
        time.sleep(wait)
