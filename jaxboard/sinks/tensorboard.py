"""The sink that writes event files for TensorBoard. It imports TensorBoard on first use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Mapping
from typing import TypeAlias, cast

from jaxboard import _paths
from jaxboard._check import as_int, fits_64_bits, positive_number
from jaxboard._errors import RunError, UsageError
from jaxboard._log import describe
from jaxboard._safe_repr import safe_repr
from jaxboard.records import Batch, size_of
from jaxboard.sinks._directory import Directory, directory_of
from jaxboard.sinks._file_names import file_suffix
from jaxboard.sinks._file_systems import locate
from jaxboard.sinks._lost import LostRecords
from jaxboard.sinks._protocol import Sink

_Hidden: TypeAlias = Mapping[str, Mapping[str, int]]


class TensorBoardSink(Sink):
    """A sink that writes event files into a directory.

    The logdir may be a URL. fsspec writes there if it is installed with the package for the scheme (s3fs, gcsfs,
    adlfs), and otherwise TensorFlow. An object store cannot append: each ``flush`` uploads the open file again. The
    sink begins a new file before more than twice the written bytes are uploaded, and never changes the older ones.

    Use one such sink per directory: TensorBoard stops reading the older of two. A sink that finds an open file of
    another process logs a warning that names it. Records of a run below this one (:attr:`Record.run`) go to an event
    file in a subdirectory of that name, created with the first of them.

    After any error the sink abandons its file (and removes it, if no ``flush`` has succeeded on it). The next
    ``write`` opens a new file beside it, which readers read after it. The caller writes again everything that
    no ``flush`` has confirmed, and the abandoned file is cut off before it. If that is impossible, as with
    TensorFlow's writer, points may appear twice. An error in one directory also abandons the
    files of all other directories that hold unconfirmed records.

    Values are stored as TensorBoard shows them: scalars of every real dtype as float32 (NaN and infinities
    unchanged), histograms as float64. The wall time is that of the record, or the time of writing if that is not
    finite. Steps are int64 and may be negative. A table is Markdown, with its first row as the header.

    A record that TensorBoard cannot show is lost, and no other: one whose value or tag cannot be encoded, or
    whose tag an earlier written record of that run has with another kind. It is logged, once for each tag, and
    :meth:`take_lost` counts it.

    Args:
        logdir: the directory of this run, created if it does not exist, or a URL (``s3://…``).
        start_step: the first step that will be written. TensorBoard then shows nothing that earlier sinks wrote
            at this step or later, in the directory and in those of the runs below. None keeps all of it.
        hidden: exceptions from ``start_step``: by run (:attr:`Record.run`) and tag, the step from which TensorBoard
            shows no points that earlier sinks wrote. With None, all tags have ``start_step``.
        max_file_bytes: begin a new event file when the open one has this size. TensorBoard shows the points of all of
            them. None for no limit in a local directory, and 64 MiB in a remote one, whose open file is in memory.
        filename_suffix: the end of the names of the event files. Those of the runs below have ``.child1`` after it.

    Raises:
        UsageError: ``logdir`` is not a path, ``start_step`` is not an integer, ``hidden`` does not map runs to tags and
            steps, ``max_file_bytes`` is not a number above 0, or ``filename_suffix`` cannot be a part of a file name.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from jaxboard.sinks import Kind, Record, TensorBoardSink
        >>> with tempfile.TemporaryDirectory() as logdir:
        ...     sink = TensorBoardSink(logdir)
        ...     sink.write([Record(Kind.SCALAR, "loss", 0, 1700000000.0, np.float32(0.5))])
        ...     sink.flush()  # On disk, and visible in TensorBoard.
        ...     sink.close()
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str],
        *,
        start_step: int | None = None,
        hidden: Mapping[str, Mapping[str, int]] | None = None,
        max_file_bytes: int | None = None,
        filename_suffix: str = "",
    ) -> None:
        if max_file_bytes is not None:
            positive_number("TensorBoardSink", "max_file_bytes", max_file_bytes)
        # Absolute: the file is opened later, when the working directory may have changed.
        self.logdir = _paths.absolute(_paths.checked("TensorBoardSink({})", logdir))
        if _paths.is_remote(self.logdir):
            with contextlib.suppress(Exception):  # Raised when the file is opened.
                # Here, because its imports start threads, which is impossible once a short program exits.
                locate(self.logdir)
        start_step = None if start_step is None else _checked_step(start_step)
        self._start_step = start_step
        self._hidden = None if hidden is None else _checked_hidden(hidden)
        self._max_file_bytes = max_file_bytes
        self._filename_suffix = _checked_suffix(filename_suffix)
        # True until readers drop what earlier sinks wrote at the first step or later.
        self._restarts = start_step is not None
        # By the name of the run; "" is this run itself.
        self._directories: dict[str, Directory] = {}
        self._directory("")
        self._lost = LostRecords()
        self._process: int | None = None
        self._has_flushed = False
        self._closed = False

    def __repr__(self) -> str:
        return f"TensorBoardSink({self.logdir!r})"

    def open(self) -> None:
        """Import the event writer and open the event file. A second call does nothing.

        ``write`` and ``flush`` call this themselves. For a remote directory, call it early, on a thread that can
        spend the seconds of the imports before there is anything to write.

        Raises:
            RunError: the directory cannot be written to, the sink is closed, or this process is a
                fork of the one that opened the sink.
        """
        if self._closed:
            raise RunError(f"{self!r} is closed.")
        if self._process not in (None, os.getpid()):
            raise RunError(
                f"{self!r} was opened by process {self._process}, and this process is a fork of it: "
                "two processes cannot write to one run directory. Open another sink in this process."
            )
        self._directory("").open()
        self._process = os.getpid()
        if self._restarts and self._start_step is not None:
            self._restart(self._start_step)

    def write(self, batch: Batch) -> None:
        """Write a batch.

        Raises:
            RunError: see :meth:`open`.
            Exception: an error of the file system. Everything since the last ``flush`` must be written again.
        """
        with self._all_or_none():
            for run, items in self._by_run(batch).items():
                self._directories[run].write(items, self._lost.add)

    def flush(self) -> None:
        """Make everything written so far visible to readers, and safe if the process is killed.

        Raises:
            RunError: see :meth:`open`.
            Exception: an error of the file system. Everything since the last ``flush`` must be written again.
        """
        with self._all_or_none():
            main, *others = self._directories.values()
            flushed = [main, *(directory for directory in others if directory.has_pending)]
            for directory in flushed:
                directory.flush()
        for directory in flushed:
            directory.confirm()
        self._has_flushed = True
        self._lost.confirm()

    def take_lost(self) -> Mapping[str, int]:
        """Return how many records were lost since the last call, by reason; see :class:`TensorBoardSink`."""
        return self._lost.take()

    def fail(self) -> None:
        """Mark the sessions of the HParams dashboard as failures when the sink is closed."""
        for directory in self._directories.values():
            directory.failed = True

    def close(self) -> None:
        """Flush and close the files. A second call, or a call in a forked process, does nothing.

        Raises:
            Exception: an error of the file system. Everything since the last ``flush`` may be lost.
        """
        if self._closed or self._process != os.getpid():
            self._closed = True
            return
        self._closed = True
        self._lost.confirm()
        with contextlib.ExitStack() as stack:  # Closes every directory, even if some raise.
            for directory in self._directories.values():
                stack.callback(directory.close)

    def _restart(self, step: int) -> None:
        """Hide what earlier sinks wrote from ``step`` on, also in runs below to which nothing is written now."""
        from jaxboard.sinks import _earlier_events, _trace_sessions

        for run in _earlier_events.runs_below(self.logdir):
            steps = _earlier_events.last_steps(directory_of(self.logdir, run))
            first = self._hidden_of(run) or {}
            if any(last >= first.get(tag, step) for tag, last in steps.items()):
                self._directory(run).open()
        if not _paths.is_remote(self.logdir):
            _trace_sessions.set_aside(self.logdir, step)
        self._restarts = False

    def _directory(self, run: str) -> Directory:
        """Return the directory of a run; the same one each time. "" is the run itself."""
        if run not in self._directories:
            path = directory_of(self.logdir, run)
            self._directories[run] = Directory(
                path,
                self._start_step,
                self._max_file_bytes,
                self._filename_suffix + file_suffix(run),
                hidden=self._hidden_of(run),
            )
        return self._directories[run]

    def _hidden_of(self, run: str) -> Mapping[str, int] | None:
        return None if self._hidden is None else self._hidden.get(run, {})

    def _by_run(self, batch: Batch) -> dict[str, Batch]:
        parts: dict[str, Batch] = {}
        for item in batch:
            try:
                run = item.run
                self._directory(run)
            except Exception as error:
                tag = getattr(item, "tag", None) or getattr(item, "tags", None)
                self._lost.add(tag, size_of([item]), f"its run is invalid: {describe(error)}")
            else:
                parts.setdefault(run, []).append(item)
        return parts

    @contextlib.contextmanager
    def _all_or_none(self) -> Generator[None]:
        """Abandon the pending records of every directory if one fails: the caller writes all of them again."""
        try:
            self.open()
            yield
        except BaseException:
            self._lost.discard()
            self._restarts = self._start_step is not None and not self._has_flushed
            if self._process == os.getpid():
                for directory in self._directories.values():
                    if directory.has_pending:
                        directory.abandon()
            raise


def _checked_suffix(suffix: object) -> str:
    if (
        isinstance(suffix, str)
        and "/" not in suffix
        and _paths.problem_below(f"events{suffix}") is None
    ):
        return suffix
    raise UsageError(
        f"TensorBoardSink(filename_suffix={safe_repr(suffix)}): expected the end of a file's name, as a str."
    )


def _checked_step(step: object) -> int:
    number = as_int(step)
    if number is None or not fits_64_bits(number):
        raise UsageError(
            f"TensorBoardSink(start_step={safe_repr(step)}): expected an integer of 64 bits."
        )
    return number


def _checked_hidden(hidden: object) -> dict[str, dict[str, int]]:
    try:
        runs = {run: dict(tags) for run, tags in dict(cast("_Hidden", hidden)).items()}
        if all(as_int(step) is not None for tags in runs.values() for step in tags.values()):
            return runs
    except Exception:
        runs = None
    raise UsageError(
        f"TensorBoardSink(hidden={safe_repr(hidden)}): expected the steps of tags, by run: {{'': {{'loss': 7}}}}."
    )
