"""Packing: many accumulators into one vector per dtype, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxboard import _compat
from jaxboard._errors import ReportError
from jaxboard._frame import Entry, Packed, Plan, ReportSpec, Slot
from jaxboard._reduce import State, reducer

_MOST_RUNS = 256
"""How many lanes may be runs: each is a curve to tell apart, and an open file."""


@dataclasses.dataclass(frozen=True, slots=True)
class Harvested:
    """A report's accumulator on its way out of a traced function.

    Attributes:
        spec: the report.
        state: its accumulator. If ``step`` is given, every array of it has a leading axis: points.
        step: int32, the points' own steps; with an axis of lanes if those differ in it.
    """

    spec: ReportSpec
    state: State
    step: Any = None

    def collapse(self) -> Harvested:
        """Merges along the leading axis that every array has. Points of different steps stay apart."""
        if self.step is None:
            return Harvested(self.spec, reducer(self.spec).collapse(self.state))
        value, weight, step = jax.tree.map(
            lambda x: x if isinstance(x, int) else x.reshape(-1, *x.shape[2:]),
            (self.state.value, self.state.weight, self.step),
        )
        return Harvested(self.spec, State(value, weight), step)

    def across(self) -> Harvested:
        """Merges along the leading axis, where it is that of devices: they make the same points.

        Lanes that stay apart are other ones on each device.
        """
        own: Any = reducer(self.spec)
        if not self.spec.lanes:
            return self._at_each_point(self.spec, own.collapse, lambda step: step.max(0))
        spec = with_lanes(self.spec, self.spec.lanes * self._length)
        return self._at_each_point(spec, own.side_by_side, _side_by_side)

    def mapped(self) -> Harvested:
        """The report under a ``vmap`` around it, of whose lanes every array has a leading axis."""
        if self.spec.lanes is None:
            return self.collapse()
        spec = with_lanes(self.spec, self._length)
        own: Any = reducer(spec)
        return self._at_each_point(spec, own.around, lambda step: _around(spec, step))

    @property
    def _length(self) -> int:
        return jax.tree.leaves(self.state.value)[0].shape[0]

    def _at_each_point(
        self, spec: ReportSpec, merge: Callable[[State], State], merge_steps: Callable[[Any], Any]
    ) -> Harvested:
        if self.step is None:
            return Harvested(spec, merge(self.state))
        value, weight = self.state
        merged = jax.vmap(
            lambda value, weight: merge(State(value, weight)),
            in_axes=(1, None if isinstance(weight, int) else 1),
        )(value, weight)
        return Harvested(spec, merged, merge_steps(self.step))


def start(spec: ReportSpec, value: Any, weight: Any, step: Any) -> Harvested:
    """The accumulator of one report."""
    if spec.lanes is not None and value.ndim > spec.rank:
        spec = with_lanes(spec, value.shape[0])
    state = reducer(spec).start(value, weight, spec.rank)
    if step is None:
        return Harvested(spec, state)
    value, weight = jax.tree.map(lambda x: x if isinstance(x, int) else x[None], tuple(state))
    step = step.max() if spec.windowed else step  # a window is one for all lanes
    return Harvested(spec, State(value, weight), step.astype(jnp.int32)[None])


def _side_by_side(step: Any) -> Any:
    """The steps of points of more lanes: [D, P] or, lane by lane, [D, P, S]."""
    if step.ndim == 2:
        return step.max(0)
    return jnp.moveaxis(step, 0, 1).reshape(step.shape[1], -1)


def _around(spec: ReportSpec, step: Any) -> Any:
    """The steps of points of the lanes around: [S, P] or, of lanes that merge, [S, P, K]."""
    step = step.reshape(*step.shape[:2], -1).max(2)
    return step.max(0) if spec.windowed else step.T


def with_lanes(spec: ReportSpec, count: int) -> ReportSpec:
    """The report with so many lanes apart."""
    if count > _MOST_RUNS:
        raise ReportError(
            f"report {spec.tag!r}: runs='vmap' would make a run of each of {count} lanes; {_MOST_RUNS} is the "
            "most. It takes the outermost mapped axis that the value depends on. If that isn't the "
            "one of the seeds, let its lanes merge: runs=False."
        )
    return dataclasses.replace(spec, lanes=count)


def merge_same(reports: Sequence[Harvested]) -> list[Harvested]:
    """One accumulator for each report, however often it was made."""
    merged: dict[Any, Harvested] = {}
    for number, report in enumerate(reports):
        key = report.spec if report.step is None else (report.spec, number)
        if key in merged:
            state = reducer(report.spec).merge(merged[key].state, report.state)
            report = Harvested(report.spec, state)  # noqa: PLW2901
        merged[key] = report
    return list(merged.values())


class _Packer:
    def __init__(self) -> None:
        self.parts: dict[str, list[Any]] = {}
        self.sizes: dict[str, int] = {}

    def add(self, array: Any) -> Slot:
        array = jnp.asarray(array)
        # Inside shard_map, values that differ between devices keep apart from those that don't.
        name = "@".join([str(carried(array.dtype)), *sorted(_compat.varying(array))])
        offset = self.sizes.get(name, 0)
        self.parts.setdefault(name, []).append(array)
        self.sizes[name] = offset + array.size
        return Slot(name, offset, array.shape)

    def arrays(self) -> dict[str, Any]:
        return {name: _vector(p, carried(p[0].dtype)) for name, p in self.parts.items()}


def carried(dtype: Any) -> Any:
    """The dtype that carries another one exactly; fewer dtypes make fewer arrays."""
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
        return jnp.dtype(jnp.float32)
    return jnp.dtype(jnp.int32) if dtype == jnp.bool_ else dtype


def _vector(parts: list[Any], dtype: Any) -> Any:
    """One vector of all elements.

    A concatenation materialises each operand: 35 to 50 us for ten scalars on a CPU, more than a small
    step takes. A chain of selects is fused with what computes them, and costs about nothing.
    """
    if len(parts) == 1:
        return parts[0].astype(dtype).reshape(-1)
    if len(parts) <= 64 and all(part.size == 1 for part in parts):
        place = lax.iota(jnp.int32, len(parts))
        vector = jnp.zeros(len(parts), dtype)
        for number, part in enumerate(parts):
            vector = jnp.where(place == number, part.astype(dtype).reshape(()), vector)
        return vector
    return jnp.concatenate([part.astype(dtype).reshape(-1) for part in parts])


def pack(reports: Sequence[Harvested], step: Any = None) -> Packed:
    """Packs reports, and the step they belong to if the program computes it."""
    packer = _Packer()
    step_slot = None if step is None else packer.add(jnp.asarray(step, jnp.int32).reshape(()))
    entries = []
    for report in reports:
        leaves, tree = jax.tree.flatten(report.state.value)
        weight = report.state.weight
        entries.append(
            Entry(
                report.spec,
                tree,
                tuple(packer.add(leaf) for leaf in leaves),
                weight if isinstance(weight, int) else packer.add(weight),
                None if report.step is None else packer.add(report.step),
            )
        )
    return Packed(Plan(tuple(entries), step_slot), packer.arrays())


def unpack(packed: Packed) -> list[Harvested]:
    """The reports that were packed; with the leading axes that the vectors were given meanwhile."""
    read = lambda slot: slot.read(packed.arrays)  # noqa: E731
    return [
        Harvested(
            entry.spec,
            State(
                jax.tree.unflatten(entry.value, [read(slot) for slot in entry.slots]),
                entry.weight if isinstance(entry.weight, int) else read(entry.weight),
            ),
            None if entry.step is None else read(entry.step),
        )
        for entry in packed.plan.entries
    ]
