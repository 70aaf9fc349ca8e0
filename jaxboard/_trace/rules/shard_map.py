"""The rule of ``shard_map``, which ``pmap`` uses too."""

from __future__ import annotations

import functools

import jax
from jax import Array
from jax.extend.core import JaxprEqn
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxboard import _compat
from jaxboard._frame import Packed, Plan
from jaxboard._trace.pack import merge_same, pack, unpack
from jaxboard._trace.rules.base import Evaluated, RuleContext
from jaxboard._trace.rules.body_reports import vary_together


def shard_map(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Return the reports with a leading axis of devices, and merge along it.

    A value that JAX knows to be the same on all devices counts once. Without ``check_vma`` JAX does not know,
    and the value of each device counts.
    """
    params = eqn.params
    manual, mesh, checked = _compat.manual_axes(eqn), params["mesh"], params["check_vma"]
    # The sampled reports of the body are computed in every call, and the host drops those that are not due.
    context = context._replace(step=None)
    shard = functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=tuple(params["in_specs"]),
        axis_names=set(manual),
        check_vma=checked,
    )

    def body(*operands: Array) -> tuple[list[Array], Packed]:
        results, reports = context.harvest(params["jaxpr"], operands)
        return results, pack(list(map(vary_together, merge_same(reports))))

    array_specs: dict[str, PartitionSpec] = {}
    plan = Plan(())

    def results_only(*operands: Array) -> list[Array]:
        results, packed = body(*operands)
        for name, array in packed.arrays.items():
            varying = _compat.varying(array) if checked else manual
            axes = tuple(axis for axis in manual if axis in varying)
            array_specs[name] = PartitionSpec(axes or None)
        return results

    def with_reports(*operands: Array) -> tuple[list[Array], dict[str, Array]]:
        nonlocal plan
        results, packed = body(*operands)
        plan = packed.plan
        return results, {name: array[None] for name, array in packed.arrays.items()}

    # The specs of the reports must be known before the function that returns them is traced.
    out_specs = list(params["out_specs"])
    jax.make_jaxpr(shard(results_only, out_specs=out_specs))(*operands)
    results, arrays = shard(with_reports, out_specs=(out_specs, array_specs))(*operands)
    arrays = _replicated_if_explicit(arrays, mesh, manual)
    reports = [
        # Every part of a report is in vectors that vary along the same axes.
        report.merge_devices() if array_specs[entry.slots[0].dtype][0] else report.on_any_device()
        for report, entry in zip(unpack(Packed(plan, arrays)), plan.entries, strict=True)
    ]
    return Evaluated(results, reports)


def _replicated_if_explicit(
    arrays: dict[str, Array], mesh: Mesh | AbstractMesh, axes: tuple[str, ...]
) -> dict[str, Array]:
    """Return arrays, replicated if one of the mesh axes is explicit."""
    axis_types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if not any(axis_types[axis] == AxisType.Explicit for axis in axes):
        return arrays
    # Shardings are part of the types there, and a slice of a sharded axis has none.
    replicated = NamedSharding(mesh, PartitionSpec())
    return {name: jax.sharding.reshard(array, replicated) for name, array in arrays.items()}
