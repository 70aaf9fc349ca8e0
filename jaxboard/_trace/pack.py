"""Packing: the accumulators of many reports as one vector for each dtype, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxboard import _compat
from jaxboard._errors import ReportError
from jaxboard._frame import Entry, Packed, Plan, ReportSpec, Slot, WideSlot
from jaxboard._reduce import StackAxis, StackOptions, State, WideInt, reducer
from jaxboard._types import PyTree

if TYPE_CHECKING:
    from jaxboard._reduce.lanes import LanesReducer

_MAX_SELECTED = 64
"""Most scalars that one chain of selects joins. Its work is the square of this."""

_MAX_SEED_RUNS = 256
"""Most lanes that may become runs; each is a curve and an open file."""


# --- Harvested reports ----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Harvested:
    """A report on its way out of a traced function.

    Attributes:
        spec: the report.
        state: its accumulator. If ``step`` is given, all its arrays have a leading axis of points.
        step: integers of at least 32 bits, the step of each point, if the report was made with ``step=``; with a second axis of lanes
            if those have different steps.
    """

    spec: ReportSpec
    state: State
    step: Array | None = None

    def collapse(self, axis: StackAxis) -> Harvested:
        """Merge along the leading axis that every array has. Points remain points.

        Args:
            axis: the name of the axis, for reports that keep its elements separate.
        """
        if self.step is None:
            of_spec = reducer(self.spec)
            collapse = of_spec.collapse if axis == "iteration" else of_spec.collapse_lanes
            return Harvested(stacked(self.spec, axis), collapse(self.state))
        value, weight, step = jax.tree.map(
            lambda x: x if isinstance(x, int) else x.reshape(-1, *x.shape[2:]),
            (self.state.value, self.state.weight, self.step),
        )
        return Harvested(self.spec, State(value, weight), step)

    def merge_devices(self) -> Harvested:
        """Merge along the leading axis, which is that of devices: they make the same points.

        Separate lanes are not merged: each device has other lanes.
        """
        if not self.spec.lanes:
            collapse, spec = reducer(self.spec).collapse_lanes, stacked(self.spec, "device")
            return self._merge_points(spec, collapse, lambda step: step.max(0))
        spec = with_lanes(self.spec, self.spec.lanes * self._leading_size)
        return self._merge_points(
            spec, self._lanes_reducer(spec).concatenate_devices, _concatenate_steps
        )

    def on_any_device(self) -> Harvested:
        """Return the report without the leading axis, which is that of devices: all have the same values."""
        state, step = jax.tree.map(
            lambda x: x if isinstance(x, int) else x[0], (self.state, self.step)
        )
        return Harvested(self.spec, state, step)

    def batch(self) -> Harvested:
        """Return the report under another ``vmap``, whose lanes are the leading axis of every array."""
        if self.spec.lanes is None:
            return self.collapse("lane")
        # Lanes that were separate until now merge.
        spec = stacked(self.spec, "lane") if self.spec.lanes else self.spec
        spec = with_lanes(spec, self._leading_size)
        merge = self._lanes_reducer(spec).from_outer_map
        return self._merge_points(spec, merge, lambda step: _steps_of_outer_lanes(spec, step))

    @property
    def _leading_size(self) -> int:
        return jax.tree.leaves(self.state.value)[0].shape[0]

    @staticmethod
    def _lanes_reducer(spec: ReportSpec) -> LanesReducer:
        return cast("LanesReducer", reducer(spec))

    def _merge_points(
        self,
        spec: ReportSpec,
        merge: Callable[[State], State],
        merge_steps: Callable[[Array], Array],
    ) -> Harvested:
        """Apply ``merge`` to the state: at each point, if there are points."""
        if self.step is None:
            return Harvested(spec, merge(self.state))
        value, weight = self.state

        def merge_point(value: PyTree, weight: PyTree) -> State:
            value, weight = merge(State(value, weight))
            # vmap would return a static weight as one array, without its upper word.
            return State(value, WideInt.of(weight) if isinstance(weight, int) else weight)

        in_axes = (1, None if isinstance(weight, int) else 1)
        merged = jax.vmap(merge_point, in_axes=in_axes)(value, weight)
        return Harvested(spec, merged, merge_steps(self.step))


def start_accumulator(
    spec: ReportSpec,
    value: Array,
    weight: Array | None,
    step: Array | None,
    outermost: StackAxis = "lane",
) -> Harvested:
    """Start the accumulator of one report. The outermost axis of lanes may stand for something else."""
    lane_axes = value.ndim - spec.rank
    if spec.lanes is not None and lane_axes:
        spec = with_lanes(spec, value.shape[0])
        lane_axes -= 1
    if lane_axes:
        inner: tuple[StackAxis, ...] = ("lane",) * (lane_axes - 1)
        spec = stacked(spec, outermost, *inner)
    state = reducer(spec).start(value, weight, spec.rank)
    if step is None:
        return Harvested(spec, state)
    value, weight = jax.tree.map(lambda x: x if isinstance(x, int) else x[None], tuple(state))
    if spec.windowed:
        step = step.max()  # all lanes share one window
    return Harvested(spec, State(value, weight), _as_step(step)[None])


def _as_step(step: Array) -> Array:
    """Return a step with at least 32 bits. Unsigned and 64-bit integers are kept."""
    step = jnp.asarray(step)
    return step if step.dtype.itemsize >= 4 else step.astype(jnp.int32)


def with_lanes(spec: ReportSpec, count: int) -> ReportSpec:
    """Return the report with ``count`` separate lanes.

    Raises:
        ReportError: there would be too many runs.
    """
    if count > _MAX_SEED_RUNS:
        raise ReportError(
            f"report {spec.tag!r}: runs='vmap' would make a run of each of {count} lanes; {_MAX_SEED_RUNS} is the "
            "most. It takes the outermost mapped axis that the value depends on. If that isn't the one of the "
            "seeds, let its lanes merge: runs=False."
        )
    return dataclasses.replace(spec, lanes=count)


def stacked(spec: ReportSpec, *axes: StackAxis) -> ReportSpec:
    """Return a report with more leading axes, whose elements it keeps separate if it is a stack."""
    if not isinstance(spec.options, StackOptions):
        return spec
    options = dataclasses.replace(spec.options, axes=(*axes, *spec.options.axes))
    return dataclasses.replace(spec, options=options)


def merge_same(reports: Sequence[Harvested]) -> list[Harvested]:
    """Merge the reports that are the same, except those with points: one accumulator for each."""
    merged: dict[Hashable, Harvested] = {}
    for number, report in enumerate(reports):
        key = report.spec if report.step is None else (report.spec, number)
        if key in merged:
            state = reducer(report.spec).merge(merged[key].state, report.state)
            report = Harvested(report.spec, state)  # noqa: PLW2901
        merged[key] = report
    return list(merged.values())


def _concatenate_steps(step: Array) -> Array:
    """Merge the steps of the same points on several devices: [D, P], or [D, P, S] with separate lanes."""
    if step.ndim == 2:
        return step.max(0)
    return jnp.moveaxis(step, 0, 1).reshape(step.shape[1], -1)


def _steps_of_outer_lanes(spec: ReportSpec, step: Array) -> Array:
    """Return the steps of points for the lanes of an outer map: [S, P], or [S, P, K] with inner lanes."""
    step = step.reshape(*step.shape[:2], -1).max(2)
    return step.max(0) if spec.windowed else step.T


# --- Packing --------------------------------------------------------------------------------------


def pack(reports: Sequence[Harvested], step: Array | WideInt | None = None) -> Packed:
    """Pack reports, and the step they belong to if the program computes it."""
    packer = _Packer()
    step_slot = None if step is None else packer.add_step(step)
    entries = []
    for report in reports:
        leaves, tree = jax.tree.flatten(report.state.value)
        weight = report.state.weight
        entries.append(
            Entry(
                report.spec,
                tree,
                tuple(packer.add(leaf) for leaf in leaves),
                weight if isinstance(weight, int) else jax.tree.map(packer.add, weight),
                None if report.step is None else packer.add(report.step),
            )
        )
    return Packed(Plan(tuple(entries), step_slot), packer.arrays())


def unpack(packed: Packed) -> list[Harvested]:
    """Return the packed reports, with any leading axes that the vectors have gained since."""
    read = lambda slot: slot.read(packed.arrays)  # noqa: E731
    return [
        Harvested(
            entry.spec,
            State(
                jax.tree.unflatten(entry.value, [read(slot) for slot in entry.slots]),
                entry.weight if isinstance(entry.weight, int) else jax.tree.map(read, entry.weight),
            ),
            None if entry.step is None else read(entry.step),
        )
        for entry in packed.plan.entries
    ]


def packed_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Return the dtype in which values of ``dtype`` are packed, exactly; fewer dtypes make fewer arrays."""
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4:
        return jnp.dtype(jnp.float32)
    return jnp.dtype(jnp.int32) if dtype == jnp.bool_ else dtype


class _Packer:
    """Assigns arrays to slots in one vector for each dtype."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Array]] = {}
        self._sizes: dict[str, int] = {}

    def add(self, array: Array) -> Slot:
        array = jnp.asarray(array)
        # Inside a shard_map, values that differ between devices need a vector of their own.
        name = "@".join([str(packed_dtype(array.dtype)), *sorted(_compat.varying(array))])
        offset = self._sizes.get(name, 0)
        self._parts.setdefault(name, []).append(array)
        self._sizes[name] = offset + array.size
        return Slot(name, offset, array.shape)

    def add_step(self, step: Array | WideInt) -> Slot:
        if not isinstance(step, WideInt):
            return self.add(_as_step(step).reshape(()))
        upper, _ = self.add(jnp.asarray(step.high)), self.add(jnp.asarray(step.low))
        return WideSlot(upper.dtype, upper.offset, (2,))

    def arrays(self) -> dict[str, Array]:
        return {
            name: join(parts, packed_dtype(parts[0].dtype)) for name, parts in self._parts.items()
        }


def join(parts: Sequence[Array], dtype: jnp.dtype) -> Array:
    """Join arrays in one vector.

    A concatenation materializes each operand: 35 to 50 us for ten scalars on a CPU, more than a small step
    takes. XLA fuses a chain of selects with the computation of its operands, and it costs about nothing.
    """
    if len(parts) == 1:
        return parts[0].astype(dtype).reshape(-1)
    if len(parts) > _MAX_SELECTED or any(part.size != 1 for part in parts):
        chunks: Sequence[Array] = parts
        if all(part.size == 1 for part in parts):
            starts = range(0, len(parts), _MAX_SELECTED)
            chunks = [join(parts[i : i + _MAX_SELECTED], dtype) for i in starts]
        return jnp.concatenate([chunk.astype(dtype).reshape(-1) for chunk in chunks])
    position = lax.iota(np.int32, len(parts))
    vector = jnp.zeros(len(parts), dtype)
    for number, part in enumerate(parts):
        # Not jnp.where, which takes several times as long to trace.
        repeated = lax.broadcast(part.astype(dtype).reshape(()), (len(parts),))
        vector = lax.select(lax.eq(position, np.int32(number)), repeated, vector)
    return vector
