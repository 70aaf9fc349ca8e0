"""``jaxboard.read``: the contents of event files as a table."""

from __future__ import annotations

import fnmatch
import functools
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from jaxboard._check import is_one_of
from jaxboard._errors import UsageError
from jaxboard._log import describe, warn
from jaxboard._read import run_files
from jaxboard._read.data_frames import Rows, frame_maker
from jaxboard._read.event_columns import Contents, EventReader
from jaxboard._read.framing import Block, Damage, Fault, read_blocks
from jaxboard._read.summary_values import UNKNOWN, UnreadableValue, decode
from jaxboard._read.visible_points import in_order_of_writing, visible
from jaxboard._safe_repr import safe_repr

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

_KINDS = ("scalar", "histogram", "image", "text", "hparams", UNKNOWN)
"""The kinds that are known without a file that holds them."""


@overload
def read(
    logdir: str | os.PathLike[str],
    *,
    tags: str | Sequence[str] | None = ...,
    runs: str | Sequence[str] | None = ...,
    kind: str = ...,
    keep: Literal["last", "all"] = ...,
    frame: Literal["pandas"] = ...,
) -> pd.DataFrame: ...


@overload
def read(
    logdir: str | os.PathLike[str],
    *,
    tags: str | Sequence[str] | None = ...,
    runs: str | Sequence[str] | None = ...,
    kind: str = ...,
    keep: Literal["last", "all"] = ...,
    frame: Literal["polars"],
) -> pl.DataFrame: ...


def read(
    logdir: str | os.PathLike[str],
    *,
    tags: str | Sequence[str] | None = None,
    runs: str | Sequence[str] | None = None,
    kind: str = "scalar",
    keep: Literal["last", "all"] = "last",
    frame: Literal["pandas", "polars"] = "pandas",
) -> Any:
    """Return the points of all runs in a directory as a table with a row for each.

    It reads the event files of jaxboard and of other writers (``tf.summary``, tensorboardX, PyTorch), also while they
    are being written. Damaged records are left out with a warning, and what follows them is read; ``python -m jaxboard
    verify`` lists them. A record at the end of a file that is not complete is left out without one: a run that is
    being written, or was killed, may have one. A file that cannot be read is a warning, unless it was removed meanwhile.

    Args:
        logdir: a directory with runs at any depth, a single event file, or a URL (``gs://…``), which fsspec or TensorFlow reads.
        tags: the tags to read: one, or several. A pattern may contain ``*``, ``?`` and ``[…]`` (:mod:`fnmatch`).
        runs: the runs to read, in the same form.
        kind: the kind of points. ``"scalar"`` has numbers. The values of other kinds are objects: ``"histogram"``
            float64[k, 3] with the left edge, the right edge and the count of each bucket; ``"image"`` a tuple of
            :class:`jaxboard.records.EncodedImage`; ``"text"`` a str, or nested lists of str; ``"hparams"`` a dict.
            Any other kind is the name of a TensorBoard plugin, such as ``"audio"`` or ``"pr_curves"``, and has the
            tensors that the plugin reads, as NumPy arrays; ``"tensor"`` is that of tensors without a plugin.
        keep: ``"last"`` keeps one point for each run, tag and step: the last that was written. Where a run was resumed
            at step N with a restart mark, as ``jb.Run(step=N)`` writes it, earlier points from step N on are left out.
            ``"all"`` keeps every point, in the order of writing.
        frame: the library of the table: ``"pandas"`` or ``"polars"``.

    Returns:
        A DataFrame with the columns ``run`` (the directory below ``logdir``; ``"."`` is ``logdir`` itself), ``tag``,
        ``step`` (int64), ``wall_time`` (float64, seconds since the epoch) and ``value`` (float64 for scalars), in
        the order of runs, tags and steps. Without points it is empty.

    Raises:
        UsageError: an argument is invalid, there is no such directory, no tag has that ``kind``, or the library of the
            table is not installed.
        RunError: a URL cannot be read here.

    Example:
        >>> import tempfile
        >>> import jaxboard as jb
        >>> with tempfile.TemporaryDirectory() as logdir:
        ...     with jb.Run(logdir) as run:
        ...         for run.step in range(3):
        ...             jb.scalar("loss", 1 / (1 + run.step))
        ...     table = jb.read(logdir)
        >>> table[["run", "tag", "step"]].values.tolist()
        [['.', 'loss', 0], ['.', 'loss', 1], ['.', 'loss', 2]]
        >>> table["value"].min().round(3)
        np.float64(0.333)
    """
    if not is_one_of(keep, ("last", "all")):
        raise UsageError(f"read(keep={safe_repr(keep)}): expected 'last' or 'all'.")
    if not isinstance(kind, str) or not kind:
        raise UsageError(
            f"read(kind={safe_repr(kind)}): expected the name of a kind, such as 'scalar'."
        )
    wants_tag, wants_run = name_pattern("tags", tags), name_pattern("runs", runs)
    make_frame = frame_maker(frame)
    kinds: set[str] = set()
    rows: list[Rows] = []
    for run, files in run_files.find_runs(logdir, "read").items():
        if wants_run(run):
            contents = read_run(files, kind, wants_tag)
            kinds |= {name for names in contents.kinds.values() for name in names}
            rows.append(_rows(run, contents, kind, keep))
    if kind not in {*_KINDS, *kinds}:
        known = ", ".join(map(repr, sorted(kinds))) or "none"
        raise UsageError(
            f"read(kind={safe_repr(kind)}): no tag has this kind. The kinds in the files: {known}."
        )
    return make_frame(rows)


def read_run(
    files: Sequence[run_files.EventFile], kind: str, wants_tag: Callable[[str], bool]
) -> Contents:
    """Return the contents of the files of a run, and warn of damage and of files that cannot be read.

    A file that was removed since it was found is left out.
    """
    reader = EventReader(kind, wants_tag)
    for file in files:
        damages: list[Damage] = []
        unreadable = len(reader.contents.unreadable)
        try:
            with file.open() as opened:
                for part in read_blocks(opened, file.size):
                    if isinstance(part, Block):
                        reader.read(part)
                    else:
                        damages.append(part)
        except FileNotFoundError:
            pass
        except OSError as error:
            warn(f"read: {file.path!r} cannot be read: {describe(error)}.")
        if damages and damages[-1].fault is Fault.TRUNCATED:
            damages.pop()
        _warn_of(len(damages) + len(reader.contents.unreadable) - unreadable, file.path)
    return reader.contents


def _warn_of(count: int, place: str) -> None:
    if count:
        warn(
            f"read: {count} damaged part{'s' if count > 1 else ''} of {place!r} cannot be read. 'python -m jaxboard "
            "verify' lists them."
        )


def name_pattern(argument: str, patterns: str | Sequence[str] | None) -> Callable[[str], bool]:
    """Return a function that returns whether a name matches one of some patterns; None matches all names.

    Raises:
        UsageError: the patterns are not texts.
    """
    if patterns is None:
        return lambda _: True
    several = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(several, Sequence) or not all(isinstance(each, str) for each in several):
        raise UsageError(
            f"read({argument}={safe_repr(patterns)}): expected a name, or a list of names."
        )
    exact = frozenset(several)

    @functools.cache
    def matches(name: str) -> bool:
        return name in exact or any(fnmatch.fnmatchcase(name, each) for each in several)

    return matches


def _rows(run: str, contents: Contents, kind: str, keep: str) -> Rows:
    points = visible(contents) if keep == "last" else in_order_of_writing(contents)
    rows = Rows(run, contents.tags, points.tags, points.steps, points.wall_times, points.values)
    return rows if kind == "scalar" else _decoded(rows, kind)


def _decoded(rows: Rows, kind: str) -> Rows:
    """Return rows with the values of their kind instead of messages, without those that cannot be decoded."""
    values = np.empty(len(rows.values), np.object_)
    is_kept = np.ones(len(values), np.bool_)
    damaged = 0
    for place, message in enumerate(rows.values):
        try:
            values[place] = decode(kind, message)
        except UnreadableValue:
            damaged += 1
        is_kept[place] = values[place] is not None
    _warn_of(damaged, rows.run)
    return Rows(rows.run, rows.names, *(column[is_kept] for column in (*rows[2:5], values)))
