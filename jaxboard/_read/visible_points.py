"""The points of a run that are visible: one for each tag and step, the last that was written."""

from __future__ import annotations

import numpy as np

from jaxboard._read.event_columns import Contents, Points


def visible(contents: Contents) -> Points:
    """Return the points of a run in the order of tags and steps, without those that later ones replace.

    A restart at step N replaces everything that was written before it from step N on, and a mark of a single tag what
    was written of that tag. Without one, a point replaces an earlier one of its tag and step.
    """
    points = contents.all_points()
    replaced = replaced_by_marks(contents, points)
    if replaced.any():
        points = Points(*(column[~replaced] for column in points))
    names = np.array(contents.tags, np.object_)
    ranks = np.empty(len(names), np.int64)
    ranks[np.argsort(names)] = np.arange(len(names))
    tags = ranks[points.tags]
    # Sorting numbers of 16 bits is a radix sort.
    order = np.argsort(tags.astype(np.uint16) if len(names) < 1 << 16 else tags, kind="stable")
    if not _are_increasing(tags[order], points.steps[order]):
        order = np.lexsort((points.records, points.steps, tags))
        same = np.diff(tags[order]) == 0
        same &= np.diff(points.steps[order]) == 0
        order = order[np.append(~same, [True] * bool(len(order)))]
    return Points(*(column[order] for column in points))


def in_order_of_writing(contents: Contents) -> Points:
    """Return all points of a run."""
    points = contents.all_points()
    order = np.argsort(points.records, kind="stable")
    return Points(*(column[order] for column in points))


def replaced_by_marks(contents: Contents, points: Points) -> np.ndarray:
    """Return whether a restart, or a mark of its tag, replaces each point: bool[N]."""
    replaced = replaced_by_restarts(contents.restarts, points.records, points.steps)
    numbers = [n for n, tag in enumerate(contents.tags) if tag in contents.hidden]
    if not numbers:
        return replaced
    order = np.argsort(points.tags, kind="stable")
    starts = np.searchsorted(points.tags[order], np.arange(len(contents.tags) + 1))
    for number in numbers:
        rows = order[starts[number] : starts[number + 1]]
        marks = contents.hidden[contents.tags[number]]
        replaced[rows] |= replaced_by_restarts(marks, points.records[rows], points.steps[rows])
    return replaced


def replaced_by_restarts(
    restarts: list[tuple[int, int]], records: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    """Return whether a restart after each record replaces it: bool[N].

    Example:
        >>> replaced_by_restarts([(2, 10)], np.array([0, 1, 3]), np.array([9, 10, 10]))
        array([False,  True, False])
    """
    if not restarts:
        return np.zeros(len(records), np.bool_)
    numbers, first_steps = np.array(sorted(restarts), np.int64).T
    lowest = np.minimum.accumulate(first_steps[::-1])[::-1]  # Among a restart and those after it.
    after = np.searchsorted(numbers, records, side="right")
    return (after < len(numbers)) & (steps >= lowest[np.minimum(after, len(numbers) - 1)])


def _are_increasing(tags: np.ndarray, steps: np.ndarray) -> bool:
    """Return whether the steps of each tag increase. The points of a tag are adjacent."""
    return bool(((np.diff(steps) > 0) | (np.diff(tags) != 0)).all())
