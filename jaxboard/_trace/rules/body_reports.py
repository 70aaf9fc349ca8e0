"""Reports as results of a traced body: of a loop, a branch, a remat or a ``shard_map``.

Only arrays leave a body, so the reports are packed; and bodies that are alternatives or iterations of each
other must return the same types, so reports are padded and their varying mesh axes unified.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.core
import jax.numpy as jnp
from jax import Array

from jaxboard import _compat
from jaxboard._frame import Packed, Plan
from jaxboard._reduce import State, WideInt, reducer
from jaxboard._trace.pack import Harvested, merge_same, pack, unpack
from jaxboard._trace.rules.base import Evaluated

# --- Out of a body and back -----------------------------------------------------------------------


class PackedBody:
    """Carries the reports of a body out of it.

    The body calls :meth:`pack` and returns the arrays; the code around it calls :meth:`unpack`. The plan stays
    on this object, since it is not an array.
    """

    def __init__(self) -> None:
        self.plan = Plan(())

    def pack(self, reports: list[Harvested]) -> dict[str, Array]:
        """Return the reports of a body as arrays, with repeated reports merged."""
        packed = pack(merge_same(reports))
        self.plan = packed.plan
        return packed.arrays

    def unpack(self, arrays: dict[str, Array]) -> list[Harvested]:
        """Return the reports from arrays, which may have additional leading axes."""
        return unpack(Packed(self.plan, arrays))


def abstract_reports(body: Callable[..., Evaluated], *operands: Array) -> list[Harvested]:
    """Return the reports that a body would make, with zeros for their values."""
    plan = Plan(())

    def traced(*operands: Array) -> dict[str, Array]:
        nonlocal plan
        packed = pack(body(*operands).reports)
        plan = packed.plan
        return packed.arrays

    closed, shape = jax.make_jaxpr(traced, return_shape=True)(*operands)
    avals = [_compat.aval_of(var) for var in _compat.open_jaxpr(closed)[0].outvars]
    arrays = jax.tree.unflatten(jax.tree.structure(shape), list(map(zeros_of, avals)))
    return unpack(Packed(plan, arrays))


def zeros_of(aval: jax.core.ShapedArray) -> Array:
    """Return zeros of a type, varying along its mesh axes."""
    return _compat.vary(jnp.zeros(aval.shape, aval.dtype), _compat.varying(aval))


# --- The same types -------------------------------------------------------------------------------


def varying_axes(report: Harvested) -> frozenset[str]:
    """Return the mesh axes along which any part of a report differs between devices."""
    arrays = [x for x in jax.tree.leaves((report.state, report.step)) if not isinstance(x, int)]
    return frozenset().union(*map(_compat.varying, arrays))


def vary_together(report: Harvested, axes: frozenset[str] = frozenset()) -> Harvested:
    """Make every part of a report vary along the same mesh axes, ``axes`` included."""
    axes |= varying_axes(report)
    state, step = jax.tree.map(
        lambda x: x if isinstance(x, int) else _compat.vary(x, axes), (report.state, report.step)
    )
    return Harvested(report.spec, state, step)


def with_array_weight(report: Harvested, axes: frozenset[str] = frozenset()) -> Harvested:
    """Return a report as reports are after merging: with an array as weight, all varying along the same mesh axes."""
    value, weight = reducer(report.spec).widen(report.state)
    if isinstance(weight, int):
        words = WideInt.of(weight)
        weight = jax.tree.map(lambda x: jnp.full(_points(report), x, jnp.int32), words)
    state = State(value, weight)
    return vary_together(Harvested(report.spec, state, report.step), axes)


def empty_like(report: Harvested, axes: frozenset[str] = frozenset()) -> Harvested:
    """Return a report of no observation with the shapes and dtypes of another one."""
    like = with_array_weight(report, axes)
    empty = lambda value: reducer(report.spec).empty(State(value)).value  # noqa: E731
    if report.step is not None:
        empty = jax.vmap(empty)  # the leading axis of every array is that of points
    value = empty(like.state.value)
    weight = jax.tree.map(lambda x: jnp.zeros(_points(report), x.dtype), like.state.weight)
    state = State(value, weight)
    return vary_together(Harvested(report.spec, state, like.step), varying_axes(like))


def reports_if(due: Array, make_reports: Callable[[], list[Harvested]]) -> list[Harvested]:
    """Make reports where ``due``, a bool scalar, holds, and empty ones elsewhere."""

    def body() -> Evaluated:
        return Evaluated([], list(map(with_array_weight, make_reports())))

    empty = pack(list(map(empty_like, abstract_reports(body))))
    arrays = jax.lax.cond(due, lambda: pack(body().reports).arrays, lambda: empty.arrays)
    return unpack(Packed(empty.plan, arrays))


def _points(report: Harvested) -> tuple[int, ...]:
    return () if report.step is None else report.step.shape[:1]
