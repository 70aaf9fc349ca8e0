"""The writer of remote event files, which uses TensorFlow, and the checks that it works in this process."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from jaxboard import _compat
from jaxboard._errors import RunError
from jaxboard._log import describe, log_once
from jaxboard._process.fork import Stage, on_fork, was_imported_before_fork
from jaxboard.sinks import _file_names, _file_systems, _proto, _tfrecords
from jaxboard.sinks._encoding import Events
from jaxboard.sinks._quiet_import import quiet_import

_ANSWER_SECS = 15.0
"""Most seconds that TensorFlow may take for a graph with one constant."""


_FORK_SECS = 1.0
"""The longest time that a fork waits for one writer."""


def open_writer(logdir: str, suffix: str = "") -> TensorFlowWriter:
    """Open a new event file in a remote directory.

    Args:
        logdir: the directory.
        suffix: the end of the file's name.

    Raises:
        RunError: TensorFlow does not work in this process, or has no file system for this URL.
        Exception: an error of the file system, or of TensorFlow.
    """
    return TensorFlowWriter(usable_tensorflow("write to", logdir), logdir, suffix)


def usable_tensorflow(task: str, logdir: str) -> ModuleType:
    """Return TensorFlow, which works in this process.

    Args:
        task: what it is needed for, for the message.
        logdir: the URL.

    Raises:
        RunError: TensorFlow does not work in this process.
    """
    tf = _usable_tensorflow()
    if isinstance(tf, str):
        package = _file_systems.package_for(logdir)
        without, install = (f"without {package}, ", f"{package}, ") if package else ("", "")
        raise RunError(
            f"cannot {task} {logdir!r}: {without}remote directories need TensorFlow, and {tf}. Install "
            f"{install}tensorflow or tensorflow-cpu, or log to a local directory."
        )
    return tf


def _usable_tensorflow() -> ModuleType | str:
    """Return TensorFlow, or the reason why it cannot write event files in this process."""
    if was_imported_before_fork("tensorflow"):
        return (
            "it blocks forever in this process, a fork of one that had imported it (start processes with the method "
            "'spawn' or 'forkserver')"
        )
    tf = tensorflow()
    if isinstance(tf, str):
        return tf
    # All of these may change, so they are checked for each file.
    if not tf.executing_eagerly():
        return "its eager execution is disabled"
    if tf.config.functions_run_eagerly():
        return "tf.config.run_functions_eagerly(True) is set"
    return _execution_problem(tf) or tf


@functools.cache
def tensorflow() -> ModuleType | str:
    """Return TensorFlow, or the reason why it cannot be used.

    If this is its first import in the process, TensorFlow is kept off the GPUs, whose memory it would
    otherwise fill, and what it logs on import does not appear.
    """
    first = "tensorflow" not in sys.modules
    try:
        with quiet_import() if first else contextlib.nullcontext():
            tf = importlib.import_module("tensorflow")
            # An empty namespace package has none of these.
            _ = tf.summary.create_file_writer, tf.raw_ops.ImportEvent, tf.config, tf.errors.OpError
            _ = tf.executing_eagerly, tf.function, tf.io.gfile
            if first:
                with contextlib.suppress(Exception):  # Its devices were started meanwhile.
                    tf.config.set_visible_devices([], "GPU")
        _compat.keep_tensorflow_working()
    except BaseException as error:  # A broken build can raise anything.
        return f"it cannot be imported ({describe(error)})"
    return tf


@functools.cache
def _execution_problem(tf: ModuleType) -> str | None:
    """Return None if TensorFlow executes graphs, otherwise the reason why not.

    A broken build may raise. A fork of a process in which TensorFlow has computed blocks forever. jaxboard
    knows of forks only if it was imported before, so the check runs on a thread that may be left behind.
    """
    problem: list[str | None] = []

    def execute() -> None:
        try:
            _importer(tf)
            tf.function(lambda: tf.constant(0), autograph=False)()
        except BaseException as error:
            problem.append(f"it raised {describe(error)}")
        else:
            problem.append(None)

    thread = threading.Thread(target=execute, name="jaxboard TensorFlow check", daemon=True)
    thread.start()
    thread.join(_ANSWER_SECS)
    return problem[0] if problem else f"it computed nothing within {_ANSWER_SECS:g} s"


class TensorFlowWriter:
    """A writer that uses ``tf.summary``. It holds the interpreter lock for one call per batch only.

    Attributes:
        size: the size of the file in bytes, without the first event.
    """

    def __init__(self, tf: ModuleType, logdir: str, suffix: str = "") -> None:
        self._tf = tf
        try:
            _await_later_name(
                logdir, tf.io.gfile.listdir(logdir) if tf.io.gfile.isdir(logdir) else []
            )
            # A queue this long never flushes by itself; flush() does.
            self._writer = tf.summary.create_file_writer(
                logdir, max_queue=1 << 20, filename_suffix=suffix or None
            )
        except tf.errors.UnimplementedError as error:
            scheme = logdir.partition("://")[0]
            package = _file_systems.package_for(logdir) or "the package that adds it to fsspec"
            raise RunError(
                f"cannot write to {logdir!r}: TensorFlow has no file system for '{scheme}://'. "
                f"Install {package}, or log to a local directory and copy it."
            ) from error
        # Private, but the only way to the op that keeps an event's own wall time.
        self._resource: object | None = getattr(self._writer, "_resource", None)
        self._fault: Exception | None = None
        self.size = 0
        _flushed_before_fork.add(self)

    def write(self, events: Events) -> None:
        """Queue events."""
        self._raise_fault()
        self.size += len(events.data) + _tfrecords.FRAME_BYTES * len(events.sizes)
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
        """Write the queue."""
        self._raise_fault()
        self._writer.flush()

    def confirm(self) -> None:
        """Do nothing: a remote file cannot be cut off."""

    def abandon(self) -> None:
        """Close the file after an error. It may keep points that will be written again to another one."""
        # The first error is the one to raise; an error of close() follows from it.
        with contextlib.suppress(Exception):
            self.close()

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


def _split(events: Events) -> Iterator[bytes]:
    """Yield each serialized event."""
    sizes: list[int] = events.sizes.tolist()
    start = 0
    for size in sizes:
        yield events.data[start : start + size]
        start += size


def _await_later_name(logdir: str, names: Iterable[str]) -> None:
    """Wait, at most one second, until a new event file sorts after those in the directory.

    Readers read the files of a directory in the order of their names and never go back. TensorFlow chooses the name:
    the second, followed by host and process. Two files of one second may sort either way.
    """
    newest = _file_names.newest_time(names)
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

    # A concrete function runs as a graph even if the program makes functions run eagerly.
    return import_events.get_concrete_function()


_flushed_before_fork: weakref.WeakSet[TensorFlowWriter] = weakref.WeakSet()


def _flush_before_fork() -> None:
    for writer in list(_flushed_before_fork):
        # On another thread: the flush may hang, and the fork must not.
        thread = threading.Thread(
            target=writer.flush_before_fork, name="jaxboard flush before fork", daemon=True
        )
        thread.start()
        thread.join(_FORK_SECS)


def _forget_writers() -> None:
    # A child of the child must not wait for TensorFlow, which blocks there.
    _flushed_before_fork.clear()


on_fork(Stage.QUEUES, before=_flush_before_fork, in_child=_forget_writers)
