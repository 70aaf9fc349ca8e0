"""Callbacks for artifex's trainer with the names and the arguments of artifex's own: only the import changes.

artifex need not be installed.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Mapping

import jax
import numpy as np

import jaxboard as jb
from jaxboard import JAXProfiler

__all__ = ["JAXProfiler", "ProfilingConfig", "TensorBoardLoggerCallback", "TensorBoardLoggerConfig"]


@dataclasses.dataclass(slots=True)
class ProfilingConfig:
    """The configuration of :class:`jaxboard.JAXProfiler`.

    Attributes:
        log_dir: the directory of the traces.
        start_step: the first step that is recorded.
        end_step: the step before which recording ends: start and end (10, 20) are steps 10 to 19.

    Example:
        >>> from jaxboard.integrations.artifex import JAXProfiler, ProfilingConfig
        >>> profiler = JAXProfiler(ProfilingConfig(log_dir="logs/profiles", start_step=5, end_step=8))
    """

    log_dir: str = "logs/profiles"
    start_step: int = 10
    end_step: int = 20


@dataclasses.dataclass(slots=True)
class TensorBoardLoggerConfig:
    """The configuration of :class:`TensorBoardLoggerCallback`.

    Attributes:
        log_dir: the log directory.
        flush_secs: the maximum age of a report that is not on disk, in seconds.
        max_queue: without effect: a run has its own limits for pending reports.
        log_every_n_steps: report the metrics of every Nth step.
        log_on_epoch_end: whether to report the metrics of each epoch.
    """

    log_dir: str = "logs/tensorboard"
    flush_secs: float = 120
    max_queue: int = 10
    log_every_n_steps: int = 1
    log_on_epoch_end: bool = True


class TensorBoardLoggerCallback:
    """A callback of artifex's trainer that reports its metrics to a run.

    A metric of a step becomes a curve with its name, and a metric of an epoch a curve below ``epoch/``, whose steps are the
    epochs. Numbers and arrays with one element are metrics; arrays are not fetched during the step. Other values are left
    out, and the log names the arrays among them.

    The run is the active run while the trainer runs, so reports of the loss function have the step of their batch.
    A trainer that resumes at an earlier step hides the later points that the directory has.

    Args:
        config: the configuration: this module's, or artifex's own.

    Raises:
        UsageError: ``log_every_n_steps`` is not an integer above 0.

    Example:
        >>> import tempfile, types
        >>> from jaxboard.integrations.artifex import TensorBoardLoggerCallback, TensorBoardLoggerConfig
        >>> with tempfile.TemporaryDirectory() as logdir:
        ...     callback = TensorBoardLoggerCallback(TensorBoardLoggerConfig(log_dir=logdir))
        ...     callback.on_train_begin(types.SimpleNamespace(step=0))
        ...     callback.on_batch_end(None, 1, {"loss": 0.5})
        ...     callback.on_train_end(None)
    """

    should_stop = False
    """A trainer stops when a callback sets this to True."""

    def __init__(self, config: TensorBoardLoggerConfig) -> None:
        every = config.log_every_n_steps
        if not isinstance(every, int) or every < 1:
            raise jb.UsageError(
                f"TensorBoardLoggerConfig(log_every_n_steps={every!r}): expected an integer above 0."
            )
        self.config = config
        self._run: jb.Run | None = None
        self._left_out: set[str] = set()

    def on_train_begin(self, trainer: object) -> None:
        """Open the run.

        Raises:
            RunError: the directory cannot be written to, or another open run writes there.
        """
        self._close()
        done = getattr(trainer, "step", None)
        # The first metrics belong to the step after those that are done. A new training replaces all earlier curves.
        first = done + 1 if done else done
        self._run = jb.Run(self.config.log_dir, step=first, flush_secs=self.config.flush_secs)

    def on_train_end(self, trainer: object) -> None:
        """Close the run. Lost reports are logged and raise nothing: the training has ended."""
        self._close()

    def on_epoch_begin(self, trainer: object, epoch: int) -> None:
        """Do nothing."""

    def on_epoch_end(
        self, trainer: object, epoch: int, logs: Mapping[str, object] | None = None
    ) -> None:
        """Report the metrics of an epoch."""
        if self.config.log_on_epoch_end:
            self._report("epoch/", logs, epoch)

    def on_batch_begin(self, trainer: object, batch: int) -> None:
        """Give the reports of the batch the step that its metrics will have."""
        if self._run is not None:
            self._run.step = batch + 1

    def on_batch_end(
        self, trainer: object, batch: int, logs: Mapping[str, object] | None = None
    ) -> None:
        """Report the metrics of a step."""
        if batch % self.config.log_every_n_steps == 0:
            self._report("", logs, batch)

    def on_validation_begin(self, trainer: object) -> None:
        """Do nothing."""

    def on_validation_end(self, trainer: object, logs: Mapping[str, object] | None = None) -> None:
        """Do nothing: the metrics of the epoch contain those of the validation."""

    def _report(self, prefix: str, logs: Mapping[str, object] | None, step: int) -> None:
        if self._run is None:
            return
        for name, value in (logs or {}).items():
            if isinstance(value, np.ndarray | jax.Array):
                number = value.reshape(()) if value.size == 1 else value
            elif isinstance(value, bool | int | float | np.generic):
                number = value
            else:
                continue
            try:
                self._run.scalar(f"{prefix}{name}", number, step=step)
            except jb.ReportError as error:
                self._leave_out(f"{prefix}{name}", error)

    def _leave_out(self, tag: str, error: jb.ReportError) -> None:
        if tag not in self._left_out:
            self._left_out.add(tag)
            logging.getLogger("jaxboard").warning("jaxboard: a metric is left out: %s", error)

    def _close(self) -> None:
        run, self._run = self._run, None
        if run is None:
            return
        error = sys.exception()
        if error is not None:  # The training has failed: the error is raised after this call.
            run.__exit__(type(error), error, error.__traceback__)
            return
        try:
            run.close()
        except jb.RunError as error:
            logging.getLogger("jaxboard").error("jaxboard: %s", error)  # noqa: TRY400 (one line)
