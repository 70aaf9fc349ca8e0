"""Masks: which lanes of a report under ``vmap`` count.

``vmap`` runs a loop until its last lane is done, and evaluates all branches of a ``cond`` for all lanes.
JAX selects the results afterwards; a report needs an explicit mask. A mask is a bool array over lanes,
outermost map first. A report under several masks counts the lanes where all of them hold.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import JaxprEqn, Literal, Var

from jaxboard import _compat
from jaxboard._frame import ReportSpec
from jaxboard._log import warn

# --- Masks and weights ----------------------------------------------------------------------------


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["lanes"], meta_fields=["outer_maps"]
)
@dataclasses.dataclass(frozen=True)
class Mask:
    """The lanes that count.

    Attributes:
        lanes: bool, one element for each lane.
        outer_maps: the number of maps around those of the lanes, on which the mask does not depend; None if
            the program does not show it.
    """

    lanes: Array
    outer_maps: int | None


def masked_weight(
    masks: tuple[Mask, ...], value: Array, weight: Array | None, spec: ReportSpec
) -> Array | None:
    """Return the weight of a report under masks: zero in the lanes where a mask does not hold.

    Args:
        masks: the masks; without any, the weight is returned as it is.
        value: the reported array: lanes first, then the axes of one observation.
        weight: the weight without masks: None, or an array over the lanes or for all of them.
        spec: the report.
    """
    lanes = value.shape[: value.ndim - spec.rank]
    for mask in masks:
        holds = jnp.broadcast_to(_align(mask, lanes, spec.tag), lanes)
        weight = holds if weight is None else jnp.where(holds, weight, jnp.zeros_like(weight))
    return weight


def _align(mask: Mask, lanes: tuple[int, ...], tag: str) -> Array:
    """Insert axes into a mask until it broadcasts against the lanes of a report.

    Those are the lanes of the mask, and perhaps lanes of maps outside or inside of them.
    """
    shape = mask.lanes.shape
    positions = range(len(lanes) - len(shape) + 1)
    fitting = [n for n in positions if lanes[n : n + len(shape)] == shape]
    if not fitting:
        # The report has one value for all lanes: it counts if any lane does.
        return mask.lanes.any()
    if len(fitting) > 1 and mask.outer_maps is None:
        warn(
            f"report {tag!r} is in a loop under two maps with {shape[0]} lanes each. vmap runs the loop until the "
            "last lane is done; jaxboard cannot determine which lanes have finished and assumes the outer map's. If "
            "that is wrong, change the length of one map, or report after the loop."
        )
    # Maps outside leave a mask as it is only if they map nothing that it depends on.
    outer = mask.outer_maps if mask.outer_maps in fitting else fitting[0]
    return mask.lanes.reshape((1,) * outer + shape + (1,) * (len(lanes) - outer - len(shape)))


# --- Lanes of several devices ---------------------------------------------------------------------


def differing_devices(value: Array) -> tuple[str, ...]:
    """Return the mesh axes of a ``shard_map`` along which a value may differ between devices."""
    manual = jax.sharding.get_abstract_mesh().manual_axes
    return tuple(axis for axis in manual if _may_vary(value, axis))


def spread_over_devices(
    value: Array, weight: Array | None, rank: int, axes: tuple[str, ...]
) -> tuple[Array, Array]:
    """Return the lanes of one device as some of the lanes of all devices.

    Each device of a ``shard_map`` has a callback of its own, and its lanes differ from those of the others.

    Args:
        value: the array reported on one device: lanes first, then ``rank`` axes.
        weight: None, or an array over the lanes.
        rank: see above.
        axes: the mesh axes of the devices.

    Returns:
        Value and weight with a leading axis of devices; the other devices have weight zero.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if weight is None:
        weight = jnp.ones(value.shape[: value.ndim - rank], bool)
    devices = math.prod(mesh.shape[axis] for axis in axes)
    is_here = jnp.arange(devices) == lax.axis_index(axes)
    weight = jnp.where(
        is_here.reshape(-1, *[1] * weight.ndim), weight[None], jnp.zeros_like(weight)[None]
    )
    return jnp.broadcast_to(value, (devices, *value.shape)), weight


def _may_vary(value: Array, axis: str) -> bool:
    """Return whether a value may differ between devices along a mesh axis.

    Without ``check_vma`` JAX does not know: not even the index of a device varies then.
    """
    return axis in _compat.varying(value) or not _compat.varying(lax.axis_index(axis))


# --- Branches of a mapped cond --------------------------------------------------------------------


class MappedCondTracker:
    """Finds the equations of a jaxpr that were in a branch of a mapped ``cond``.

    Where the predicate differs between lanes, ``vmap`` replaces the ``cond`` by the equations of all its
    branches. Each operand ``x`` of branch ``i`` becomes ``select_n(index == i, stop_gradient(x), x)``, which no
    program contains otherwise: both cases are ``x``. Every equation that depends on such a value belongs to the
    branch, until a ``select_n`` with the same predicate or index ends it. An equation that depends on no operand
    of the branch looks like those outside.
    """

    def __init__(self) -> None:
        self._producer: dict[Var, JaxprEqn] = {}
        self._predicates: dict[Var, frozenset[Var]] = {}
        self._index: dict[Var, Var | Literal] = {}
        self._outer_maps: dict[Var, int] = {}

    def outer_maps(self, predicate: Var) -> int:
        """Return how many maps are around those of a predicate's lanes, as far as the operands show."""
        return self._outer_maps[predicate]

    def predicates_of(self, eqn: JaxprEqn) -> list[Var]:
        """Return the predicates of the branches that contain an equation.

        Call it for every equation of a jaxpr, in order.
        """
        # In the order of their appearance: with the order of a set, a program would differ from process to
        # process, and miss the persistent compilation cache.
        return sorted(self._enclosing(eqn), key=list(self._index).index)

    def _enclosing(self, eqn: JaxprEqn) -> frozenset[Var]:
        inputs = [var for var in eqn.invars if not isinstance(var, Literal)]
        predicates = frozenset().union(*(self._predicates.get(v, frozenset()) for v in inputs))
        if eqn.primitive.name == "select_n":
            selector, axes = self._before_broadcast(eqn.invars[0])
            if isinstance(selector, Literal):
                pass  # a constant, so not the predicate of a branch
            elif self._enters_branch(eqn, selector):
                self._outer_maps[selector] = max(self._outer_maps.get(selector, 0), *axes[:1], 0)
                self._index[selector] = self._producer[selector].invars[0]
                predicates |= {selector}
            else:
                predicates -= {p for p in predicates if selector in (p, self._index[p])}
        for var in eqn.outvars:
            self._producer[var] = eqn
            if predicates:
                self._predicates[var] = predicates
        return predicates

    def _enters_branch(self, eqn: JaxprEqn, selector: Var) -> bool:
        """Return whether a ``select_n`` by ``selector`` marks an operand of a branch."""
        if len(eqn.invars) != 3:
            return False
        _, stopped, operand = eqn.invars
        if isinstance(stopped, Literal) or isinstance(operand, Literal):
            return False
        producer = self._producer.get(stopped)
        if producer is not None and producer.primitive.name == "stop_gradient":
            (stopped,) = producer.invars
        test = self._producer.get(selector)
        return stopped is operand and test is not None and test.primitive.name == "eq"

    def _before_broadcast(self, var: Var | Literal) -> tuple[Var | Literal, tuple[int, ...]]:
        """Return what was broadcast to give ``var``, and the axes of ``var`` that it has."""
        axes = tuple(range(len(_compat.aval_of(var).shape)))
        while not isinstance(var, Literal):
            eqn = self._producer.get(var)
            if eqn is None or eqn.primitive.name != "broadcast_in_dim":
                break
            axes = tuple(axes[axis] for axis in eqn.params["broadcast_dimensions"])
            var = eqn.invars[0]
        return var, axes
