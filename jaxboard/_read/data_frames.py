"""Tables of points as data frames of pandas or polars, which are imported late."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxboard._check import is_one_of
from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr


class Rows(NamedTuple):
    """The points of one run: arrays [N].

    Attributes:
        run: the name of the run.
        names: the names of its tags.
        tags: int32, indices into ``names``.
        steps: int64.
        wall_times: float64.
        values: float64, or objects.
    """

    run: str
    names: list[str]
    tags: np.ndarray
    steps: np.ndarray
    wall_times: np.ndarray
    values: np.ndarray


def frame_maker(library: str) -> Callable[[Sequence[Rows]], Any]:
    """Return a function that makes a data frame of a library.

    Raises:
        UsageError: there is no such library, or it is not installed.
    """
    if not is_one_of(library, _MAKERS):
        raise UsageError(f"read(frame={safe_repr(library)}): expected 'pandas' or 'polars'.")
    try:
        module = importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        other = "polars" if library == "pandas" else "pandas"
        raise UsageError(
            f"read(frame={library!r}): {library} is not installed. Install it ({sys.executable} -m pip install "
            f"{library}), or pass frame={other!r}."
        ) from None
    make = _MAKERS[library]
    return lambda rows: make(module, rows)


def _pandas(pandas: Any, rows: Sequence[Rows]) -> Any:
    def strings(names: list[str], indices: np.ndarray) -> Any:
        # The dtype is that of strings in this version of pandas, also without rows.
        return pandas.Series([*names, ""]).array.take(indices)

    return pandas.DataFrame(_columns(rows, strings), copy=False)


def _polars(polars: Any, rows: Sequence[Rows]) -> Any:
    def strings(names: list[str], indices: np.ndarray) -> Any:
        return polars.Series(names, dtype=polars.String).gather(indices)

    columns = _columns(rows, strings)
    values = columns["value"]
    if values.dtype == np.object_:
        columns["value"] = polars.Series(values.tolist(), dtype=polars.Object)
    return polars.DataFrame(columns)


_MAKERS: dict[str, Callable[[Any, Sequence[Rows]], Any]] = {"pandas": _pandas, "polars": _polars}


def _columns(
    rows: Sequence[Rows], strings: Callable[[list[str], np.ndarray], Any]
) -> dict[str, Any]:
    """Return the columns of a table.

    Args:
        rows: the points of each run.
        strings: makes a column of names from their indices.
    """
    counts = [len(part.steps) for part in rows]
    first_tags = np.cumsum([0, *(len(part.names) for part in rows)])
    tags = [part.tags + first for part, first in zip(rows, first_tags[:-1], strict=True)]
    return {
        "run": strings([part.run for part in rows], np.repeat(np.arange(len(rows)), counts)),
        "tag": strings([name for part in rows for name in part.names], _joined(tags, np.int64)),
        "step": _joined([part.steps for part in rows], np.int64),
        "wall_time": _joined([part.wall_times for part in rows], np.float64),
        "value": _joined([part.values for part in rows], np.float64),
    }


def _joined(parts: list[np.ndarray], empty: type[np.generic]) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, empty)
