"""Serialised events to an event file: through TensorFlow where there is one, else by ourselves.

A writer is opened once, on one directory, and thrown away after its first error: TensorFlow's own
forgets its queue then and later writes on behind half a record, which no reader passes.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import re
import socket
import sys
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from jaxboard import _compat, _paths
from jaxboard._errors import JaxboardWarning, RunError
from jaxboard.sinks import _proto
from jaxboard.sinks._encoding import Events


class Writer(Protocol):
    """An open event file.

    Attributes:
        path: where it is, None for a remote one.
    """

    path: str | None

    def write(self, events: Events) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def open_writer(logdir: str) -> Writer:
    """A new event file in a directory, made if need be, that sorts behind those already there.

    Raises:
        RunError: the directory is of a kind that cannot be written to here.
        Exception: whatever the file system raised.
    """
    tf = tensorflow()
    return RecordFileWriter(logdir) if tf is None else TensorFlowWriter(tf, logdir)


# --- TensorFlow. ----------------------------------------------------------------------------------


@functools.cache
def tensorflow() -> Any:
    """TensorFlow, or None where there is none; says once that there is none.

    Where nobody has imported it before, it is kept off the GPUs, which it would otherwise fill,
    and from most of what it writes to stderr on import.
    """
    first = "tensorflow" not in sys.modules
    try:
        with _quiet_import() if first else contextlib.nullcontext():
            import tensorflow as tf
        _ = tf.summary.create_file_writer, tf.raw_ops.ImportEvent  # Not an empty namespace.
    except Exception as error:  # A broken build fails in any way.
        warnings.warn(
            "TensorFlow cannot be imported, so events are written by TensorBoard's own, slower "
            f"event writer, to local directories only ({type(error).__name__}: {error}).",
            JaxboardWarning,
            stacklevel=2,
        )
        return None
    _compat.keep_tensorflow_working()
    if first:
        with contextlib.suppress(RuntimeError):  # Somebody was faster and has started its devices.
            tf.config.set_visible_devices([], "GPU")
    return tf


@contextlib.contextmanager
def _quiet_import() -> Iterator[None]:
    name = "TF_CPP_MIN_LOG_LEVEL"
    before = os.environ.get(name)
    os.environ.setdefault(name, "3")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


class TensorFlowWriter:
    """Writes through ``tf.summary``, without the interpreter lock but for a call per batch."""

    def __init__(self, tf: Any, logdir: str) -> None:
        self._tf = tf
        self.path: str | None = None
        try:
            before = tf.io.gfile.listdir(logdir) if tf.io.gfile.isdir(logdir) else []
            _await_later_name(logdir, before)
            try:
                # It flushes when it is told to; the queue is only bounded in case it never is.
                self._writer = tf.summary.create_file_writer(logdir, max_queue=1 << 20)
            finally:
                if not _paths.is_remote(logdir):
                    self.path = _own_new_file(logdir, before)
        except tf.errors.UnimplementedError as error:
            scheme = logdir.partition("://")[0]
            raise RunError(
                f"cannot write to {logdir!r}: TensorFlow has no file system for '{scheme}://'. "
                "Import a package that brings it before the run is opened (tensorflow-io for s3, "
                "hdfs and az), or log to a local directory and copy that."
            ) from error
        except Exception:
            remove(self.path)  # On a full disk it is there, and empty.
            raise
        # Private, but the only handle of the op that keeps an event's own wall time.
        self._resource = getattr(self._writer, "_resource", None)
        self._fault: Exception | None = None
        _flushed_before_fork.add(self)

    def write(self, events: Events) -> None:
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
        self._raise_fault()
        self._writer.flush()
        _check_there(self.path)

    def close(self) -> None:
        _flushed_before_fork.discard(self)
        self._writer.close()

    def flush_before_fork(self) -> None:
        """The child's exit would write again what the parent's queue holds at the fork."""
        try:
            self.flush()
        except Exception as fault:  # Not the forking thread's; raised at the next call.
            self._fault = fault

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def _write_summaries(self, events: Events) -> None:
        """By public API alone: the points get the wall time of writing."""
        for data in _split(events):
            event = _proto.Event.FromString(data)
            if event.HasField("summary"):
                with self._writer.as_default():
                    self._tf.summary.experimental.write_raw_pb(
                        event.summary.SerializeToString(), step=event.step
                    )


@functools.cache
def _importer(tf: Any) -> Any:
    """One graph for all writers: the resource is an argument, so that none is kept alive by it."""

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec((), tf.resource),
            tf.TensorSpec((), tf.string),
            tf.TensorSpec((None,), tf.int64),
            tf.TensorSpec((None,), tf.int64),
        ],
    )
    def import_events(writer: Any, data: Any, starts: Any, sizes: Any) -> None:
        def body(i: Any) -> Any:
            event = tf.strings.substr(data, starts[i], sizes[i])
            done = tf.raw_ops.ImportEvent(writer=writer, event=event)
            with tf.control_dependencies([done]):  # One after the other, in order.
                return i + 1

        tf.while_loop(lambda i: i < tf.size(starts), body, [tf.constant(0)], parallel_iterations=1)

    return import_events


_flushed_before_fork: weakref.WeakSet[TensorFlowWriter] = weakref.WeakSet()


def _before_fork() -> None:
    for writer in list(_flushed_before_fork):
        writer.flush_before_fork()


if hasattr(os, "register_at_fork"):  # Not on Windows.
    os.register_at_fork(before=_before_fork)


# --- Without TensorFlow. --------------------------------------------------------------------------


class RecordFileWriter:
    """Writes a local event file with TensorBoard's record format."""

    _numbers = itertools.count()

    def __init__(self, logdir: str) -> None:
        if _paths.is_remote(logdir):
            raise RunError(
                f"cannot write to {logdir!r}: remote directories need TensorFlow, and it cannot be "
                "imported. Install tensorflow or tensorflow-cpu, or log to a local directory."
            )
        os.makedirs(logdir, exist_ok=True)
        _await_later_name(logdir, os.listdir(logdir))
        name = (
            f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
            f".{next(self._numbers)}"
        )
        # Unbuffered: nothing is left for a forked child, or for after an error, to write again.
        self.path: str | None = os.path.join(logdir, name)
        self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 (open as long as this is)
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
        from tensorboard.summary.writer.record_writer import RecordWriter

        framed = io.BytesIO()
        records = RecordWriter(framed)
        for data in _split(events):
            records.write(data)
        rest = framed.getbuffer()
        while rest:  # A disk that is nearly full takes a part of it, without an error.
            rest = rest[self._file.write(rest) :]

    def flush(self) -> None:
        _check_there(self.path)  # And nothing is held back.

    def close(self) -> None:
        self._file.close()


def _split(events: Events) -> Iterator[bytes]:
    at = 0
    for size in events.sizes.tolist():
        yield events.data[at : at + size]
        at += size


# --- Files. ---------------------------------------------------------------------------------------


def remove(path: str | None) -> None:
    """Removes an event file of which nothing is needed, as far as that can be done."""
    if path is not None:
        with contextlib.suppress(OSError):
            os.remove(path)


def _check_there(path: str | None) -> None:
    # Writing to a file that somebody has deleted is no error to the system.
    if path is not None and not os.path.exists(path):
        raise FileNotFoundError(f"the event file {path!r} was removed while it was written to")


def _own_new_file(logdir: str, before: Iterable[str]) -> str | None:
    """What TensorFlow, which does not tell, has called its file."""
    with contextlib.suppress(OSError):
        for name in sorted(set(os.listdir(logdir)) - set(before)):
            if ".tfevents." in name and f".{os.getpid()}." in name:
                return os.path.join(logdir, name)
    return None


def _await_later_name(logdir: str, names: Iterable[str]) -> None:
    """Waits for a second in which no event file of the directory was opened, for one at most.

    Readers take the files of a directory in the order of their names and do not go back. A name
    has the second and, after it, host and process: two of one second may sort either way.
    """
    newest = max(
        (int(match[1]) for name in names if (match := re.search(r"\.tfevents\.(\d{10})\b", name))),
        default=0,
    )
    if newest - time.time() > 1:
        warnings.warn(
            f"{logdir!r} holds an event file from {newest - time.time():.0f} s in the future. "
            "TensorBoard reads files in the order of their names and may not show what is written "
            "now: log to a new directory, or mend the clock.",
            JaxboardWarning,
            stacklevel=2,
        )
        return
    while (wait := newest + 1 - time.time()) > 0:
        time.sleep(wait)
