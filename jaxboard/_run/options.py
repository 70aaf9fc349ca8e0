"""What a run may be given: checked at once, on the user's thread, without TensorFlow."""

from __future__ import annotations

import operator
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

from jaxboard import _paths
from jaxboard._errors import RunError
from jaxboard.records import Kind, Record, flatten


def positive(**options: float) -> None:
    """Each option is a number above 0."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise RunError(f"Run({name}={value!r}): expected a number above 0.")


def step_number(step: Any) -> int:
    """A step as an int."""
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if isinstance(step, bool) or number < 0:
        raise RunError(f"step {step!r}: expected an integer, 0 or more.")
    return number


def hparams_record(hparams: Any, step: int) -> Record | None:
    """The record of a run's hyperparameters, in one flat dict."""
    if hparams is None:
        return None
    if not isinstance(hparams, Mapping):
        raise RunError(
            f"Run(hparams=...): expected a dict, got {type(hparams).__name__}. Of a dataclass make one "
            "by dataclasses.asdict(config), of parsed arguments by vars(args)."
        )
    return Record(Kind.HPARAMS, "hparams", step, time.time(), flatten(hparams))


def logdir_of(logdir: str | os.PathLike[str] | None) -> pathlib.Path | str | None:
    """What ``Run`` was given as its log directory: a path, made absolute, or a URL."""
    if logdir is None:
        return None
    if not isinstance(logdir, str | os.PathLike):
        raise RunError(f"Run({logdir!r}): expected a path, got {type(logdir).__name__}.")
    if not os.fspath(logdir):
        raise RunError("Run(''): the log directory has no name.")
    path = _paths.absolute(logdir)
    return path if _paths.is_remote(path) else pathlib.Path(path)
