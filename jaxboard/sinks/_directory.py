"""The event file of one run directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaxboard import _paths
from jaxboard._errors import RunError
from jaxboard.records import Batch, Kind, Scalars

if TYPE_CHECKING:
    from jaxboard.sinks._writers import Writer


class Directory:
    """Writes to one directory. After an error the file is given up; the next write opens another.

    Args:
        path: the directory, made if need be.
        start_step: the step from which is written.

    Attributes:
        path: the directory.
        unconfirmed: whether something was written since the last :meth:`confirm`.
    """

    def __init__(self, path: str, start_step: int) -> None:
        self.path = path
        self.unconfirmed = False
        self._writer: Writer | None = None
        self._confirmed = False  # Whether anything in the file that is open is.
        self._next_step = start_step  # Behind all that is confirmed to be in earlier files.
        self._unflushed_step = start_step
        self._has_hparams = False

    def open(self) -> Writer:
        """The event file, opened unless it is.

        Raises:
            RunError: the directory cannot be written to.
        """
        if self._writer is None:
            # Not before now: this imports tensorboard, and calling it tensorflow.
            from jaxboard.sinks import _encoding, _writers

            try:
                self._writer = _writers.open_writer(self.path)
            except RunError:
                raise
            except Exception as error:
                raise RunError(f"cannot write to {self.path!r}: {_reason(error)}") from error
            self._confirmed = False
            self._unflushed_step = self._next_step
            with self._given_up_on_error():
                self._writer.write(_encoding.start(self._next_step))
        return self._writer

    def write(self, batch: Batch) -> None:
        """Takes what is of this directory."""
        writer = self.open()
        from jaxboard.sinks import _encoding

        events = _encoding.encode(batch)
        self.unconfirmed = True
        with self._given_up_on_error():
            writer.write(events)
        self._unflushed_step = max(self._unflushed_step, _step_after(batch))
        self._has_hparams |= any(getattr(item, "kind", None) is Kind.HPARAMS for item in batch)

    def flush(self) -> None:
        """Makes what was written visible to readers."""
        writer = self.open()
        with self._given_up_on_error():
            writer.flush()

    def confirm(self) -> None:
        """What was flushed will not be written again."""
        self.unconfirmed = False
        self._confirmed = True
        self._next_step = self._unflushed_step

    def close(self) -> None:
        """Flushes and closes the file."""
        if self._writer is None:
            return
        from jaxboard.sinks import _encoding

        with self._given_up_on_error():
            if self._has_hparams:
                self._writer.write(_encoding.session_end())
            self._writer.flush()
            self._writer.close()
        self._writer = None

    def give_up(self) -> None:
        """Lets go of the file: what is not confirmed in it will be written again, to another."""
        from jaxboard.sinks import _writers

        self.unconfirmed = False
        writer, self._writer = self._writer, None
        if writer is not None:
            # The first error is the one to hear of; what closing says follows from it.
            with contextlib.suppress(Exception):
                writer.close()
            if not self._confirmed:
                _writers.remove(writer.path)

    @contextlib.contextmanager
    def _given_up_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.give_up()
            raise


def of_run(logdir: str, run: str) -> str:
    """The directory of a run beneath another one's."""
    return f"{logdir}/{run}" if _paths.is_remote(logdir) else os.path.join(logdir, *run.split("/"))


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
