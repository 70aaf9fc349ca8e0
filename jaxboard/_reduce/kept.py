"""Kept values: the arrays of one name in one step, which the host remembers."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import numpy as np

from jaxboard._reduce.reducers import (
    Reducer,
    State,
    at_least_32_bits,
    collapsed_weight,
    expand,
    flatten_lanes,
    flatten_weight,
    is_static,
    replicated,
)
from jaxboard._reduce.wide import WideInt, namespace
from jaxboard._types import Array

_MAX_ELEMENTS = 65_536
"""Most elements that are kept of one name in one step: the first rows."""


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The arrays of one name in one step.

    Attributes:
        values: [*shape], or [N, *shape] if lanes, iterations or devices kept several.
    """

    values: np.ndarray


class Rows(NamedTuple):
    """The value of the state.

    Attributes:
        values: [N, *shape], the array of each lane, iteration or device.
        counts: int32[N], above 0 for those that a mask has not left out.
    """

    values: Array
    counts: Array


class KeptReducer(Reducer):
    """Keep the arrays of all lanes, iterations and devices, in order. A later report replaces an earlier one."""

    name = "kept"
    elementwise = False

    def start(self, values: Array, weight: Array | None, rank: int) -> State:
        rows, count = flatten_lanes(at_least_32_bits(values), rank)
        xp = namespace(rows)
        if weight is None:
            return State(_first_rows(Rows(rows, xp.ones(count, np.int32))), count)
        counts = flatten_weight(weight) > 0
        value = Rows(rows, counts.astype(np.int32))
        return State(_first_rows(value), WideInt.of(value.counts.sum(dtype=np.int32)))

    def merge(self, a: State, b: State) -> State:
        if is_static(b.weight):
            return b
        if a.value.values.shape != b.value.values.shape:
            return b
        has_value = b.weight.is_positive()
        xp = namespace(*jax.tree.leaves((a.value, b.value)), has_value)
        value = jax.tree.map(lambda x, y: xp.where(expand(has_value, y), y, x), a.value, b.value)
        return State(value, a.weight + b.weight)

    def collapse(self, state: State) -> State:
        rows, weight = state
        count = rows.values.shape[0]
        if not is_static(weight):  # A branch that did not run has no rows.
            mask = weight.is_positive().astype(np.int32)
            rows = rows._replace(counts=rows.counts * expand(mask, rows.counts))
        flat = jax.tree.map(
            lambda array: replicated(lambda x: x.reshape(-1, *x.shape[2:]), array), rows
        )
        return State(_first_rows(flat), collapsed_weight(weight, count))

    def finish(self, state: State) -> Kept:
        values, counts = (np.asarray(x) for x in state.value)
        values = values[counts > 0]
        return Kept(values[0] if len(values) == 1 else values)


def _first_rows(rows: Rows) -> Rows:
    """Return as many rows as are kept."""
    size = max(1, int(np.prod(rows.values.shape[1:], dtype=np.int64)))
    count = max(1, _MAX_ELEMENTS // size)
    if len(rows.counts) <= count:
        return rows
    return Rows(*(replicated(lambda x: x[:count], array) for array in rows))
