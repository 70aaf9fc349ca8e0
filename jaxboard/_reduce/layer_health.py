"""The health of the layers of a model: the reduction of the sums of its parts, and the result."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxboard._reduce.layer_parts import TREES, Part, PartTable
from jaxboard._reduce.norms import Norms, counted_rows, joined
from jaxboard._reduce.reducers import (
    Reducer,
    State,
    collapsed_weight,
)
from jaxboard._reduce.wide import WideInt
from jaxboard._types import Array
from jaxboard.records import Scalars

STATISTICS = (
    "ratio",
    "gradient_norm",
    "zeros",
    "rms",
    "activation_zeros",
    "activation_rms",
    "nonfinite",
)
"""The statistics of a layer, in the order of display."""


class _Statistics(NamedTuple):
    """Each of :data:`STATISTICS` of G groups of parts.

    Attributes:
        values: float64[7, G], NaN where not defined.
        defined: bool[7, G]. A ratio to parameters that are all zero is not defined, nor is that of a missing tree.
    """

    values: np.ndarray
    defined: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class LayerHealth:
    """Statistics of the P parts and the L layers of a model, averaged over the observations.

    Attributes:
        table: the parts.
        squares: float64[4, P], the sums of squares of each of the :data:`TREES`.
        zeros: float64[2, P], the fractions of elements of gradients and of activations that are zero.
        nonfinite: int64[4, P], the numbers of NaN or infinite elements in all observations.
        curves: whether layers have curves of their own.
    """

    table: PartTable
    squares: np.ndarray
    zeros: np.ndarray
    nonfinite: np.ndarray
    curves: bool = False

    def of_layers(self) -> np.ndarray:
        """Return float64[7, L]: each of :data:`STATISTICS` of each layer; NaN where it is not defined."""
        return self._of_layers().values

    def dead_parts(self) -> np.ndarray:
        """Return bool[P]: which parts have a gradient that is zero everywhere."""
        return (self.table.sizes[1] > 0) & (self.zeros[0] == 1) & (self.squares[1] == 0)

    def silent_parts(self) -> np.ndarray:
        """Return bool[P]: which parts have activations that are zero everywhere."""
        return (self.table.sizes[3] > 0) & (self.zeros[1] == 1) & (self.squares[3] == 0)

    def scalars(self, tag: str, step: int, wall_time: float, run: str = "") -> Scalars:
        """Return one row: each statistic of the model, and of each layer if layers have curves of their own."""
        tags = [f"{tag}/{name}" for name in STATISTICS]
        values, defined = self._of_model()
        if self.curves:
            tags += [f"{tag}/{name}/{layer}" for name in STATISTICS for layer in self.table.layers]
            layers = self._of_layers()
            values = np.concatenate([values.reshape(-1), layers.values.reshape(-1)])
            defined = np.concatenate([defined.reshape(-1), layers.defined.reshape(-1)])
        kept = defined.reshape(-1)
        names = tuple(itertools.compress(tags, kept.tolist()))
        row = values.reshape(1, -1)[:, kept]
        return Scalars(names, np.array([step]), np.array([wall_time]), row, run)

    def norms(self) -> Iterator[tuple[str, Norms]]:
        """Yield the name and the norms of each tree, for the monitor of values that are not finite."""
        names = self.table.names
        none = np.zeros(len(names))
        for row, name in enumerate(TREES):
            sizes, squares, counts = self.table.sizes[row], self.squares[row], self.nonfinite[row]
            if sizes.any():
                yield name, Norms(names, sizes, ("norm",), squares, none, none, counts)

    def _of_model(self) -> _Statistics:
        total = self.table.sizes.sum(1, keepdims=True, dtype=np.float64)
        zeros = (self.zeros * self.table.sizes[1::2]).sum(1, keepdims=True)
        nonfinite = self.nonfinite.sum(keepdims=True)[0]
        return _statistics(total, self.squares.sum(1, keepdims=True), zeros, nonfinite)

    def _of_layers(self) -> _Statistics:
        groups = self.table.layer_of
        squares = np.stack([np.bincount(groups, row) for row in self.squares])
        zeros = np.stack([np.bincount(groups, row) for row in self.zeros * self.table.sizes[1::2]])
        nonfinite = np.bincount(groups, self.nonfinite.sum(0))
        return _statistics(self.table.layer_sizes, squares, zeros, nonfinite)


def _statistics(
    sizes: np.ndarray, squares: np.ndarray, zeros: np.ndarray, nonfinite: np.ndarray
) -> _Statistics:
    """Return the statistics of G groups of parts.

    Args:
        sizes: [4, G], the numbers of elements of each of the trees.
        squares: [4, G], their sums of squares.
        zeros: [2, G], the numbers of elements of gradients and of activations that are zero.
        nonfinite: [G], the numbers of elements that are not finite.
    """
    parameters, gradients, updates, activations = squares
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        rows = (
            np.sqrt(updates / parameters),
            np.sqrt(gradients),
            zeros[0] / sizes[1],
            np.sqrt(parameters / sizes[0]),
            zeros[1] / sizes[3],
            np.sqrt(activations / sizes[3]),
            nonfinite,
        )
    has_weights, has_gradient, has_update, has_activations = sizes > 0
    has_ratio = has_update & (parameters != 0)
    always = np.ones_like(has_gradient)
    defined = np.stack(
        [
            has_ratio,
            has_gradient,
            has_gradient & ~np.isnan(zeros[0]),
            has_weights,
            has_activations & ~np.isnan(zeros[1]),
            has_activations,
            always,
        ]
    )
    return _Statistics(np.where(defined, np.stack(rows), np.nan), defined)


class Sums(NamedTuple):
    """The value of the state: numbers for each of P parts.

    Attributes:
        averaged: float32[6, P], the sums of squares of the four trees, and the numbers of elements of
            gradients and activations that are not zero.
        nonfinite: [4, P], the numbers of non-finite elements.
    """

    averaged: Array
    nonfinite: WideInt


class LayerHealthReducer(Reducer):
    """Reduce the result of :func:`layer_sums`: float32[14, P].

    Args:
        parts: the parts.
        curves: whether layers have curves of their own.
    """

    name = "layer_health"

    def __init__(self, parts: tuple[Part, ...], curves: bool):
        self.table = PartTable(parts)
        self.curves = curves

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        values, count = counted_rows(values, weight, rank)
        nonfinite = joined(values[:, 6::2], values[:, 7::2])
        return State(Sums(values[:, :6].sum(0), nonfinite.sum()), count)

    def merge(self, a: State, b: State) -> State:
        x, y = a.value, b.value
        merged = Sums(x.averaged + y.averaged, x.nonfinite + y.nonfinite)
        return State(merged, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        (averaged, nonfinite), weight = state
        weight = collapsed_weight(weight, averaged.shape[0])
        return State(Sums(averaged.sum(0), nonfinite.sum()), weight)

    def finish(self, state: State) -> LayerHealth:
        averaged = np.asarray(state.value.averaged, np.float64)
        averaged = averaged / np.asarray(state.weight, np.float64)
        nonfinite = np.asarray(state.value.nonfinite)
        # Devices may divide inexactly, and only exactly 1 is a dead layer.
        zeros = 1 - averaged[4:] / np.maximum(self.table.sizes[1::2], 1)
        return LayerHealth(self.table, averaged[:4], zeros, nonfinite, self.curves)
