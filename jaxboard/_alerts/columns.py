"""The scalars of a batch of points, in columns: one block for each set of tags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxboard._host import seed_runs
from jaxboard._host.complete_points import Assembled, NormsPoint
from jaxboard.records import Kind, Record, Scalars

_OWN = ("jaxboard/", "profile/")
"""Beginnings of tags that the user does not report."""


class Columns(NamedTuple):
    """The values of K tags at N steps.

    Attributes:
        run: see :attr:`jaxboard.records.Record.run`.
        tags: the tags.
        steps: int64[N].
        values: float64[N, K].
    """

    run: str
    tags: tuple[str, ...]
    steps: np.ndarray
    values: np.ndarray


def is_own(tag: str) -> bool:
    """Return whether jaxboard reports a tag itself."""
    return tag.startswith(_OWN)


def columns_of(assembled: Assembled) -> Iterator[Columns]:
    """Yield the scalars that the user reports, and the norms of the leaves of watched trees.

    The summaries of seed runs are left out.
    """
    single: dict[tuple[str, str], list[Record]] = {}
    for item in assembled.items:
        if seed_runs.is_summary(item.run):
            continue
        if isinstance(item, Scalars):
            if not is_own(item.tags[0]):
                yield Columns(item.run, item.tags, item.steps, item.values.astype(np.float64))
        elif item.kind is Kind.SCALAR and not is_own(item.tag):
            single.setdefault((item.run, item.tag), []).append(item)
    for (run, tag), records in single.items():
        values = np.array([[float(record.value)] for record in records])
        yield Columns(run, (tag,), np.array([record.step for record in records]), values)
    trees: dict[tuple[str, tuple[str, ...]], list[NormsPoint]] = {}
    for point in assembled.norms:
        if not seed_runs.is_summary(point.run):
            names = point.norms.names
            tags = tuple(f"{point.tag}/norm/{name}" if name else f"{point.tag}/norm" for name in names)
            trees.setdefault((point.run, tags), []).append(point)
    for (run, tags), points in trees.items():
        values = np.stack([point.norms.norms for point in points])
        yield Columns(run, tags, np.array([point.step for point in points]), values)
