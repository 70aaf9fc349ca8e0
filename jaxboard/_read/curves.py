"""The scalars of a directory as curves: one for each run and tag."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jaxboard._read import run_files
from jaxboard._read.read import read_run
from jaxboard._read.visible_points import visible


class Curve(NamedTuple):
    """The visible points of a tag in a run, in the order of their steps.

    Attributes:
        run: the directory of the run below the log directory; ``"."`` is the log directory itself.
        tag: the tag.
        steps: int64[N], with N of at least 1.
        values: float64[N].
        wall_times: float64[N], seconds since the epoch.
    """

    run: str
    tag: str
    steps: np.ndarray
    values: np.ndarray
    wall_times: np.ndarray

    @property
    def last(self) -> float:
        """The last value."""
        return float(self.values[-1])


def read_curves(
    logdir: str | os.PathLike[str],
    call: str,
    *,
    wants_tag: Callable[[str], bool] = lambda _: True,
    wants_run: Callable[[str], bool] = lambda _: True,
) -> list[Curve]:
    """Return the curves of all runs in a directory, in the order of tags and runs.

    Args:
        logdir: a directory with runs at any depth, a single event file, or a URL.
        call: what was called, for messages.
        wants_tag: returns whether to read a tag.
        wants_run: returns whether to read a run.

    Raises:
        UsageError: there is no such directory.
        RunError: a URL cannot be read here.
    """
    curves: list[Curve] = []
    for run, files in run_files.find_runs(logdir, call).items():
        if not wants_run(run):
            continue
        contents = read_run(files, "scalar", wants_tag)
        points = visible(contents)
        starts = np.flatnonzero(np.diff(points.tags, prepend=-1))
        ends = [*starts[1:], len(points.tags)][: len(starts)]
        for begin, end in zip(starts, ends, strict=True):
            columns = (points.steps, points.values, points.wall_times)
            tag = contents.tags[points.tags[begin]]
            curves.append(Curve(run, tag, *(column[begin:end] for column in columns)))
    return sorted(curves, key=lambda curve: (curve.tag, curve.run))
