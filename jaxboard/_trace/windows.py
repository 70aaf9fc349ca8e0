"""Windows: accumulators that stay on the device between calls, until their point is due.

The program of an instrumented step takes the accumulators as its first argument and returns them with the
step's reports merged in. They are a few hundred bytes and are not donated, so a call that fails leaves them
unchanged. On a step on which a window is due, its accumulator leaves with the frame and an empty one takes
its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

import jax
import jax.numpy as jnp

from jaxboard._frame import Packed, ReportSpec
from jaxboard._reduce import reducer
from jaxboard._trace.failures import OtherProgram
from jaxboard._trace.pack import Harvested, pack, packed_dtype, unpack
from jaxboard._trace.rules.body_reports import empty_like, with_array_weight
from jaxboard._types import Array

IsDue: TypeAlias = Callable[[int], bool | Array]
"""cadence -> whether it is due: a bool, or a bool scalar if the program computes it."""

_Key: TypeAlias = tuple[ReportSpec, object, tuple[object, ...]]


class MissingAccumulators(OtherProgram):
    """Raised while a program is traced that reports windows without an accumulator for each.

    Attributes:
        templates: the windowed reports of the program and those of the accumulators that it was given, with
            ``ShapeDtypeStruct`` leaves.
    """

    def __init__(self, reports: list[Harvested]):
        super().__init__()
        shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)  # noqa: E731
        self.templates = [Harvested(r.spec, jax.tree.map(shape, r.state)) for r in reports]


def is_windowed(report: Harvested) -> bool:
    """Return whether a report is accumulated. Reports with their own steps are not: each call is a point."""
    return report.spec.windowed and report.step is None


def accumulate(
    accumulators: Packed | None, reports: Iterable[Harvested], is_due: IsDue
) -> tuple[list[Harvested], Packed | None]:
    """Merge the reports of a call into the accumulators that it was given.

    Args:
        accumulators: the result of the previous call; None for none.
        reports: the reports of the call.
        is_due: whether a cadence is due.

    Returns:
        The reports that leave with the frame, and the accumulators for the next call.

    Raises:
        MissingAccumulators: a windowed report has no accumulator.
    """
    leaving = [report for report in reports if not is_windowed(report)]
    new = {_key(report): report for report in map(_as_accumulated, filter(is_windowed, reports))}
    old = {} if accumulators is None else {_key(each): each for each in unpack(accumulators)}
    missing = [report for key, report in new.items() if key not in old]
    if missing:
        raise MissingAccumulators([*old.values(), *missing])
    staying = []
    for key, report in old.items():
        merged = _merge(report, new.get(key))
        due = is_due(report.spec.every)
        if due is not False:
            leaving.append(_select(due, merged, empty_like(report)))
        staying.append(_select(due, empty_like(report), merged))
    return leaving, pack(staying) if staying else accumulators


def empty_accumulators(
    templates: list[Harvested], sharding: jax.sharding.Sharding | None
) -> Packed:
    """Return accumulators that hold no values.

    Args:
        templates: the reports to accumulate; see :class:`MissingAccumulators`.
        sharding: where to put the accumulators, committed; None leaves them uncommitted.
    """
    packed = jax.jit(lambda: pack(list(map(empty_like, templates))))()
    return packed if sharding is None else jax.device_put(packed, sharding)


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


def _merge(old: Harvested, new: Harvested | None) -> Harvested:
    if new is None:
        return old
    return _as_accumulated(Harvested(old.spec, reducer(old.spec).merge(old.state, new.state)))


def _select(predicate: bool | Array, if_true: Harvested, if_false: Harvested) -> Harvested:
    if isinstance(predicate, bool):
        return if_true if predicate else if_false
    state = jax.tree.map(lambda x, y: jnp.where(predicate, x, y), if_true.state, if_false.state)
    return Harvested(if_true.spec, state)
