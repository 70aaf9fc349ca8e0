"""The event file of one run directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from typing import TYPE_CHECKING

from jaxboard import _paths
from jaxboard._errors import RunError
from jaxboard.records import Batch, Kind, Scalars

if TYPE_CHECKING:
    from jaxboard.sinks._writers import Writer


class Directory:
    """A writer of one directory. After an error it abandons its file, and the next write opens another.

    Args:
        path: the directory, created if it does not exist.
        start_step: the first step that will be written.

    Attributes:
        path: the directory.
        has_pending: True if something was written since the last :meth:`confirm`.
    """

    def __init__(self, path: str, start_step: int) -> None:
        self.path = path
        self.has_pending = False
        self._writer: Writer | None = None
        self._file_confirmed = False  # True once anything in the open file is confirmed.
        self._confirmed_end = start_step  # One more than the largest confirmed step.
        self._written_end = start_step  # One more than the largest step written.
        self._has_hparams = False

    def open(self) -> Writer:
        """Return the writer of the event file, opened if necessary.

        Raises:
            RunError: the directory cannot be written to.
        """
        if self._writer is None:
            # Imported late: these import tensorboard, and opening a file imports tensorflow.
            from jaxboard.sinks import _encoding, _writers

            try:
                self._writer = _writers.open_writer(self.path)
            except RunError:
                raise
            except Exception as error:
                raise RunError(f"cannot write to {self.path!r}: {_reason(error)}") from error
            self._file_confirmed = False
            self._written_end = self._confirmed_end
            with self._abandoned_on_error():
                self._writer.write(_encoding.session_start(self._confirmed_end))
        return self._writer

    def write(self, batch: Batch) -> None:
        """Write a batch, all of which belongs to this directory."""
        writer = self.open()
        from jaxboard.sinks import _encoding

        events = _encoding.encode(batch)
        self.has_pending = True
        with self._abandoned_on_error():
            writer.write(events)
        self._written_end = max(self._written_end, _end_step(batch))
        self._has_hparams |= any(getattr(item, "kind", None) is Kind.HPARAMS for item in batch)

    def flush(self) -> None:
        """Make everything written so far visible to readers."""
        writer = self.open()
        with self._abandoned_on_error():
            writer.flush()

    def confirm(self) -> None:
        """Note that flushed records will not be written again."""
        self.has_pending = False
        self._file_confirmed = True
        self._confirmed_end = self._written_end

    def close(self) -> None:
        """Flush and close the file."""
        if self._writer is None:
            return
        from jaxboard.sinks import _encoding

        with self._abandoned_on_error():
            if self._has_hparams:
                self._writer.write(_encoding.session_end())
            self._writer.flush()
            self._writer.close()
        self._writer = None

    def abandon(self) -> None:
        """Close the file after an error: its unconfirmed records will be written to another file.

        A file without any confirmed record is removed.
        """
        from jaxboard.sinks import _writers

        self.has_pending = False
        writer, self._writer = self._writer, None
        if writer is not None:
            # The first error is the one to raise; an error of close() follows from it.
            with contextlib.suppress(Exception):
                writer.close()
            if not self._file_confirmed:
                _writers.remove(writer.path)

    @contextlib.contextmanager
    def _abandoned_on_error(self) -> Generator[None]:
        try:
            yield
        except BaseException:
            self.abandon()
            raise


def directory_of(logdir: str, run: str) -> str:
    """Return the directory of the run named ``run`` below the run of ``logdir``."""
    return f"{logdir}/{run}" if _paths.is_remote(logdir) else os.path.join(logdir, *run.split("/"))


def _end_step(batch: Batch) -> int:
    """Return one more than the largest step of a batch; 0 for an empty one."""
    steps = [
        int(item.steps.max(initial=-1)) if isinstance(item, Scalars) else item.step
        for item in batch
    ]
    return 1 + max(steps, default=-1)


def _reason(error: Exception) -> str:
    """Return the message of an error without the names of ops that TensorFlow adds to it."""
    text: str = getattr(error, "message", None) or str(error)
    return text.rpartition("}} ")[2].partition(" [Op:")[0]
