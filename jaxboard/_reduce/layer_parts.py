"""The parts of the layers of a model: an array, or the share of one layer in an array of stacked layers."""

from __future__ import annotations

import dataclasses

import numpy as np

TREES = ("params", "grads", "updates", "activations")
"""The trees of arrays that a part may have."""


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A part of a layer.

    Attributes:
        name: the path of the array, with the index of the layer if it is stacked.
        layer: the name of the layer.
        sizes: the number of elements in each of the :data:`TREES`; 0 for a missing array.
    """

    name: str
    layer: str
    sizes: tuple[int, ...]


class PartTable:
    """The parts of a model in columns.

    Args:
        parts: the P parts.

    Attributes:
        names: the name of each part.
        sizes: int64[4, P], the numbers of elements in each of the trees.
        layers: the names of the L layers, in the order in which they first occur.
        layer_of: int[P], the position in ``layers`` of the layer of each part.
        layer_sizes: float64[4, L], the numbers of elements of each layer.

    Example:
        >>> kernel, bias = Part("a/w", "a", (4, 4, 0, 0)), Part("a/b", "a", (2, 2, 0, 0))
        >>> table = PartTable((kernel, bias, Part("c", "c", (1, 0, 0, 0))))
        >>> table.layers, table.layer_of.tolist(), table.layer_sizes[0].tolist()
        (('a', 'c'), [0, 0, 1], [6.0, 1.0])
    """

    def __init__(self, parts: tuple[Part, ...]):
        self.names = tuple(part.name for part in parts)
        self.sizes = np.array([part.sizes for part in parts]).T
        self.layers = tuple(dict.fromkeys(part.layer for part in parts))
        places = {name: place for place, name in enumerate(self.layers)}
        self.layer_of = np.array([places[part.layer] for part in parts])
        self.layer_sizes = np.stack([np.bincount(self.layer_of, row) for row in self.sizes])
