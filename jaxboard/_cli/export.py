"""``python -m jaxboard export``: the points of runs as CSV, Parquet or JSON."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from jaxboard import _paths
from jaxboard._cli.requirements import is_installed
from jaxboard._errors import JaxboardError, RunError, UsageError
from jaxboard._read.read import read

STANDARD_OUTPUT = "-"


def main(
    logdir: str,
    file: str,
    *,
    file_format: str | None,
    kind: str,
    tags: Sequence[str] | None,
    runs: Sequence[str] | None,
    keep: Literal["last", "all"],
    as_json: bool,
) -> int:
    """Write the points of all runs in a directory to a file.

    Args:
        logdir: the directory.
        file: the file, which is replaced; ``-`` is standard output.
        file_format: ``"csv"``, ``"parquet"``, ``"json"`` or ``"jsonl"``; None takes it from the name of the file.
        kind: the kind of points; see :func:`jaxboard.read`.
        tags: patterns of the tags; None selects all.
        runs: patterns of the runs; None selects all.
        keep: ``"last"`` or ``"all"``; see :func:`jaxboard.read`.
        as_json: print one JSON object with the number of points.

    Returns:
        The exit status: 0, or 1 if nothing was written.
    """
    form = file_format or pathlib.PurePath(file).suffix.lower().removeprefix(".")
    if form not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        print(
            f"export({file!r}): the name does not end in the name of a format. Pass --format, one of: {known}.",
            file=sys.stderr,
        )
        return 1
    needed = ("pandas", "pyarrow") if form == "parquet" else ("pandas",)
    if not is_installed(needed, "export"):
        return 1
    try:
        table: Any = read(logdir, tags=tags, runs=runs, kind=kind, keep=keep, frame="pandas")
        if not len(table) and (patterns := [*(tags or ()), *(runs or ())]):
            raise UsageError(f"export({logdir!r}): no {kind} matches {shlex.join(patterns)}.")
        if kind != "scalar" and form in ("csv", "parquet"):
            table["value"] = [json.dumps(_plain(value)) for value in table["value"]]
        contents = FORMATS[form](table)
        if file == STANDARD_OUTPUT:
            sys.stdout.buffer.write(contents)
            sys.stdout.buffer.flush()
        else:
            _write(file, contents)
    except BrokenPipeError:
        raise
    except (JaxboardError, OSError, TypeError) as error:
        print(error, file=sys.stderr)
        return 1
    output = sys.stderr if file == STANDARD_OUTPUT else sys.stdout
    if as_json:
        summary = {"logdir": logdir, "file": file, "format": form, "points": len(table)}
        print(json.dumps(summary), file=output)
    elif file != STANDARD_OUTPUT:
        print(f"{len(table):,} points in {_paths.shorten(file)}", file=output)
    return 0


def _write(file: str, contents: bytes) -> None:
    """Write a file.

    Raises:
        RunError: it cannot be written.
    """
    try:
        pathlib.Path(file).write_bytes(contents)
    except OSError as fault:
        parent = os.path.dirname(file)
        reason = fault.strerror
        if parent and not os.path.isdir(parent):
            reason = f"there is no directory {parent!r}. Create it first"
        raise RunError(f"export: cannot write {file!r}: {reason}.") from None


def _csv(table: Any) -> bytes:
    return table.to_csv(index=False, na_rep="nan", lineterminator="\n").encode()


def _parquet(table: Any) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _json(table: Any) -> bytes:
    return (json.dumps(_rows(table), indent=1) + "\n").encode()


def _json_lines(table: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _rows(table)).encode()


FORMATS: dict[str, Callable[[Any], bytes]] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
    "jsonl": _json_lines,
}
"""The contents of a file, by format."""


def _rows(table: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.to_dict("records")
    return [{name: _plain(value) for name, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    """Return a value that JSON has. NaN and infinite numbers become texts: ``"nan"``, ``"inf"``, ``"-inf"``.

    Raises:
        TypeError: JSON has no such value: an image, for example.
    """
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    raise TypeError(
        f"export: values of the type {type(value).__name__} have no form in a text file. jaxboard.read returns them."
    )
