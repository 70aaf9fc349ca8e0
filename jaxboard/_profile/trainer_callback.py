"""The callback interface of artifex's trainer, and the configuration of its profiler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable


@runtime_checkable
class ProfilingConfig(Protocol):
    """The configuration of a trainer's profiler, such as artifex's ``ProfilingConfig``.

    The attributes ``log_dir`` and ``trace_python`` are optional.
    """

    start_step: int
    end_step: int


class TrainerCallback:
    """A callback whose hooks do nothing. Subclasses override the hooks that they need.

    The trainer calls the hooks by position. It passes its step before the increment to
    ``on_batch_begin`` and after it to ``on_batch_end``.
    """

    should_stop = False
    """A trainer stops when a callback sets this to True."""

    def on_train_begin(self, trainer: object) -> None:
        """Handle the start of the training."""

    def on_train_end(self, trainer: object) -> None:
        """Handle the end of the training."""

    def on_epoch_begin(self, trainer: object, epoch: int) -> None:
        """Handle the start of an epoch."""

    def on_epoch_end(
        self, trainer: object, epoch: int, logs: Mapping[str, object] | None = None
    ) -> None:
        """Handle the end of an epoch."""

    def on_batch_begin(self, trainer: object, batch: int) -> None:
        """Handle the start of a training step."""

    def on_batch_end(
        self, trainer: object, batch: int, logs: Mapping[str, object] | None = None
    ) -> None:
        """Handle the end of a training step."""

    def on_validation_begin(self, trainer: object) -> None:
        """Handle the start of a validation."""

    def on_validation_end(self, trainer: object, logs: Mapping[str, object] | None = None) -> None:
        """Handle the end of a validation."""
