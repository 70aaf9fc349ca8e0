"""The settings that a run recorded: its hyperparameters, and the versions and flags of its program."""

from __future__ import annotations

import html
import os
from typing import NamedTuple

from jaxboard._errors import JaxboardError
from jaxboard._read import run_files
from jaxboard._read.read import read_run
from jaxboard._read.summary_values import UnreadableValue, decode
from jaxboard._read.visible_points import visible

PROGRAM_TAG = "jaxboard/program"
"""The tag of the table that runs with telemetry have."""


class Settings(NamedTuple):
    """The settings of one run.

    Attributes:
        hyperparameters: the hyperparameters by name, as they were reported last.
        program: the rows of the table ``jaxboard/program`` by name; empty without telemetry.
    """

    hyperparameters: dict[str, object]
    program: dict[str, str]


def read_settings(logdir: str | os.PathLike[str], call: str) -> dict[str, Settings]:
    """Return the settings of each run in a directory, by the name of the run.

    Args:
        logdir: a directory with runs at any depth, a single event file, or a URL.
        call: what was called, for messages.

    Raises:
        UsageError: there is no such directory.
        RunError: a URL cannot be read here.
    """
    found: dict[str, Settings] = {}
    for run, files in run_files.find_runs(logdir, call).items():
        settings = found[run] = Settings({}, {})
        for value in _values(files, "hparams", None):
            if isinstance(value, dict):
                settings.hyperparameters.update(value)
        for value in _values(files, "text", PROGRAM_TAG):
            settings.program.update(_rows(str(value)))
    return found


def _rows(table: str) -> dict[str, str]:
    """Return the rows of a Markdown table of two columns without its header."""
    lines = (line[2:-2].partition(" | ") for line in table.splitlines()[2:])
    return {html.unescape(name): html.unescape(value) for name, _, value in lines}


def _values(files: list[run_files.EventFile], kind: str, tag: str | None) -> list[object]:
    contents = read_run(files, kind, lambda name: tag is None or name == tag)
    values: list[object] = []
    for message in visible(contents).values:
        try:
            values.append(decode(kind, message))
        except (UnreadableValue, JaxboardError):
            continue
    return values
