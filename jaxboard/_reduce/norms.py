"""Norms of the leaves of a pytree: one column of sums for each leaf, all in one array."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
    count_positive,
    expand,
    is_counted,
)
from jaxboard._reduce.wide import Wide, WideInt, namespace
from jaxboard._types import Array
from jaxboard.records import Scalars


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """Statistics of the L leaves of a pytree, averaged over the observations.

    Attributes:
        names: the names of the leaves. A tree that is one array has one leaf named "".
        sizes: int64[L], the number of elements of each leaf.
        statistics: the requested statistics, in the order of display (see ``watch``).
        squares: float64[L], the sum of squares of each leaf.
        relative: float64[L], the sum of squares of each leaf of the tree to compare with.
        largest: float64[L], the largest magnitude in any observation.
        nonfinite: int64[L], the number of NaN or infinite elements in all observations.
    """

    names: tuple[str, ...]
    sizes: np.ndarray
    statistics: tuple[str, ...]
    squares: np.ndarray
    relative: np.ndarray
    largest: np.ndarray
    nonfinite: np.ndarray

    @property
    def norms(self) -> np.ndarray:
        """float64[L], the norm of each leaf."""
        return np.sqrt(self.squares)

    def scalars(self, tag: str, step: int, wall_time: float, run: str = "") -> Scalars:
        """Return one row: each statistic of the whole tree, then of each leaf.

        A tree with one leaf has that leaf's statistics. A ratio to a norm of zero is left out.
        """
        points: dict[str, float] = {}
        for statistic in self.statistics:
            total, each = self._values(statistic)
            points[f"{tag}/{statistic}"] = total
            if len(self.names) > 1:
                tags = [f"{tag}/{statistic}/{name}" for name in self.names]
                defined = self.relative != 0 if statistic == "ratio" else np.ones(len(each), bool)
                points |= {
                    leaf_tag: value
                    for leaf_tag, value, is_defined in zip(tags, each, defined, strict=True)
                    if is_defined
                }
        if not self.relative.any():
            points.pop(f"{tag}/ratio", None)
        values = np.array([list(points.values())])
        return Scalars(tuple(points), np.array([step]), np.array([wall_time]), values, run)

    def _values(self, statistic: str) -> tuple[float, np.ndarray]:
        """Return a statistic of the whole tree, and of each leaf."""
        total = self.squares.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            match statistic:
                case "norm":
                    return np.sqrt(total), self.norms
                case "rms":
                    sizes = np.maximum(self.sizes, 1)
                    return np.sqrt(total / sizes.sum()), np.sqrt(self.squares / sizes)
                case "max":
                    return self.largest.max(), self.largest
                case "nonfinite":
                    return self.nonfinite.sum(), self.nonfinite
                case _:
                    ratio = np.sqrt(total / self.relative.sum())
                    return ratio, np.sqrt(self.squares / self.relative)


class Sums(NamedTuple):
    """The value of the state: one number for each of L leaves.

    Attributes:
        squares: float32[2, L], the sums of squares, and those of the tree to compare with.
        largest: float32[L], the largest magnitudes.
        nonfinite: [L], the numbers of non-finite elements.
    """

    squares: Array
    largest: Array
    nonfinite: WideInt


class NormsReducer(Reducer):
    """Reduce :attr:`Measurements.norms`: float32[5, L].

    Args:
        leaves: the name and the number of elements of each leaf.
        statistics: the requested statistics.
    """

    name = "norms"

    def __init__(self, leaves: tuple[tuple[str, int], ...], statistics: tuple[str, ...]):
        self.leaves = leaves
        self.statistics = statistics

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        # Zero is neutral: magnitudes and squares are never below it.
        values, count = counted_rows(values, weight, rank)
        nonfinite = joined(values[:, 3], values[:, 4])
        return State(Sums(values[:, :2].sum(0), values[:, 2].max(0), nonfinite.sum()), count)

    def merge(self, a: State, b: State) -> State:
        x, y = a.value, b.value
        largest = namespace(x.largest, y.largest).maximum(x.largest, y.largest)
        merged = Sums(x.squares + y.squares, largest, x.nonfinite + y.nonfinite)
        return State(merged, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        (squares, largest, nonfinite), weight = state
        weight = collapsed_weight(weight, largest.shape[0])
        return State(Sums(squares.sum(0), largest.max(0), nonfinite.sum()), weight)

    def finish(self, state: State) -> Norms:
        squares, others = np.asarray(state.value.squares, np.float64)
        largest = np.asarray(state.value.largest, np.float64)
        nonfinite = np.asarray(state.value.nonfinite)
        count = np.asarray(state.weight, np.float64)
        return Norms(
            names=tuple(name for name, _ in self.leaves),
            sizes=np.array([size for _, size in self.leaves]),
            statistics=self.statistics,
            squares=squares / count,
            relative=others / count,
            largest=largest,
            nonfinite=nonfinite,
        )


def halves(counts: Wide) -> tuple[Array, Array]:
    """Return the lower 16 bits of counts and the rest as float32, exactly up to 2**40."""
    upper = (counts.low >> 16 & 0xFFFF) | counts.high << 16
    return (counts.low & 0xFFFF).astype(np.float32), upper.astype(np.float32)


def counted_rows(values: Array, weight: Array | None, rank: int) -> tuple[Array, Wide | int]:
    """Return the values of all observations as rows, with zeros in those that do not count, and how many count.

    Args:
        values: [..., *shape] with one index for each observation.
        weight: their weights or a mask; None if all count.
        rank: the number of axes of ``shape``.
    """
    rows = values.reshape(-1, *values.shape[-rank:])
    if weight is None:
        return rows, rows.shape[0]
    weight = weight.reshape(-1)
    zero = rows.dtype.type(0)
    rows = namespace(rows, weight).where(expand(is_counted(weight), rows), rows, zero)
    return rows, count_positive(weight)


def joined(lower: Array, upper: Array) -> WideInt:
    """Return the counts of which :func:`halves` returns the halves."""
    lower, upper = lower.astype(np.int32), upper.astype(np.int32)
    return WideInt(upper >> 16, (upper & 0xFFFF) << 16 | lower)
