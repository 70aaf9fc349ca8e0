"""The scalars of a batch of points, in columns: one block for each set of tags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxboard._host import seed_runs
from jaxboard._host.complete_points import Assembled, NormsPoint
from jaxboard._own_tags import is_own
from jaxboard.records import Kind, Record, Scalars


class Columns(NamedTuple):
    """The values of K tags at N steps.

    Attributes:
        run: see :attr:`jaxboard.records.Record.run`.
        tags: the tags.
        steps: int64[N].
        values: [N, K].
    """

    run: str
    tags: tuple[str, ...]
    steps: np.ndarray
    values: np.ndarray


def columns_of(assembled: Assembled) -> Iterator[Columns]:
    """Yield the scalars that the user reports, and the norms of the leaves of watched trees and of layers.

    Tags that come one by one, as those of a plain loop, are in one block if they have the same steps. The summaries of seed
    runs are left out.
    """
    records: dict[tuple[str, str], list[Record]] = {}
    # By run and steps. NumPy takes as long for one tag as for many.
    single: dict[tuple[str, bytes], list[Scalars]] = {}
    for item in assembled.items:
        if isinstance(item, Scalars):
            if is_own(item.tags[0]) or seed_runs.is_summary(item.run):
                continue
            if len(item.tags) == 1:
                single.setdefault((item.run, item.steps.tobytes()), []).append(item)
            else:
                yield Columns(item.run, item.tags, item.steps, item.values)
        elif item.kind is Kind.SCALAR and not (is_own(item.tag) or seed_runs.is_summary(item.run)):
            records.setdefault((item.run, item.tag), []).append(item)
    for (run, _), blocks in single.items():
        tags = tuple([block.tags[0] for block in blocks])
        values = np.concatenate([block.values for block in blocks], axis=1)
        yield Columns(run, tags, blocks[0].steps, values)
    yield from _of_records(records)
    of_health = (point for health in assembled.health for point in health.norms())
    yield from _of_norms([*assembled.norms, *of_health])


def _of_records(records: dict[tuple[str, str], list[Record]]) -> Iterator[Columns]:
    groups: dict[tuple[str, tuple[int, ...]], dict[str, list[float]]] = {}
    for (run, tag), points in records.items():
        key = run, tuple([point.step for point in points])
        groups.setdefault(key, {})[tag] = [float(point.value) for point in points]
    for (run, steps), columns in groups.items():
        values = np.array(list(columns.values())).T
        yield Columns(run, tuple(columns), np.array(steps), values)


def _of_norms(norms: list[NormsPoint]) -> Iterator[Columns]:
    trees: dict[tuple[str, str, tuple[str, ...]], list[NormsPoint]] = {}
    for point in norms:
        if not seed_runs.is_summary(point.run):
            trees.setdefault((point.run, point.tag, point.norms.names), []).append(point)
    for (run, tag, names), points in trees.items():
        tags = tuple([f"{tag}/norm/{name}" if name else f"{tag}/norm" for name in names])
        values = np.stack([point.norms.norms for point in points])
        yield Columns(run, tags, np.array([point.step for point in points]), values)
