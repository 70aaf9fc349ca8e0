"""The event files of one run directory, one of which is open."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, cast

from jaxboard import _paths
from jaxboard._errors import RunError
from jaxboard._log import describe
from jaxboard._process import fork
from jaxboard.records import Batch, Kind, Record
from jaxboard.sinks._lost import Lose
from jaxboard.sinks._rolling import Rolling
from jaxboard.sinks._tags import Tags

if TYPE_CHECKING:
    from jaxboard.sinks._writers import Writer


_importing = threading.Lock()
"""Held while modules are imported. A child forked meanwhile would wait for these imports forever."""
fork.wait_for(_importing)

_PATIENCE_SECS = 30.0
"""Most seconds to wait for another thread's imports. In a forked child that thread may not exist."""


class Directory:
    """A writer of one directory.

    If its file is finished, as :class:`Rolling` decides, the next write opens another one. After an error it
    abandons its file, and the next write opens another one, too.

    Args:
        path: the directory, created if it does not exist.
        start_step: the first step that will be written: readers drop what the directory holds from this
            step on. None to drop nothing.
        max_file_bytes: the size at which a file is finished; None for the default of :class:`Rolling`.
        suffix: the end of the names of its files.
        hidden: by tag, the step from which readers drop its points instead; None if all tags have ``start_step``.
        clock: returns seconds.

    Attributes:
        path: the directory.
        failed: whether the program has failed, for the HParams dashboard.
        has_pending: True if something was written since the last :meth:`confirm`.
    """

    def __init__(
        self,
        path: str,
        start_step: int | None,
        max_file_bytes: int | None = None,
        suffix: str = "",
        *,
        hidden: Mapping[str, int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.failed = False
        self._suffix = suffix
        self._hidden = hidden
        self.has_pending = False
        self._writer: Writer | None = None
        self._rolling = Rolling(max_file_bytes, is_remote=_paths.is_remote(path), clock=clock)
        self._tags = Tags()
        # The step from which readers shall drop what other files hold, or None.
        self._restart = start_step
        # The tags that other files hold, with their last steps; None if the files were not read yet.
        self._earlier: Mapping[str, int] | None = None if start_step is not None else {}
        # True if no points of an earlier run are hidden by a restart after the confirmed ones.
        self._owns_later_steps = start_step is not None and hidden is None
        self._confirmed_end = start_step or 0  # One more than the largest confirmed step.
        self._written_end = self._confirmed_end  # One more than the largest step written.
        self._has_hparams = False

    def open(self) -> Writer:
        """Return the writer of the event file, opened if necessary.

        Raises:
            RunError: the directory cannot be written to.
        """
        if self._writer is None:
            # Imported late: these import tensorboard, and opening a remote file imports tensorflow.
            acquired = _importing.acquire(timeout=_PATIENCE_SECS)
            try:
                from jaxboard.sinks import _earlier_events, _writers
            finally:
                if acquired:
                    _importing.release()

            try:
                if not self._owns_later_steps and not _writers.has_event_files(self.path):
                    self._owns_later_steps = True
                if self._earlier is None:
                    self._earlier = _earlier_events.last_steps(self.path)
                self._writer = _writers.open_writer(self.path, self._suffix)
            except RunError:
                raise
            except Exception as error:
                raise RunError(f"cannot write to {self.path!r}: {_reason(error)}") from error
            self._written_end = self._confirmed_end
            self._rolling.begin()
            if self._restart is not None:
                self.has_pending = True
                with self._abandoned_on_error():
                    self._write_marks(self._writer, self._restart, self._earlier or {})
        return self._writer

    def _write_marks(self, writer: Writer, step: int, earlier: Mapping[str, int]) -> None:
        """Make readers drop points of other files.

        Args:
            writer: the writer.
            step: the step from which they drop all points.
            earlier: the tags of those files, with their last steps.
        """
        from jaxboard.sinks import _encoding

        if self._hidden is None:
            tags = [tag for tag, last in earlier.items() if last >= step]
            writer.write(_encoding.restart(step, tags))
            return
        first_steps = {tag: self._hidden.get(tag, step) for tag in earlier}
        writer.write(_encoding.hide({t: n for t, n in first_steps.items() if earlier[t] >= n}))

    def write(self, batch: Batch, lose: Lose) -> None:
        """Write a batch, all of which belongs to this directory.

        Args:
            batch: the records.
            lose: called for each record that an event file cannot hold.
        """
        if self._writer is not None and not self.has_pending and self._rolling.is_finished():
            self._finish(self._writer)
        writer = self.open()
        from jaxboard.sinks import _encoding

        batch = self._write_embeddings(batch, lose)
        selected = self._tags.select(batch, _encoding.encode, lose)
        events = _encoding.encode(selected, lose)
        self.has_pending = True
        with self._abandoned_on_error():
            writer.write(events)
        self._written_end = max(self._written_end, events.end_step)
        self._has_hparams |= any(getattr(item, "kind", None) is Kind.HPARAMS for item in selected)

    def _write_embeddings(self, batch: Batch, lose: Lose) -> Batch:
        """Write embeddings, which have files of their own. Return the other records."""
        embeddings = [item for item in batch if getattr(item, "kind", None) is Kind.EMBEDDING]
        if not embeddings:
            return batch
        from jaxboard.sinks import _projector

        self.has_pending = True
        for record in cast("list[Record]", embeddings):
            with self._abandoned_on_error():
                try:
                    _projector.write(self.path, record)
                except (AttributeError, TypeError, ValueError, UnicodeError) as error:
                    lose(record.tag, 1, f"it cannot be encoded: {describe(error)}")
        return [item for item in batch if item not in embeddings]

    def flush(self) -> None:
        """Make everything written so far visible to readers."""
        writer = self.open()
        with self._abandoned_on_error():
            writer.flush()
        self._rolling.flushed(writer.size)

    def confirm(self) -> None:
        """Note that flushed records will not be written again."""
        self.has_pending = False
        self._earlier = {}
        self._confirmed_end = self._written_end
        if self._writer is not None:
            self._writer.confirm()

    def close(self) -> None:
        """Flush and close the file."""
        if self._writer is None:
            return
        from jaxboard.sinks import _encoding

        with self._abandoned_on_error():
            if self._has_hparams:
                self._writer.write(_encoding.session_end(failed=self.failed))
            self._writer.flush()
            self._writer.close()
        self._writer = None

    def abandon(self) -> None:
        """Close the file after an error: its unconfirmed records will be written to another file.

        They are removed from this one, unless TensorFlow writes it. A file without any confirmed record is removed.
        """
        self.has_pending = False
        writer, self._writer = self._writer, None
        if writer is None:
            return
        writer.abandon()
        if self._owns_later_steps:
            self._restart = self._confirmed_end

    def _finish(self, writer: Writer) -> None:
        """Close a file, all of which is confirmed."""
        with self._abandoned_on_error():
            writer.close()
        self._writer = None
        # Its own restart has been confirmed; in the next file it would drop what this one holds.
        self._restart = None

    @contextlib.contextmanager
    def _abandoned_on_error(self) -> Generator[None]:
        try:
            yield
        except BaseException:
            self.abandon()
            raise


def directory_of(logdir: str, run: str) -> str:
    """Return the directory of the run named ``run`` below the run of ``logdir``.

    Raises:
        ValueError: ``run`` is not a relative path, with ``/`` between its parts.
    """
    problem = _paths.problem_below(run) if run else None
    if problem is not None:
        raise ValueError(problem)
    return _paths.below(logdir, run)


def _reason(error: Exception) -> str:
    """Return the message of an error without the names of ops that TensorFlow adds to it."""
    text: str = getattr(error, "message", None) or str(error)
    return text.rpartition("}} ")[2].partition(" [Op:")[0]
