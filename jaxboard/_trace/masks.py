"""Which lanes of a mapped report count.

``vmap`` keeps a loop running until its last lane is done, and evaluates all branches of a ``cond`` over
all lanes. Results are chosen afterwards; reports have to be told. A mask is a bool array over lanes,
outermost map first, and a report under masks counts the lanes where all of them hold.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax import lax

from jaxboard import _compat
from jaxboard._errors import JaxboardWarning
from jaxboard._frame import ReportSpec


@functools.partial(jax.tree_util.register_dataclass, data_fields=["holds"], meta_fields=["outside"])
@dataclasses.dataclass(frozen=True)
class Mask:
    """Which lanes count.

    Attributes:
        holds: bool, over lanes.
        outside: how many maps there are around those lanes, which the mask does not depend on; None if that
            can't be told.
    """

    holds: Any
    outside: int | None


def masked_weight(masks: tuple[Mask, ...], value: Any, weight: Any, spec: ReportSpec) -> Any:
    """The weight of a report under masks.

    Args:
        masks: which lanes count: those where all hold.
        value: what is reported: lanes first, then the axes of one observation.
        weight: its own weight: None, or an array over the lanes or for all of them.
        spec: the report.

    Returns:
        The weight, None or over the lanes, zero where a mask doesn't hold.
    """
    lanes = value.shape[: value.ndim - spec.rank]
    for mask in masks:
        holds = jnp.broadcast_to(broadcast_mask(mask, lanes, spec.tag), lanes)
        weight = holds if weight is None else jnp.where(holds, weight, jnp.zeros_like(weight))
    return weight


def among_devices(value: Any, weight: Any, rank: int) -> tuple[Any, Any]:
    """The lanes of one device as some of those of all, which the others' callbacks have.

    Args:
        value: what is reported on one device of a ``shard_map``: lanes first, then ``rank`` axes.
        weight: None, or an array over the lanes.
        rank: see above.

    Returns:
        Value and weight, with the lanes of all devices, of which those of this one count.
    """
    mesh = jax.sharding.get_abstract_mesh()
    axes = tuple(axis for axis in mesh.manual_axes if _differs(value, axis))
    if value.ndim == rank or not axes:
        return value, weight
    if weight is None:
        weight = jnp.ones(value.shape[: value.ndim - rank], bool)
    devices = math.prod(mesh.shape[axis] for axis in axes)
    here = jnp.arange(devices) == lax.axis_index(axes)
    weight = jnp.where(
        here.reshape(-1, *[1] * weight.ndim), weight[None], jnp.zeros_like(weight)[None]
    )
    value = jnp.broadcast_to(value, (devices, *value.shape))
    return value.reshape(-1, *value.shape[2:]), weight.reshape(-1, *weight.shape[2:])


def _differs(value: Any, axis: str) -> bool:
    """Whether a value differs between devices along an axis, or may: without ``check_vma`` JAX can't tell."""
    return axis in _compat.varying(value) or not _compat.varying(lax.axis_index(axis))


def broadcast_mask(mask: Mask, lanes: tuple[int, ...], tag: str) -> Any:
    """A mask with axes put in until it broadcasts against lanes.

    The lanes of a report are those of the mask and perhaps of maps outside or inside of them.
    """
    shape = mask.holds.shape
    places = range(len(lanes) - len(shape) + 1)
    fits = [outside for outside in places if lanes[outside : outside + len(shape)] == shape]
    if not fits:
        # One value for all lanes: it counts if any of them is there.
        return mask.holds.any()
    if len(fits) > 1 and mask.outside is None:
        warnings.warn(
            f"report {tag!r}: it is in a loop that vmap runs until the last lane is done, and two maps around it "
            f"have {shape[0]} lanes each. Which of them end can't be told apart; it is taken to be those of the "
            "outer one. If that is wrong, give one of the maps another length, or report after the loop.",
            JaxboardWarning,
            stacklevel=2,
        )
    # Outer maps leave a mask alone only if they map nothing that it depends on.
    outside = mask.outside if mask.outside in fits else fits[0]
    return mask.holds.reshape((1,) * outside + shape + (1,) * (len(lanes) - outside - len(shape)))


class MappedCondTracker:
    """Finds, among the equations of a jaxpr, those that were a branch of a mapped ``cond``.

    Where the predicate differs between lanes, ``vmap`` puts all branches in line. Each operand ``x`` of
    branch ``i`` becomes ``select_n(index == i, stop_gradient(x), x)``, which nobody would write: both
    cases are ``x``. Whatever depends on that is of this branch, until a ``select_n`` by the same
    predicate or index ends it. (An equation that depends on no operand of the branch can't be told
    from its surroundings.)
    """

    def __init__(self) -> None:
        self._made_by: dict[Any, Any] = {}
        self._inside: dict[Any, frozenset[Any]] = {}
        self._index_of: dict[Any, Any] = {}
        self._outside: dict[Any, int] = {}

    def outside(self, predicate: Any) -> int:
        """How many maps there are around those that a predicate is of, at most: some operand has their axes."""
        return self._outside[predicate]

    def of(self, eqn: Any) -> frozenset[Any]:
        """The predicates (variables) of the branches that an equation is of. Asked in order."""
        read = [var for var in eqn.invars if not isinstance(var, jex.Literal)]
        inside = frozenset().union(*(self._inside.get(var, frozenset()) for var in read))
        if eqn.primitive.name == "select_n":
            chooser, axes = self._origin(eqn.invars[0])
            if self._opens(eqn):
                self._outside[chooser] = max(self._outside.get(chooser, 0), *axes[:1], 0)
                self._index_of[chooser] = self._made_by[chooser].invars[0]
                inside |= {chooser}
            else:
                inside -= {p for p in inside if chooser in (p, self._index_of[p])}
        for var in eqn.outvars:
            self._made_by[var] = eqn
            if inside:
                self._inside[var] = inside
        return inside

    def _origin(self, var: Any) -> tuple[Any, tuple[int, ...]]:
        """What a predicate was before it was broadcast to the shape of an operand, and which axes it has there."""
        axes = tuple(range(len(var.aval.shape)))
        while not isinstance(var, jex.Literal):
            eqn = self._made_by.get(var)
            if eqn is None or eqn.primitive.name != "broadcast_in_dim":
                break
            axes = tuple(axes[axis] for axis in eqn.params["broadcast_dimensions"])
            var = eqn.invars[0]
        return var, axes

    def _opens(self, eqn: Any) -> bool:
        if len(eqn.invars) != 3:
            return False
        predicate, other, own = eqn.invars
        if isinstance(other, jex.Literal) or isinstance(own, jex.Literal):
            return False
        stopped = self._made_by.get(other)
        if stopped is not None and stopped.primitive.name == "stop_gradient":
            (other,) = stopped.invars
        test = self._made_by.get(self._origin(predicate)[0])
        return other is own and test is not None and test.primitive.name == "eq"
