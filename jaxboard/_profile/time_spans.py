"""Sets of points in time, as sorted lists of spans that do not overlap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

Spans: TypeAlias = "list[tuple[float, float]]"
"""Spans from a start to an end, sorted, without overlaps and without empty ones."""


def union(spans: Iterable[tuple[float, float]]) -> Spans:
    """Return the points in time that are in at least one of the spans.

    Example:
        >>> union([(3, 5), (0, 1), (4, 6)])
        [(0, 1), (3, 6)]
    """
    merged: Spans = []
    for start, end in sorted(spans):
        if end <= start:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def intersection(a: Spans, b: Spans) -> Spans:
    """Return the points in time that are in both.

    Example:
        >>> intersection([(0, 4), (6, 9)], [(3, 7)])
        [(3, 4), (6, 7)]
    """
    common: Spans = []
    i = j = 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            common.append((start, end))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return common


def difference(a: Spans, b: Spans) -> Spans:
    """Return the points in time that are in ``a`` and not in ``b``.

    Example:
        >>> difference([(0, 10)], [(2, 3), (8, 12)])
        [(0, 2), (3, 8)]
    """
    left: Spans = []
    j = 0
    for start, end in a:
        while j < len(b) and b[j][1] <= start:
            j += 1
        until, k = start, j
        while k < len(b) and b[k][0] < end:
            if until < b[k][0]:
                left.append((until, b[k][0]))
            until = max(until, b[k][1])
            k += 1
        if until < end:
            left.append((until, end))
    return left


def length(spans: Spans) -> float:
    """Return the total length.

    Example:
        >>> length([(0, 2), (5, 6)])
        3
    """
    return sum(end - start for start, end in spans)
