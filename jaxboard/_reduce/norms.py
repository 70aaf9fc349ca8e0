"""Norms of the leaves of a pytree: a column of sums for each leaf, all in one array."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxboard._reduce.pieces import fold
from jaxboard._reduce.reducers import (
    Reducer,
    State,
    expand,
    floats,
    is_static,
    namespace,
    on_cpu,
    replicated,
)
from jaxboard.records import Norms


class Sums(NamedTuple):
    """The value of the state: float32, a number for each of L leaves.

    Attributes:
        added: [3, L]: squares, elements that are not finite, squares of the tree compared with.
        largest: [L]: magnitudes.
    """

    added: Any
    largest: Any


class NormsReducer(Reducer):
    """Reduces float32[4, L]: squares, non-finite elements, squares to compare with, largest magnitude."""

    name = "norms"

    def __init__(self, leaves: tuple[tuple[str, int], ...], what: tuple[str, ...]):
        self.leaves = leaves
        self.what = what

    def start(self, values: Any, weight: Any, rank: int) -> State:
        values = values.reshape(-1, *values.shape[-rank:])
        count = values.shape[0]
        if weight is not None:
            weight = (weight.reshape(-1) > 0).astype(np.int32)
            # Magnitudes and squares: nothing of theirs is below zero.
            values = namespace(values, weight).where(expand(weight > 0, values), values, 0)
            count = weight.sum()
        return State(Sums(values[:, :3].sum(0), values[:, 3].max(0)), count)

    def merge(self, a: State, b: State) -> State:
        xp = namespace(*a.value, *b.value)
        largest = xp.maximum(a.value.largest, b.value.largest)
        return State(Sums(a.value.added + b.value.added, largest), a.weight + b.weight)

    def collapse(self, state: State) -> State:
        (added, largest), weight = state
        weight = weight * largest.shape[0] if is_static(weight) else weight.sum(0)
        return State(Sums(added.sum(0), largest.max(0)), weight)

    def finish(self, state: State) -> Norms:
        added, largest = (np.asarray(x, np.float64) for x in state.value)
        squares, nonfinite, others = added
        count = np.asarray(state.weight)
        return Norms(
            names=tuple(name for name, _ in self.leaves),
            sizes=np.array([size for _, size in self.leaves]),
            what=self.what,
            squares=squares / count,
            relative=others / count,
            largest=largest,
            nonfinite=nonfinite,
        )


def measure(leaves: list[Any], others: list[Any] | None, what: tuple[str, ...]) -> Any:
    """What :class:`NormsReducer` reduces, of the leaves of one pytree.

    Args:
        leaves: L arrays of floats.
        others: as many to compare them with, or None.
        what: see ``watch``. What it does not ask for is not computed.
    """
    none = jnp.zeros(len(leaves))
    wanted = {
        0: (leaves, _square, {"norm", "rms", "ratio"}),
        1: (leaves, _nonfinite, {"nonfinite"}),
        2: (others or [], _square, {"ratio"}),
        3: (leaves, _largest, {"max"}),
    }
    rows = [
        jnp.stack([function(x) for x in arrays]) if asked.intersection(what) else none
        for arrays, function, asked in wanted.values()
    ]
    return jnp.stack(rows)


def _square(x: Any) -> Any:
    x = jnp.abs(x) if jnp.iscomplexobj(x) else x
    x = floats(x)
    return jnp.sum(x * x).astype(np.float32)


def _nonfinite(x: Any) -> Any:
    return replicated(_count_nonfinite, x).astype(np.float32)


def _count_nonfinite(x: Any) -> Any:
    def count(total: Any, piece: Any) -> Any:
        return total + jnp.sum(jnp.where(jnp.isfinite(piece), 0, 1))

    squares = _square(x)
    none = jnp.zeros_like(squares, np.int32)
    if not on_cpu(x):
        return count(none, x)
    # A CPU takes several times as long to count them as to see by the squares that there are none.
    return lax.cond(jnp.isfinite(squares), lambda: none, lambda: fold(count, none, x))


def _largest(x: Any) -> Any:
    x = jnp.abs(x) if jnp.iscomplexobj(x) else x
    if not x.size:
        return jnp.zeros((), np.float32)
    # Rather than the maximum of magnitudes: of a leaf that has a histogram too, both are computed already.
    return jnp.maximum(jnp.abs(x.min()), jnp.abs(x.max())).astype(np.float32)
