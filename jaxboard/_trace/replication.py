"""The replication of hidden outputs in a job of several processes.

The process that writes can read only the shards on its own devices. The program itself therefore gives every device
all of a hidden output. In a job of one process the compiler is free to leave it sharded, as reading gathers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

from jaxboard._types import PyTree

_Mesh: TypeAlias = Mesh | AbstractMesh


def replicate(hidden: PyTree, operands: PyTree, jit_options: dict[str, Any]) -> PyTree:
    """Return hidden outputs, replicated on every device of the job.

    Args:
        hidden: the hidden outputs, while JAX traces the program.
        operands: the arguments of the program. The first mesh among them is that of the outputs.
        jit_options: the options that ``jax.jit`` was given, which may have shardings, too.
    """
    if jax.process_count() == 1:
        return hidden
    given = jax.tree.leaves([jit_options.get(f"{side}_shardings") for side in ("in", "out")])
    mesh = next(_meshes([*map(_sharding_of, jax.tree.leaves(operands)), *given]), None)
    # Where all axes are explicit, the reducers have replicated everything.
    if mesh is None or AxisType.Explicit in (mesh.axis_types or ()):
        return hidden
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, everywhere), hidden)


def _sharding_of(operand: object) -> object:
    return jax.typeof(operand).sharding if isinstance(operand, jax.Array) else None


def _meshes(shardings: Iterable[object]) -> Iterator[_Mesh]:
    """Yield the meshes of shardings, without empty ones."""
    for sharding in shardings:
        mesh: _Mesh | None = getattr(getattr(sharding, "sharding", sharding), "mesh", None)
        if mesh is not None and mesh.axis_names:
            yield mesh
