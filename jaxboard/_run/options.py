"""Checks of the options of a run, made on the user's thread and without TensorFlow."""

from __future__ import annotations

import operator
import os
import pathlib
import time
from collections.abc import Iterator, Mapping
from typing import SupportsIndex, cast

from jaxboard import _paths
from jaxboard._check import positive_number
from jaxboard._errors import UsageError
from jaxboard.records import Kind, Record


def check_positive(**options: float) -> None:
    """Raise :class:`UsageError` unless every option is a number above 0."""
    for name, value in options.items():
        positive_number("Run", name, value)


def step_number(expression: str, step: SupportsIndex) -> int:
    """Return a step as an int.

    Args:
        expression: what the user wrote, for the message: ``"Run(step=-1)"``.
        step: the step.

    Raises:
        UsageError: ``step`` is not an integer of at least 0.
    """
    try:
        number = operator.index(step)
    except TypeError:
        number = -1
    if isinstance(step, bool) or number < 0:
        raise UsageError(f"{expression}: expected an integer, 0 or more.")
    return number


def hparams_record(hparams: object, step: int) -> Record | None:
    """Return the record of a run's hyperparameters, as one flat dict.

    Raises:
        UsageError: ``hparams`` is neither None nor a mapping.
    """
    if hparams is None:
        return None
    if not isinstance(hparams, Mapping):
        raise UsageError(
            f"Run(hparams=...): expected a dict, got {type(hparams).__name__}. Convert a dataclass with "
            "dataclasses.asdict(config), parsed arguments with vars(args)."
        )
    return Record(
        Kind.HPARAMS,
        "hparams",
        step,
        time.time(),
        dict(_flatten(cast("Mapping[object, object]", hparams))),
    )


def _flatten(tree: Mapping[object, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(cast("Mapping[object, object]", value), f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", _as_python_number(value)


def _as_python_number(value: object) -> object:
    """Return an array of rank 0, NumPy's or JAX's, as a Python number; other values as they are."""
    item = getattr(value, "item", None)
    return item() if item is not None and getattr(value, "shape", None) == () else value


def parse_logdir(logdir: object) -> pathlib.Path | str | None:
    """Return the log directory of a run: an absolute path, a URL, or None.

    Raises:
        UsageError: ``logdir`` is not a path, or is empty.
    """
    if logdir is None:
        return None
    if not isinstance(logdir, str | os.PathLike):
        raise UsageError(f"Run({logdir!r}): expected a path, got {type(logdir).__name__}.")
    if not os.fspath(logdir):
        raise UsageError("Run(''): the log directory is empty. Pass a path.")
    path = _paths.absolute(cast("str | os.PathLike[str]", logdir))
    return path if _paths.is_remote(path) else pathlib.Path(path)
