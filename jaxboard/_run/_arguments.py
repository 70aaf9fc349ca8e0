"""What a run may be given: checked at once, on the user's thread, without TensorFlow."""

from __future__ import annotations

import operator
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jaxboard._errors import RunError
from jaxboard._record import Kind, Record


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
    return Record(Kind.HPARAMS, "hparams", step, time.time(), dict(_flat(hparams)))


def _flat(tree: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            # Arrays of one number, JAX's and NumPy's, as the number.
            scalar = getattr(value, "shape", None) == () and hasattr(value, "item")
            yield f"{prefix}{name}", value.item() if scalar else value


def absolute(logdir: str | os.PathLike[str] | None) -> pathlib.Path | str | None:
    """A path made absolute; a URL as it is."""
    if logdir is None:
        return None
    if not isinstance(logdir, str | os.PathLike):
        raise RunError(f"Run({logdir!r}): expected a path, got {type(logdir).__name__}.")
    path = os.fspath(logdir)
    if not path:
        raise RunError("Run(''): the log directory has no name.")
    return path if "://" in path else pathlib.Path(os.path.abspath(os.path.expanduser(path)))


def probe(logdir: pathlib.Path | str) -> None:
    """Makes the directory and tries whether a file can be made in it."""
    if isinstance(logdir, str):  # Remote: TensorFlow knows, later.
        return
    try:
        logdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=logdir):
            pass
    except OSError as fault:
        raise RunError(
            f"cannot write to the log directory {str(logdir)!r}: {fault.strerror or fault}. Choose "
            "another directory, or make this one writable."
        ) from fault
