"""``python -m jaxboard verify``: what is wrong with the event files of a directory."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

from jaxboard import _paths
from jaxboard._cli.counts import counted
from jaxboard._errors import JaxboardError
from jaxboard._read.verification import Problem, Severity, Verification, verify
from jaxboard._safe_repr import printable

_NOT_CHECKED = 2


def main(logdir: str, *, as_json: bool) -> int:
    """Check a directory and print what is wrong.

    Args:
        logdir: the directory.
        as_json: print one JSON object; docs/reading.md documents it.

    Returns:
        The exit status: 0 if there is no error and no warning, 1 if there is one, 2 if nothing was checked.
    """
    try:
        result = verify(logdir)
    except JaxboardError as error:
        print(error, file=sys.stderr)
        return _NOT_CHECKED
    if not result.files:
        print(f"verify({logdir!r}): there are no event files.", file=sys.stderr)
        return _NOT_CHECKED
    is_good = not result.count(Severity.ERROR) + result.count(Severity.WARNING)
    if as_json:
        print(json.dumps(_as_json(logdir, result, is_good=is_good), indent=2))
    else:
        for problem in result.problems:
            print(_line(problem))
        print(_summary(result))
    return 0 if is_good else 1


def _line(problem: Problem) -> str:
    place = printable(_paths.shorten(problem.file))
    if problem.offset is not None:
        place += f", byte {problem.offset:,}"
    often = f" ({problem.count:,} times)" if problem.count > 1 else ""
    return f"{problem.severity.value:8} {place}: {problem.text}{often}."


def _summary(result: Verification) -> str:
    files = [file for run in result.files.values() for file in run]
    size = sum(file.size for file in files)
    counts = ", ".join(counted(result.count(severity), severity.value) for severity in Severity)
    return (
        f"{counted(len(result.files), 'run')}, {counted(len(files), 'file')}, {counted(size, 'byte')}, "
        f"{counted(result.records, 'record')}, {counted(result.points, 'scalar')}: {counts}."
    )


def _as_json(logdir: str, result: Verification, *, is_good: bool) -> dict[str, Any]:
    return {
        "logdir": logdir,
        "ok": is_good,
        "records": result.records,
        "scalars": result.points,
        "runs": [
            {"run": run, "files": [{"file": file.path, "bytes": file.size} for file in files]}
            for run, files in result.files.items()
        ],
        "problems": [
            {**dataclasses.asdict(problem), "severity": problem.severity.value}
            for problem in result.problems
        ],
    }
