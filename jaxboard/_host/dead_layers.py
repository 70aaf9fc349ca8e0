"""Layers whose gradient is zero everywhere, and the layer that causes it.

A layer of ReLU units that are never active has no gradient. The layers before it have none because no gradient reaches them.
The weights of the layer after it have none because their inputs are zero, but its bias has one. If that bias is zero, the
layer after it outputs zeros too and has no gradient at all. Only activations then show where the zeros begin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxboard._reduce.layer_health import LayerHealth

_MIN_REPORTS = 5
_MIN_STEPS = 10
"""A layer is dead when its gradient has been zero for this many reports, and this many steps."""

_NUMBER = re.compile(r"^(.*?)(\d+)(\D*)$")


class DeadLayers(NamedTuple):
    """Layers that lost their gradient at the same step.

    Attributes:
        causes: the layer that died; several if any of them may have.
        layers: all of them.
        step: the first step without a gradient.
        from_start: whether they never had one.
        has_successor: whether the inputs of another layer are zero.
        is_everything: whether no layer has a gradient.
    """

    causes: tuple[str, ...]
    layers: tuple[str, ...]
    step: int
    from_start: bool
    has_successor: bool
    is_everything: bool


class DeadLayerFinder:
    """Finds layers that die. Used by one thread, the flusher.

    Args:
        layers: the names of the L layers.
    """

    def __init__(self, layers: tuple[str, ...]):
        self._layers = layers
        count = len(layers)
        self._reports = np.zeros(count, int)
        self._since = np.zeros(count, np.int64)
        self._had_gradient = np.zeros(count, bool)
        self._without_input = np.zeros(count, int)
        self._silent = np.zeros(count, int)
        self._reported = np.zeros(count, bool)

    def observe(self, step: int, health: LayerHealth) -> list[DeadLayers]:
        """Return the layers that are dead as of this report, and were not before."""
        dead_parts = health.dead_parts()
        sizes, layer_of, count = health.table.sizes, health.table.layer_of, len(self._layers)
        dead = np.bincount(layer_of, dead_parts, count)
        alive = np.bincount(layer_of, (sizes[1] > 0) & ~dead_parts, count)
        silent = np.bincount(layer_of, health.silent_parts(), count) > 0
        is_dead = (dead > 0) & (alive == 0) | silent & (dead + alive == 0)
        self._without_input = np.where((dead > 0) & (alive > 0), self._without_input + 1, 0)
        self._silent = np.where(silent, self._silent + 1, 0)
        self._since[is_dead & (self._reports == 0)] = step
        self._reports = np.where(is_dead, self._reports + 1, 0)
        self._had_gradient |= alive > 0
        self._reported &= is_dead
        held = (self._reports >= _MIN_REPORTS) & (step - self._since >= _MIN_STEPS - 1)
        new = held & ~self._reported
        if not new.any():
            return []
        everything = bool(is_dead[dead + alive > 0].all())
        self._reported |= new
        groups: dict[tuple[int, bool], list[int]] = {}
        for layer in np.flatnonzero(new).tolist():
            key = int(self._since[layer]), not self._had_gradient[layer]
            groups.setdefault(key, []).append(layer)
        return [
            self._described(group, since, from_start, everything, health)
            for (since, from_start), group in groups.items()
        ]

    def _described(
        self, group: list[int], since: int, from_start: bool, everything: bool, health: LayerHealth
    ) -> DeadLayers:
        names = [self._layers[layer] for layer in group]
        successors = self._names(self._without_input)
        silent = [name for name in names if name in self._names(self._silent)]
        if silent:  # The first of them has inputs that are not zero.
            causes = _ends(silent, first=True) or tuple(silent)
        else:
            last = _last_before(names, successors) or _ends(names, first=False)
            causes = self._possible_causes(names, last[0], health) if last else tuple(names)
        return DeadLayers(
            causes, tuple(names), since, from_start, bool(successors or silent), everything
        )

    def _names(self, reports: np.ndarray) -> list[str]:
        """Return the layers that have been in a state for as long as dead layers have."""
        return [self._layers[layer] for layer in np.flatnonzero(reports >= _MIN_REPORTS - 1)]

    def _possible_causes(self, names: list[str], last: str, health: LayerHealth) -> tuple[str, ...]:
        """Return the last dead layer, and those before it whose zeros later layers may have passed on."""
        numbered = {name: number for name in names if (number := _number(name)) is not None}
        if last not in numbered:
            return (last,)
        ordered = sorted(
            (name for name in numbered if _stem(name) == _stem(last)), key=numbered.__getitem__
        )
        ordered = ordered[: ordered.index(last) + 1]
        first = len(ordered) - 1
        while first and self._passes_zeros(ordered[first], health):
            first -= 1
        return tuple(ordered[first:])

    def _passes_zeros(self, layer: str, health: LayerHealth) -> bool:
        """Return whether a layer outputs zeros if its inputs are zero: only its largest array is not zero."""
        members = np.flatnonzero(health.table.layer_of == self._layers.index(layer))
        largest = members[health.table.sizes[0, members].argmax()]
        others = members[members != largest]
        return not health.squares[0, others].any()


def _stem(name: str) -> tuple[str, str] | None:
    match = _NUMBER.match(name)
    return None if match is None else (match[1], match[3])


def _number(name: str) -> int | None:
    match = _NUMBER.match(name)
    return None if match is None else int(match[2])


def _last_before(names: Sequence[str], successors: Sequence[str]) -> tuple[str, ...]:
    """Return the dead layer right before one whose inputs are zero, if their numbers show it."""
    for successor in successors:
        number = _number(successor)
        alike = [name for name in names if number is not None and _stem(name) == _stem(successor)]
        before = [name for name in alike if (_number(name) or 0) < (number or 0)]
        if before:
            return _ends(before, first=False)
    return ()


def _ends(names: Sequence[str], *, first: bool) -> tuple[str, ...]:
    """Return the first or the last layer, or nothing if their names do not show the order."""
    if len(names) == 1:
        return tuple(names)
    stems = {_stem(name) for name in names}
    if len(stems) > 1 or None in stems:
        return ()
    return ((min if first else max)(names, key=lambda name: _number(name) or 0),)
