"""What the rules of loops, branches and meshes share: reports that leave a traced body as arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxboard import _compat
from jaxboard._frame import Packed, Plan
from jaxboard._reduce import State, reducer
from jaxboard._trace.pack import Harvested, merge_same, pack, unpack


def packed_reports(reports: list[Harvested], cell: dict[str, Any]) -> dict[str, Any]:
    """Packs what a body reported; the plan is left in ``cell``, since only arrays may leave a body."""
    packed = pack(merge_same(reports))
    cell["plan"] = packed.plan
    return packed.arrays


def abstract_reports(body: Callable[..., Any], *operands: Any) -> list[Harvested]:
    """What a body would report, with zeros for values.

    Args:
        body: called with the list to append to, and then the operands.
        operands: of the body.
    """
    cell: dict[str, Plan] = {}

    def traced(*operands: Any) -> Any:
        mine: list[Harvested] = []
        body(mine, *operands)
        packed = pack(mine)
        cell["plan"] = packed.plan
        return packed.arrays

    closed, shape = jax.make_jaxpr(traced, return_shape=True)(*operands)
    avals = [var.aval for var in _compat.open_jaxpr(closed)[0].outvars]
    zeros = [_compat.vary(jnp.zeros(a.shape, a.dtype), _compat.varying(a)) for a in avals]
    return unpack(Packed(cell["plan"], jax.tree.unflatten(jax.tree.structure(shape), zeros)))


def varying_axes(report: Harvested) -> frozenset[str]:
    """The mesh axes along which a part of a report differs between devices."""
    return frozenset().union(*map(_compat.varying, _arrays(report)))


def _arrays(report: Harvested) -> list[Any]:
    return [x for x in jax.tree.leaves((report.state, report.step)) if not isinstance(x, int)]


def vary_together(report: Harvested, axes: frozenset[str] = frozenset()) -> Harvested:
    """The report with every part differing along the same mesh axes, and along ``axes``."""
    axes |= varying_axes(report)
    state, step = jax.tree.map(
        lambda x: x if isinstance(x, int) else _compat.vary(x, axes), (report.state, report.step)
    )
    return Harvested(report.spec, state, step)


def with_array_weight(report: Harvested, axes: frozenset[str] = frozenset()) -> Harvested:
    """The report with its weight as an array, and alike."""
    weight = report.state.weight
    if isinstance(weight, int):
        weight = jnp.full(_points(report), weight, jnp.int32)
    return vary_together(
        Harvested(report.spec, State(report.state.value, weight), report.step), axes
    )


def empty_like(report: Harvested, axes: frozenset[str] = frozenset()) -> Harvested:
    """A report of no observation, in the shapes of another one."""
    like = with_array_weight(report, axes)
    value, _ = reducer(report.spec).empty(like.state)
    state = State(value, jnp.zeros(_points(report), like.state.weight.dtype))
    return vary_together(Harvested(report.spec, state, like.step), varying_axes(like))


def only_if(due: Any, make: Callable[[], Harvested]) -> Harvested:
    """A report that is made where ``due``, a bool scalar, holds; else one of nothing."""
    (like,) = abstract_reports(lambda mine: mine.append(with_array_weight(make())))
    nothing = pack([empty_like(like)])
    arrays = jax.lax.cond(
        due, lambda: pack([with_array_weight(make())]).arrays, lambda: nothing.arrays
    )
    (report,) = unpack(Packed(nothing.plan, arrays))
    return report


def _points(report: Harvested) -> tuple[int, ...]:
    return () if report.step is None else report.step.shape[:1]
