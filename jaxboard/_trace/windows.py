"""Windows: accumulators that stay on the device from call to call, until their point is due.

The program of an instrumented step takes them as its first argument and returns them with what it reports
merged in. They are a few hundred bytes and not donated: so a call that fails leaves them as they were. On a
step at which a window is due, its accumulator leaves with the frame, and one that holds nothing takes its
place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp

from jaxboard._frame import Packed
from jaxboard._reduce import reducer
from jaxboard._trace.pack import Harvested, pack, packed_dtype, unpack
from jaxboard._trace.rules.body_reports import empty_like, with_array_weight


class Missing(Exception):  # noqa: N818 (no error: it says what the caller has to bring)
    """Raised while tracing: the program reports windows that it was given no accumulators for.

    Attributes:
        like: for each such report one of its shapes and dtypes.
    """

    def __init__(self, like: list[Harvested]):
        super().__init__()
        shape = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)  # noqa: E731
        self.like = [Harvested(each.spec, jax.tree.map(shape, each.state)) for each in like]


def windowed(report: Harvested) -> bool:
    """Whether a report is accumulated. One with steps of its own is not: it makes points in each call."""
    return report.spec.windowed and report.step is None


def advance(
    accumulators: Packed | None, reports: Iterable[Harvested], due: Callable[[int], Any]
) -> tuple[list[Harvested], Packed | None]:
    """Merges what a call reports into the accumulators it was given.

    Args:
        accumulators: those of the calls before; None for none.
        reports: what the call reports.
        due: says of a cadence whether it is due: a bool, or a bool scalar that the program computes.

    Returns:
        What leaves with the frame, and the accumulators for the next call.

    Raises:
        Missing: there is no accumulator for one of the reports.
    """
    leaving = [report for report in reports if not windowed(report)]
    new = {_key(report): report for report in map(_weighed, filter(windowed, reports))}
    old = {} if accumulators is None else {_key(each): each for each in unpack(accumulators)}
    missing = [report for key, report in new.items() if key not in old]
    if missing:
        raise Missing([*old.values(), *missing])
    staying = []
    for key, report in old.items():
        merged = _merge(report, new.get(key))
        now = due(report.spec.every)
        if now is not False:
            leaving.append(_choose(now, merged, empty_like(report)))
        staying.append(_choose(now, empty_like(report), merged))
    return leaving, pack(staying) if staying else accumulators


def nothing(like: list[Harvested], place: jax.sharding.Sharding | None) -> Packed:
    """Accumulators that hold nothing.

    Args:
        like: what they are to be like.
        place: where to put them, committed; None, wherever the program runs that takes them.
    """
    packed = jax.jit(lambda: pack(list(map(empty_like, like))))()
    return packed if place is None else jax.device_put(packed, place)


def common_place(shardings: Iterable[Any]) -> jax.sharding.Sharding | None:
    """Where accumulators have to lie for a program's results to be like them: else it compiles twice.

    Args:
        shardings: those that the program's operands are committed to.
    """
    for sharding in shardings:
        if isinstance(sharding, jax.sharding.NamedSharding):
            return jax.sharding.NamedSharding(sharding.mesh, jax.sharding.PartitionSpec())
        if isinstance(sharding, jax.sharding.SingleDeviceSharding):
            return sharding
    return None


def _weighed(report: Harvested) -> Harvested:
    """The report in the dtypes it is carried in, its weight as an array: how it is from the next call on."""
    state = jax.tree.map(lambda x: x.astype(packed_dtype(x.dtype)), with_array_weight(report).state)
    return Harvested(report.spec, state)


def _key(report: Harvested) -> Any:
    """What tells accumulators apart: the report, and the shapes and dtypes of what they hold."""
    leaves, tree = jax.tree.flatten(report.state)
    return report.spec, tree, tuple((x.shape, jnp.dtype(x.dtype)) for x in leaves)


def _merge(old: Harvested, new: Harvested | None) -> Harvested:
    if new is None:
        return old
    return _weighed(Harvested(old.spec, reducer(old.spec).merge(old.state, new.state)))


def _choose(first: Any, one: Harvested, other: Harvested) -> Harvested:
    if isinstance(first, bool):
        return one if first else other
    state = jax.tree.map(lambda x, y: jnp.where(first, x, y), one.state, other.state)
    return Harvested(one.spec, state)
