"""The sink that TensorBoard reads. Imports neither TensorFlow nor TensorBoard before it is used."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaxboard._errors import RunError
from jaxboard._record import Batch, Kind, Scalars

if TYPE_CHECKING:
    from jaxboard.sinks._writers import Writer


class TensorBoardSink:
    """Writes event files into a directory, through ``tf.summary`` where TensorFlow is to be had.

    Where no TensorFlow can be imported it says so once and writes with TensorBoard's own event
    writer. One such sink per directory: TensorBoard stops reading the older of two.

    After any error the file is given up (and removed, if no ``flush`` had succeeded on it), and the
    next ``write`` opens a new one beside it, to be read after it. The caller writes again what no
    ``flush`` has confirmed; what the broken file holds of that is dropped by readers as far as its
    steps lie behind all confirmed ones, and else is there twice.

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
        >>> from jaxboard._record import Kind, Record
        >>> sink = TensorBoardSink(tempfile.mkdtemp())
        >>> sink.write([Record(Kind.SCALAR, "loss", 0, 1700000000.0, np.float32(0.5))])
        >>> sink.flush()  # On disk, and visible in TensorBoard.
        >>> sink.close()
    """

    def __init__(self, logdir: str | os.PathLike[str], *, start_step: int = 0) -> None:
        path = os.fspath(logdir)
        # The file is opened later, when the process may have moved.
        self.logdir = path if "://" in path else os.path.abspath(path)
        self._writer: Writer | None = None
        self._process: int | None = None
        self._confirmed = False  # Whether a flush has returned since the file was opened.
        self._next_step = start_step  # Behind all that is confirmed to be in earlier files.
        self._unflushed_step = start_step
        self._has_hparams = False
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
        self._open()

    def write(self, batch: Batch) -> None:
        """Takes a batch.

        Raises:
            RunError: see :meth:`open`.
            Exception: what the file system raised. Nothing since the last ``flush`` is safe.
        """
        writer = self._open()
        from jaxboard.sinks import _encoding

        events = _encoding.encode(batch)
        with self._given_up_on_error():
            writer.write(events)
        self._unflushed_step = max(self._unflushed_step, _step_after(batch))
        self._has_hparams |= any(getattr(item, "kind", None) is Kind.HPARAMS for item in batch)

    def flush(self) -> None:
        """Makes what was written visible to readers, and safe if the process is killed.

        Raises:
            RunError: see :meth:`open`.
            Exception: what the file system raised. Nothing since the last ``flush`` is safe.
        """
        writer = self._open()
        with self._given_up_on_error():
            writer.flush()
        self._confirmed = True
        self._next_step = self._unflushed_step

    def close(self) -> None:
        """Flushes and closes the file. A second call, or one in a forked process, does nothing.

        Raises:
            Exception: what the file system raised. Nothing since the last ``flush`` is safe.
        """
        if self._closed or self._writer is None or self._process != os.getpid():
            self._closed = True
            return
        self._closed = True
        from jaxboard.sinks import _encoding

        with self._given_up_on_error():
            if self._has_hparams:
                self._writer.write(_encoding.session_end())
            self._writer.flush()
            self._writer.close()
        self._writer = None

    def _open(self) -> Writer:
        if self._closed:
            raise RunError(f"{self!r} is closed.")
        if self._process not in (None, os.getpid()):
            raise RunError(
                f"{self!r} was opened by process {self._process}, of which this one is a fork: "
                "two processes cannot write to one run directory. Open another in this process."
            )
        if self._writer is None:
            # Not before now: this imports tensorboard, and calling it tensorflow.
            from jaxboard.sinks import _encoding, _writers

            try:
                self._writer = _writers.open_writer(self.logdir)
            except RunError:
                raise
            except Exception as error:
                raise RunError(f"cannot write to {self.logdir!r}: {_reason(error)}") from error
            self._process = os.getpid()
            self._confirmed = False
            self._unflushed_step = self._next_step
            with self._given_up_on_error():
                self._writer.write(_encoding.start(self._next_step))
        return self._writer

    @contextlib.contextmanager
    def _given_up_on_error(self) -> Iterator[None]:
        from jaxboard.sinks import _writers

        try:
            yield
        except BaseException:
            writer, self._writer = self._writer, None
            if writer is not None:
                # The first error is the one to hear of; what closing says follows from it.
                with contextlib.suppress(Exception):
                    writer.close()
                if not self._confirmed:  # All that is in it will be written again.
                    _writers.remove(writer.path)
            raise


def _step_after(batch: Batch) -> int:
    steps = [
        int(item.steps.max(initial=-1)) if isinstance(item, Scalars) else item.step
        for item in batch
    ]
    return 1 + max(steps, default=-1)


def _reason(error: Exception) -> str:
    """What went wrong; TensorFlow puts the name of an op's node before and the op's behind it."""
    text = getattr(error, "message", None) or str(error)
    return text.rpartition("}} ")[2].partition(" [Op:")[0]
