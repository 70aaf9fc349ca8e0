"""Windows: accumulators that stay on the device between calls, until their point is due.

The program of an instrumented step takes the accumulators as its first argument and returns them with the
step's reports merged in. They are a few hundred bytes and are not donated, so a call that fails leaves them
unchanged. On a step on which a window is due, its accumulator leaves with the frame and an empty one takes
its place.

Each array that a program takes or returns costs more than a microsecond at each call, so one vector of 32-bit integers
holds the bits of all accumulators, whatever their dtypes; 64-bit numbers have their own. The accumulators of scalars with
the same reduction and cadence are adjacent there, and merged together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._frame import Entry, Plan, ReportSpec, Slot
from jaxboard._host.channel import Channel, Window
from jaxboard._host.run_state import portable
from jaxboard._reduce import State, reducer
from jaxboard._trace.failures import OtherProgram
from jaxboard._trace.pack import Harvested, join, pack, packed_dtype
from jaxboard._trace.rules.body_reports import empty_like, with_array_weight
from jaxboard._types import Array

IsDue: TypeAlias = Callable[[int], bool | Array]
"""cadence -> whether it is due: a bool, or a bool scalar if the program computes it."""

Carried: TypeAlias = tuple[jax.Array, ...]
"""Accumulators as a program takes and returns them: the vectors of a plan, in the order of their names."""

NO_WINDOWS = Plan(())
"""The plan of a program without windows."""

_LEAVING = "window "
"""The prefix of the names of vectors that leave with a frame, which has other vectors too."""

_Key: TypeAlias = tuple[ReportSpec, object, tuple[object, ...]]

_Group: TypeAlias = list[Harvested]
"""Accumulators that are merged together, with ``ShapeDtypeStruct`` leaves. Arrays of a group have a leading axis of them."""


class MissingAccumulators(OtherProgram):
    """Raised while a program is traced that reports windows without an accumulator for each.

    Attributes:
        templates: the windowed reports of the program and those of the accumulators that it was given and can compute
            with, with ``ShapeDtypeStruct`` leaves.
    """

    def __init__(self, reports: list[Harvested]):
        super().__init__()
        shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)  # noqa: E731
        self.templates = [Harvested(r.spec, jax.tree.map(shape, r.state)) for r in reports]


def is_windowed(report: Harvested) -> bool:
    """Return whether a report is accumulated. Reports with their own steps are not: each call is a point."""
    return report.spec.windowed and report.step is None


def accumulate(
    plan: Plan, carried: Carried, reports: Iterable[Harvested], is_due: IsDue
) -> tuple[Plan | None, tuple[Array, ...], Carried]:
    """Merge the reports of a call into the accumulators that it was given.

    Args:
        plan: the plan of the accumulators.
        carried: those that the previous call returned.
        reports: the reports of the call.
        is_due: whether a cadence is due.

    Returns:
        The plan of the call's frame, None if nothing leaves; its vectors; and the accumulators for the next call.
        Tuples that are not nested are the fastest trees for JAX to build.

    Raises:
        MissingAccumulators: a windowed report has no accumulator, or JAX cannot compute with one of the accumulators.
    """
    at_once = [report for report in reports if not is_windowed(report)]
    new = {_key(report): report for report in map(_as_accumulated, filter(is_windowed, reports))}
    arrays = dict(zip(plan.vector_names, carried, strict=True))
    old = list(map(_template, plan.entries))
    possible = list(filter(_is_possible, old))
    known = set(map(_key, possible))
    missing = [report for key, report in new.items() if key not in known]
    if missing or len(possible) < len(old):
        raise MissingAccumulators([*possible, *missing])
    staying: list[State] = []
    due_groups: list[_Group] = []
    leaving: list[State] = []
    entries = iter(plan.entries)
    for group in _groups(old):
        first, *_ = [next(entries) for _ in group]
        merged = _merge(group, _read(first, len(group), arrays), [new.get(_key(x)) for x in group])
        empty = _empty(group)
        due = is_due(group[0].spec.every)
        staying.append(_select(due, empty, merged))
        if due is not False:
            due_groups.append(group)
            leaving.append(_select(due, merged, empty))
    frame = pack(at_once)
    left = Plan((*frame.plan.entries, *_plan(due_groups, _LEAVING).entries))
    vectors = left.vectors({**frame.arrays, **_vectors(leaving, _LEAVING)})
    return left if left.entries else None, vectors, _carried(_vectors(staying))


def empty_accumulators(
    templates: list[Harvested], sharding: jax.sharding.Sharding | None
) -> tuple[Plan, Carried]:
    """Return accumulators that hold no values, and their plan.

    Args:
        templates: the reports to accumulate; see :class:`MissingAccumulators`.
        sharding: where to put the accumulators, committed; None leaves them uncommitted.
    """
    groups = _groups(templates)
    empty = jax.jit(lambda: _carried(_vectors(list(map(_empty, groups)))))()
    return _plan(groups), empty if sharding is None else jax.device_put(empty, sharding)


def continued(plan: Plan, empty: Carried, function: str, channel: Channel) -> Window | None:
    """Return accumulators with what they held when the state of the run was saved; None if it held nothing for them.

    Args:
        plan: the plan of the accumulators.
        empty: accumulators that hold no values.
        function: the name of the function.
        channel: the channel of its calls.
    """
    saved = {
        each.point.spec: each for each in channel.restored.windows_of(function, channel.target.run)
    }
    names = sorted(plan.vector_names)
    with jax.transfer_guard_device_to_host("allow"):
        vectors = {name: np.array(vector) for name, vector in zip(names, empty, strict=True)}
    last_step = None
    for entry in plan.entries:
        window = saved.get(portable(entry.spec, channel.root.target))
        if (
            window is None
            or not _fits(window.point.state, entry)
            or not channel.restored.claim(window)
        ):
            continue
        last_step = window.point.newest_step
        for slot, leaf in zip(
            jax.tree.leaves(_slots(entry)), jax.tree.leaves(window.point.state), strict=True
        ):
            vector = vectors[slot.dtype]
            bits = np.asarray(leaf).reshape(-1).view(vector.dtype)
            vector[slot.offset : slot.offset + bits.size] = bits
    if last_step is None:
        return None
    carried = tuple(
        jax.device_put(vectors[name], like.sharding if like.committed else None)
        for name, like in zip(names, empty, strict=True)
    )
    return plan, carried, last_step


def accumulator_sharding(shardings: Iterable[object]) -> jax.sharding.Sharding | None:
    """Return the sharding that a program's new accumulators will have, so that it compiles only once.

    Args:
        shardings: those that the program's operands are committed to.
    """
    for requested in shardings:
        sharding = getattr(requested, "sharding", requested)  # that of a Format
        if isinstance(sharding, jax.sharding.NamedSharding):
            return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
        if isinstance(sharding, jax.sharding.SingleDeviceSharding):
            return sharding
    return None


def _as_accumulated(report: Harvested) -> Harvested:
    """Return the report with the dtypes that accumulators have, and its weight as an array."""
    state = jax.tree.map(lambda x: x.astype(packed_dtype(x.dtype)), with_array_weight(report).state)
    return Harvested(report.spec, state)


def _key(report: Harvested) -> _Key:
    """Return what identifies an accumulator: its report, and the shapes and dtypes of its state."""
    leaves, tree = jax.tree.flatten(report.state)
    return report.spec, tree, tuple((x.shape, jnp.dtype(x.dtype)) for x in leaves)


# --- The layout -----------------------------------------------------------------------------------


def _groups(reports: Iterable[Harvested]) -> list[_Group]:
    """Return the groups of some accumulators. Those of the accumulators in the order of groups are the same."""
    groups: dict[object, _Group] = {}
    for report in reports:
        spec, tree, types = key = _key(report)
        is_scalar = all(leaf.shape == () for leaf in jax.tree.leaves(report.state))
        alike = reducer(spec), spec.every, tree, types
        groups.setdefault(alike if is_scalar else key, []).append(report)
    return list(groups.values())


def _plan(groups: list[_Group], prefix: str = "") -> Plan:
    """Return the plan of the vectors that :func:`_vectors` makes."""
    ends: dict[str, int] = {}
    entries: list[Entry] = []
    for group in groups:
        leaves, tree = jax.tree.flatten(group[0].state)
        columns: list[list[Slot]] = []
        for leaf in leaves:
            dtype, vector = str(leaf.dtype), _vector(leaf.dtype)
            offset = ends.get(vector, 0)
            ends[vector] = offset + len(group) * leaf.size
            view = None if dtype == vector else dtype
            columns.append(
                [
                    Slot(prefix + vector, offset + index * leaf.size, leaf.shape, view)
                    for index in range(len(group))
                ]
            )
        for report, slots in zip(group, zip(*columns, strict=True), strict=True):
            value, weight = jax.tree.unflatten(tree, slots)
            value_slots, value_tree = jax.tree.flatten(value)
            entries.append(Entry(report.spec, value_tree, tuple(value_slots), weight))
    return Plan(tuple(entries))


def _vectors(states: list[State], prefix: str = "") -> dict[str, jax.Array]:
    """Return the vectors of the states of groups, by name."""
    parts: dict[str, list[Array]] = {}
    for leaf in jax.tree.leaves(states):
        vector = _vector(leaf.dtype)
        flat = leaf.reshape(-1)
        parts.setdefault(vector, []).append(
            flat if str(flat.dtype) == vector else flat.view(vector)
        )
    return {prefix + vector: jnp.concatenate(each) for vector, each in parts.items()}


def _carried(vectors: dict[str, jax.Array]) -> Carried:
    return tuple(vectors[name] for name in sorted(vectors))


def _vector(dtype: np.dtype) -> str:
    """Return the name of the vector for arrays of a dtype."""
    return "int32" if dtype.itemsize == 4 else str(dtype)


def _slots(entry: Entry) -> State:
    return State(jax.tree.unflatten(entry.value, entry.slots), entry.weight)


def _template(entry: Entry) -> Harvested:
    """Return the report of an accumulator, with ``ShapeDtypeStruct`` leaves."""

    def leaf(slot: Slot) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(slot.shape, slot.view or slot.dtype)

    return Harvested(entry.spec, jax.tree.map(leaf, _slots(entry)))


def _is_possible(template: Harvested) -> bool:
    """Return whether JAX can compute with an accumulator: with 64-bit numbers only under ``jax_enable_x64``."""
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(template.state)]
    return all(jax.dtypes.canonicalize_dtype(dtype) == dtype for dtype in dtypes)


def _fits(state: State, entry: Entry) -> bool:
    """Return whether an accumulator that was saved has the arrays that a program needs."""
    expected = _template(entry).state
    same = jax.tree.structure(state) == jax.tree.structure(expected)
    pairs = zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=same)
    return same and all((a.shape, str(a.dtype)) == (b.shape, str(b.dtype)) for a, b in pairs)


def _read(first: Entry, count: int, arrays: Mapping[str, Array]) -> State:
    """Return the state of a group: of ``count`` accumulators, of which the first is given."""

    def leaf(slot: Slot) -> Array:
        column = Slot(slot.dtype, slot.offset, (count, *slot.shape), slot.view)
        return column.read(arrays)

    return jax.tree.map(leaf, _slots(first))


# --- The states of groups -------------------------------------------------------------------------


def _empty(group: _Group) -> State:
    def repeated(leaf: Array) -> Array:
        return jnp.broadcast_to(leaf, (len(group), *leaf.shape))

    return jax.tree.map(repeated, empty_like(group[0]).state)


def _merge(group: _Group, old: State, new: Sequence[Harvested | None]) -> State:
    """Merge the reports of a call, None for those that it did not make, into the state of a group."""
    spec = group[0].spec

    def merge(a: State, b: State) -> State:
        return _as_accumulated(Harvested(spec, reducer(spec).merge(a, b))).state

    made = [report is not None for report in new]
    if not any(made):
        return old
    empty = empty_like(group[0])
    states = [(report or empty).state for report in new]
    if len(group) == 1:
        return jax.tree.map(lambda leaf: leaf[None], merge(_at(old, 0), states[0]))
    merged = jax.vmap(merge)(old, jax.tree.map(lambda *x: join(x, x[0].dtype), *states))
    if all(made):
        return merged
    return jax.tree.map(lambda x, y: jnp.where(np.array(made), x, y), merged, old)


def _at(state: State, index: int) -> State:
    return jax.tree.map(lambda leaf: leaf[index], state)


def _select(predicate: bool | Array, if_true: State, if_false: State) -> State:
    if isinstance(predicate, bool):
        return if_true if predicate else if_false
    return jax.tree.map(lambda x, y: jnp.where(predicate, x, y), if_true, if_false)
