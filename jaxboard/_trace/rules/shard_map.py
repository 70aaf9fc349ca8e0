"""The rule of ``shard_map``, which ``pmap`` is made of too."""

from __future__ import annotations

import functools
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxboard import _compat
from jaxboard._frame import Packed
from jaxboard._trace.harvest import RuleContext, harvest
from jaxboard._trace.pack import Harvested, merge_same, pack, unpack
from jaxboard._trace.rules.bodies import vary_together


def shard_map(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    """Reports leave with an axis of devices in front, and merge along it.

    A value that JAX knows to be the same on all devices counts once. Without ``check_vma`` JAX doesn't
    know, and each device's counts.
    """
    params = eqn.params
    jaxpr, consts = _compat.open_jaxpr(params["jaxpr"])
    manual, mesh = _compat.manual_axes(eqn), params["mesh"]
    mapped = functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=tuple(params["in_specs"]),
        axis_names=set(manual),
        check_vma=params["check_vma"],
    )

    def body(*operands: Any) -> tuple[list[Any], Packed]:
        mine: list[Harvested] = []
        results = harvest(jaxpr, consts, operands, mine, setting)
        return results, pack(list(map(vary_together, merge_same(mine))))

    specs: dict[str, PartitionSpec] = {}
    cell: dict[str, Any] = {}

    def results_only(*operands: Any) -> list[Any]:
        results, packed = body(*operands)
        for name, array in packed.arrays.items():
            differs = _compat.varying(array) if params["check_vma"] else manual
            axes = tuple(axis for axis in manual if axis in differs)
            specs[name] = PartitionSpec(axes or None)
        return results

    def everything(*operands: Any) -> Any:
        results, packed = body(*operands)
        cell["plan"] = packed.plan
        return results, {name: array[None] for name, array in packed.arrays.items()}

    # How the reports are sharded has to be known before the function is traced that returns them.
    wanted = list(params["out_specs"])
    jax.make_jaxpr(mapped(results_only, out_specs=wanted))(*operands)
    results, arrays = mapped(everything, out_specs=(wanted, specs))(*operands)
    if AxisType.Explicit in [
        t for a, t in zip(mesh.axis_names, mesh.axis_types, strict=True) if a in manual
    ]:
        # Types carry the sharding, and slices of a sharded axis have none.
        everywhere = NamedSharding(mesh, PartitionSpec())
        arrays = {name: jax.sharding.reshard(array, everywhere) for name, array in arrays.items()}
    reports.extend(report.across() for report in unpack(Packed(cell["plan"], arrays)))
    return results
