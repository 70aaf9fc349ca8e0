"""The part of a summary writer that all methods share: its run, its directory, steps and wall times."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from types import TracebackType
from typing import Never, Self, SupportsIndex, SupportsInt, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard import _paths
from jaxboard._check import checked_bool
from jaxboard._emit import arguments
from jaxboard._errors import RunError, UsageError
from jaxboard._host.given_times import at_walltime
from jaxboard._log import warn
from jaxboard._run import Run, options
from jaxboard._run.child_run import refuse_copy
from jaxboard._run.current import channel_of
from jaxboard._safe_repr import safe_repr
from jaxboard._summary_writer.shared_runs import Directory, directory_at
from jaxboard._types import Step
from jaxboard.sinks import TensorBoardSink

GlobalStep: TypeAlias = Step | float | None
"""The values of ``global_step=``."""

_LOCAL_FLUSH_SECS = 1.0
"""The longest age of a report that is not on disk, in a local directory."""


class WriterBase:
    """Base class of :class:`jaxboard.SummaryWriter`: everything but the methods that report."""

    def __init__(
        self,
        logdir: str | os.PathLike[str] | None = None,
        comment: str = "",
        purge_step: int | None = None,
        max_queue: int = 10,
        flush_secs: float = 120,
        filename_suffix: str = "",
        write_to_disk: bool = True,
        log_dir: str | os.PathLike[str] | None = None,
        comet_config: dict[str, object] | None = None,
    ) -> None:
        del max_queue
        if not (
            comet_config is None
            or (isinstance(comet_config, dict) and comet_config.get("disabled") is True)
        ):
            warn("SummaryWriter(comet_config=...): jaxboard does not report to Comet.")
        options.check_seconds(flush_secs=flush_secs)
        self._purge_step = (
            None
            if purge_step is None
            else options.step_number("SummaryWriter(purge_step={})", purge_step)
        )
        if not isinstance(comment, str):
            raise UsageError(f"SummaryWriter(comment={safe_repr(comment)}): expected a str.")
        given = log_dir if logdir is None else logdir
        is_default = given is None or (isinstance(given, str) and not given)
        chosen = options.default_logdir(comment) if is_default else given
        self.logdir = _paths.checked("SummaryWriter({})", chosen)
        # Absolute: the working directory may change before the writer opens it again.
        self._path = _paths.absolute(self.logdir)
        self._flush_secs = flush_secs
        self._filename_suffix = filename_suffix
        self._writes = checked_bool("SummaryWriter", "write_to_disk", write_to_disk)
        if self._writes:
            _paths.check_writable(self._path, RunError)
        self._directory = directory_at(self._path) if self._writes else Directory()
        self._default_step: GlobalStep = None
        self._default_walltime: float | None = None
        self._run: Run | None = None
        self._open()

    @property
    def run(self) -> Run:
        """The open run of the writer."""
        run = self._run
        return self._open() if run is None or run.closed else run

    def _open(self) -> Run:
        anew = self._purge_step is not None
        self._run = self._directory.join(self, self._new_run, anew=anew)
        return self._run

    def _new_run(self) -> Run:
        step, self._purge_step = self._purge_step, None
        if not self._writes:
            return Run(None, sinks=[], step=step)
        sink = TensorBoardSink(self._path, start_step=step, filename_suffix=self._filename_suffix)
        remote = _paths.is_remote(self._path)
        flush_secs = self._flush_secs if remote else min(self._flush_secs, _LOCAL_FLUSH_SECS)
        return Run(self._path, sinks=[sink], step=step, flush_secs=flush_secs)

    def get_logdir(self) -> str:
        """Return the directory, as it was passed."""
        return self.logdir

    @property
    def log_dir(self) -> str:
        """The directory, under PyTorch's name."""
        return self.logdir

    @property
    def file_writer(self) -> Self | None:
        """The writer itself, or None once it was closed. It has the methods of tensorboardX's ``FileWriter``."""
        return None if self._run is None else self

    def flush(self) -> None:
        """Block until everything reported so far is on disk. This waits for the device.

        On a closed writer it does nothing.

        Raises:
            RunError: reports are not on disk, or were lost; see :meth:`jaxboard.Run.flush`.
        """
        if self._run is not None:
            self._run.flush()

    def close(self) -> None:
        """Write all pending reports and close the writer.

        The run closes too, unless other open writers share it. A second call does nothing.

        Raises:
            RunError: reports were lost; see :meth:`jaxboard.Run.close`.
        """
        self.__exit__(None, None, None)

    def __enter__(self) -> Self:
        # The run becomes the active one, also if another one was opened in between.
        self.run.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        if self._directory.leave(self):
            run.__exit__(kind, error, tb)
        elif error is None:
            run.flush()

    @contextlib.contextmanager
    def use_metadata(
        self, *, global_step: GlobalStep = None, walltime: float | None = None
    ) -> Generator[Self]:
        """Set the step and the wall time of the reports of a ``with`` block that have none of their own.

        Args:
            global_step: the step.
            walltime: the time, in seconds since the epoch.

        Raises:
            UsageError: both are None, or the block is in another one.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir:
            ...     with jb.SummaryWriter(logdir) as writer, writer.use_metadata(global_step=7):
            ...         writer.add_scalar("loss", 0.5)
            ...     jb.read(logdir)["step"].tolist()
            [7]
        """
        if global_step is None and walltime is None:
            raise UsageError("use_metadata(): pass global_step=, walltime=, or both.")
        if self._default_step is not None or self._default_walltime is not None:
            raise UsageError("use_metadata() in another block of it: leave that block first.")
        self._default_step, self._default_walltime = global_step, walltime
        try:
            yield self
        finally:
            self._default_step = self._default_walltime = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        refuse_copy(repr(self))

    def __repr__(self) -> str:
        return f"<jaxboard.SummaryWriter {self.logdir!r}{'' if self._run else ', closed'}>"

    def _begin(self, tag: str, global_step: GlobalStep) -> tuple[Run, Step]:
        """Return the open run, and the step of a report."""
        arguments.check_tag(tag)
        run = self.run
        step = self._default_step if global_step is None else global_step
        if step is None:
            return run, channel_of(run).current
        return run, _as_step(tag, step)

    def _at(self, tag: str, walltime: float | None) -> contextlib.AbstractContextManager[None]:
        """Return a block whose reports have a wall time, if one was passed."""
        if walltime is None:
            walltime = self._default_walltime
        arguments.check_walltime(tag, walltime)
        return at_walltime(walltime)


def _as_step(tag: str, step: object) -> Step:
    """Return ``global_step`` as an integer: on its device if it is an integer there, otherwise truncated."""
    if isinstance(step, int | float):
        with contextlib.suppress(OverflowError, ValueError):  # infinity, NaN
            return int(step)
    if isinstance(step, jax.Array) and jnp.issubdtype(step.dtype, np.integer) and step.size == 1:
        return step.reshape(())
    try:
        return int(cast("SupportsInt", np.asarray(step).item()))
    except Exception as error:
        raise arguments.report_error(
            tag, f"expected global_step= to be an integer, got {safe_repr(step)}."
        ) from error
