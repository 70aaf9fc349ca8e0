"""The order of points: TensorBoard drops the points of a tag whose step goes back."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from jaxboard._host.complete_points import Point, SinglePoint
from jaxboard.records import Kind, Record, Scalars


def in_order(points: Iterable[Point]) -> list[Point]:
    """Return points with those of each tag in the order of reporting, and each tag in at most one column."""
    points = list(points)
    single, columns = _separate_columns(points)
    single.sort(key=lambda point: point.wall_time)
    return [*single, *_ordered_columns(columns)]


def _separate_columns(
    points: list[Point],
) -> tuple[list[SinglePoint], list[Scalars]]:
    """Separate single points from columns. A single point whose tag is in a column becomes a row, to be sorted in."""
    tags = {
        (point.run, tag) for point in points if isinstance(point, Scalars) for tag in point.tags
    }
    single: list[SinglePoint] = []
    columns: list[Scalars] = []
    for point in points:
        if isinstance(point, Scalars):
            columns.append(point)
        elif (
            isinstance(point, Record)
            and point.kind is Kind.SCALAR
            and (point.run, point.tag) in tags
        ):
            columns.append(_as_row(point))
        else:
            single.append(point)
    return single, columns


def _as_row(point: Record) -> Scalars:
    steps, wall_times = np.array([point.step], np.int64), np.array([point.wall_time])
    return Scalars((point.tag,), steps, wall_times, np.array([[point.value]]), point.run)


def _ordered_columns(columns: list[Scalars]) -> list[Scalars]:
    """Merge columns until each tag is in one of them, with its points in the order of reporting."""
    groups: dict[tuple[str, str], set[tuple[tuple[str, ...], np.dtype]]] = {}
    for column in columns:
        for tag in column.tags:
            groups.setdefault((column.run, tag), set()).add((column.tags, column.values.dtype))
    parts: dict[tuple[str, tuple[str, ...]], list[Scalars]] = {}
    for column in columns:
        if all(len(groups[column.run, tag]) == 1 for tag in column.tags):
            parts.setdefault((column.run, column.tags), []).append(column)
            continue
        # Programs for different steps report different sets of tags. Split those into single tags.
        for index, tag in enumerate(column.tags):
            values = column.values[:, index, None]
            single = Scalars((tag,), column.steps, column.wall_times, values, column.run)
            parts.setdefault((single.run, single.tags), []).append(single)
    return [_merge_columns(part) for part in parts.values()]


def _merge_columns(columns: list[Scalars]) -> Scalars:
    first = columns[0]
    if len(columns) == 1:
        return first
    wall_times = np.concatenate([column.wall_times for column in columns])
    order = np.argsort(wall_times, kind="stable")
    steps = np.concatenate([column.steps for column in columns])
    values = np.concatenate([column.values for column in columns])
    return Scalars(first.tags, steps[order], wall_times[order], values[order], first.run)
