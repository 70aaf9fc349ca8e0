"""The time that a resumed run has lost: the account of the run that it continues, read from its event files."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from jaxboard._telemetry.time_parts import NAMES, REDONE, STOPPED

SECONDS = "jaxboard/time/seconds/"
"""The prefix of the tags that hold the seconds of each part."""

TOTALS = "time/seconds/"
ACCOUNTED = "time/wall"
"""The names of the same numbers, and of the time at which they were correct, in the state of a run."""


class Account(NamedTuple):
    """The seconds of each part up to a moment.

    Attributes:
        seconds: by part.
        wall_time: the moment, in seconds since the epoch.
    """

    seconds: Mapping[str, float]
    wall_time: float


def from_totals(totals: Mapping[str, float]) -> Account | None:
    """Return the account in the state of a run, if it has one."""
    if ACCOUNTED not in totals:
        return None
    seconds = {name: totals.get(TOTALS + name, 0.0) for name in NAMES}
    return Account(seconds, totals[ACCOUNTED])


def as_totals(account: Account) -> dict[str, float]:
    """Return an account for the state of a run."""
    return {
        **{TOTALS + name: seconds for name, seconds in account.seconds.items()},
        ACCOUNTED: account.wall_time,
    }


def event_files(logdir: pathlib.Path | None) -> list[pathlib.Path]:
    """Return the event files in a local directory. Call it before the run writes its own."""
    if logdir is None or not logdir.is_dir():
        return []
    return sorted(path for path in logdir.iterdir() if ".tfevents." in path.name)


def last_written(files: list[pathlib.Path], before: float) -> float | None:
    """Return when the files were last written to before a time; None if they were not. Times are since the epoch."""
    times: list[float] = []
    for path in files:
        try:
            times.append(path.stat().st_mtime)
        except OSError:  # It was removed meanwhile.
            continue
    return max((time for time in times if time <= before), default=None)


def read_account(files: list[pathlib.Path], step: int) -> Account | None:
    """Return the last account that the event files hold from before a step; None if there is none."""
    # Imported here: it imports tensorboard, which other runs load later, on their flusher.
    from jaxboard._read.read import read_run
    from jaxboard._read.run_files import EventFile
    from jaxboard._read.visible_points import visible

    found = [EventFile(str(path), path.stat().st_size) for path in files if path.exists()]
    contents = read_run(found, "scalar", lambda tag: tag.startswith(SECONDS))
    points = visible(contents)
    before = points.steps < step
    if not before.any():
        return None
    last = before & (points.steps == points.steps[before].max())
    seconds = dict.fromkeys(NAMES, 0.0)
    for tag, value in zip(points.tags[last], points.values[last], strict=True):
        seconds[contents.tags[tag].removeprefix(SECONDS)] = float(value)
    return Account(seconds, float(points.wall_times[last].max()))


def continued(account: Account, last_seen: float | None, opened: float) -> dict[str, float]:
    """Return the seconds by part with which a run begins that continues another one.

    The time since the account is lost: steps of that time are trained again, or the program was stopped.

    Args:
        account: the account of the other run, at the step from which this one goes on.
        last_seen: when the other run last wrote something, if that is known.
        opened: when this one was opened. All times are in seconds since the epoch.

    Example:
        >>> seconds = continued(Account({"device": 60.0}, 1000.0), 1005.0, 1030.0)
        >>> seconds["device"], seconds["redone"], seconds["stopped"]
        (60.0, 5.0, 25.0)
    """
    seconds = {name: account.seconds.get(name, 0.0) for name in NAMES}
    lost = max(opened - account.wall_time, 0.0)
    redone = 0.0 if last_seen is None else min(max(last_seen - account.wall_time, 0.0), lost)
    seconds[REDONE] += redone
    seconds[STOPPED] += lost - redone
    return seconds
