"""The sink that TensorBoard reads. Imports neither TensorFlow nor TensorBoard before it is used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from jaxboard import _paths
from jaxboard._errors import RunError
from jaxboard.records import Batch
from jaxboard.sinks._directory import Directory, of_run
from jaxboard.sinks._protocol import Sink


class TensorBoardSink(Sink):
    """Writes event files into a directory, through ``tf.summary`` where TensorFlow is to be had.

    Where no TensorFlow can be imported it says so once and writes with TensorBoard's own event
    writer. One such sink per directory: TensorBoard stops reading the older of two. What belongs to a
    run beneath this one (:attr:`Record.run`) goes to an event file in a directory of that name, which
    is made when the first of it comes.

    After any error the file is given up (and removed, if no ``flush`` had succeeded on it), and the
    next ``write`` opens a new one beside it, to be read after it. The caller writes again what no
    ``flush`` has confirmed; what the broken file holds of that is dropped by readers as far as its
    steps lie behind all confirmed ones, and else is there twice. Of runs beneath this one, all files
    that hold something unconfirmed share that fate.

    Values are stored as TensorBoard shows them: scalars of every real dtype as float32 (NaN and
    infinities as they are), histograms as float64, with the wall time of the record (a wall time
    that is not finite becomes that of writing). Steps are int64 and may be negative.

    Args:
        logdir: the directory of this run, made if need be. With TensorFlow it may be remote
            (``gs://…``).
        start_step: the step from which this sink writes. What an earlier sink wrote into the
            directory at this step or later is dropped by readers.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxboard.records import Kind, Record
        >>> sink = TensorBoardSink(tempfile.mkdtemp())
        >>> sink.write([Record(Kind.SCALAR, "loss", 0, 1700000000.0, np.float32(0.5))])
        >>> sink.flush()  # On disk, and visible in TensorBoard.
        >>> sink.close()
    """

    def __init__(self, logdir: str | os.PathLike[str], *, start_step: int = 0) -> None:
        # The file is opened later, when the process may have moved.
        self.logdir = _paths.absolute(logdir)
        self._start_step = start_step
        # By the name of the run; "" is this one.
        self._directories = {"": Directory(self.logdir, start_step)}
        self._process: int | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"TensorBoardSink({self.logdir!r})"

    def open(self) -> None:
        """Imports what it writes with and opens the event file, unless that is done.

        ``write`` and ``flush`` do it when they need it; this is for a thread that has time for
        TensorFlow's import (seconds) before there is something to write.

        Raises:
            RunError: the directory cannot be written to, the sink is closed, or this process is a
                fork of the one that opened it.
        """
        if self._closed:
            raise RunError(f"{self!r} is closed.")
        if self._process not in (None, os.getpid()):
            raise RunError(
                f"{self!r} was opened by process {self._process}, of which this one is a fork: "
                "two processes cannot write to one run directory. Open another in this process."
            )
        self._directories[""].open()
        self._process = os.getpid()

    def write(self, batch: Batch) -> None:
        """Takes a batch.

        Raises:
            RunError: see :meth:`open`.
            Exception: what the file system raised. Nothing since the last ``flush`` is safe.
        """
        with self._all_or_none():
            for run, items in _by_run(batch).items():
                self._directory(run).write(items)

    def flush(self) -> None:
        """Makes what was written visible to readers, and safe if the process is killed.

        Raises:
            RunError: see :meth:`open`.
            Exception: what the file system raised. Nothing since the last ``flush`` is safe.
        """
        with self._all_or_none():
            own, *others = self._directories.values()
            written = [own, *(each for each in others if each.unconfirmed)]
            for directory in written:
                directory.flush()
        for directory in written:
            directory.confirm()

    def close(self) -> None:
        """Flushes and closes the files. A second call, or one in a forked process, does nothing.

        Raises:
            Exception: what the file system raised. Nothing since the last ``flush`` is safe.
        """
        if self._closed or self._process != os.getpid():
            self._closed = True
            return
        self._closed = True
        with contextlib.ExitStack() as stack:  # It calls them all, whichever raises.
            for directory in self._directories.values():
                stack.callback(directory.close)

    def _directory(self, run: str) -> Directory:
        if run not in self._directories:
            self._directories[run] = Directory(of_run(self.logdir, run), self._start_step)
        return self._directories[run]

    @contextlib.contextmanager
    def _all_or_none(self) -> Iterator[None]:
        """The same batch comes again after an error; so what some directories have of it must go."""
        try:
            self.open()
            yield
        except BaseException:
            if self._process == os.getpid():
                for directory in self._directories.values():
                    if directory.unconfirmed:
                        directory.give_up()
            raise


def _by_run(batch: Batch) -> dict[str, Batch]:
    parts: dict[str, Batch] = {}
    for item in batch:
        parts.setdefault(item.run, []).append(item)
    return parts
