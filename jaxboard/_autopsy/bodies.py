"""The rules of equations whose bodies JAX traces separately: loops, branches and shards."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import JaxprEqn
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxboard import _compat
from jaxboard._autopsy import codes
from jaxboard._autopsy.interpreter import (
    BodyResult,
    Examined,
    Interpreter,
    Node,
    Record,
    Rule,
    Step,
    codes_of,
)
from jaxboard._trace import hijax
from jaxboard._trace.rules.cond import select_branch
from jaxboard._trace.rules.loops import ScanLoop, WhileLoop, select_lanes

_MAX_ROWS = 32
"""Most iterations of a ``while`` that are recorded: the last ones in which a value of the carry stopped being finite."""


class LoopRecord(NamedTuple):
    """The record of a loop. Everything has a leading axis of iterations.

    Attributes:
        iterations: int32[rows], the numbers of the iterations in the order of execution; -1 in empty rows.
        leaving: uint8[rows, n], the codes of the results of an iteration, the carry first.
        body: the record of the body.
    """

    iterations: Array
    leaving: Array
    body: Record


class BranchRecord(NamedTuple):
    """The record of a ``cond``.

    Attributes:
        taken: int32, which branch was taken.
        branches: the records of the branches; zeros in those that were not.
    """

    taken: Array
    branches: list[Record]


# --- Calls ----------------------------------------------------------------------------------------


def _remat(inner: Interpreter, eqn: JaxprEqn, operands: list[Array], _: Step | None) -> BodyResult:
    """Inline the function behind a barrier, so that XLA does not merge the recomputation with the first one."""
    params = hijax.params_of(eqn)
    prevent_cse: bool | tuple[bool, ...] = params.get("prevent_cse", True)
    # From JAX 0.12 it is for each operand; with jax_remat3, a recomputation is no parameter.
    is_prevented = any(prevent_cse) if isinstance(prevent_cse, tuple) else prevent_cse
    if params.get("differentiated", True) and is_prevented:
        operands = lax.optimization_barrier(operands)
    results, node, record = inner.examine(params["jaxpr"], operands)
    return BodyResult(results, [node], record)


# --- Branches -------------------------------------------------------------------------------------


def _cond(
    inner: Interpreter, eqn: JaxprEqn, operands: list[Array], step: Step | None
) -> BodyResult:
    """Return from each branch the records of all branches."""
    index, *operands = operands
    interpreters = [
        inner if step is None or step.branch == branch else inner._replace(target=())
        for branch in range(len(eqn.params["branches"]))
    ]
    nodes: list[Node] = []

    def examine(branch: int, *operands: Array) -> Examined:
        return interpreters[branch].examine(eqn.params["branches"][branch], operands)

    def shape_of(branch: int) -> Record:
        def record(*operands: Array) -> Record:
            examined = examine(branch, *operands)
            nodes.append(examined.node)
            return examined.record

        return jax.eval_shape(record, *operands)

    shapes = list(map(shape_of, range(len(interpreters))))

    def branch(number: int) -> Any:
        def call(*operands: Array) -> tuple[list[Array], BranchRecord]:
            results, _, record = examine(number, *operands)
            records = jax.tree.map(lambda x: inner.vary(jnp.zeros(x.shape, x.dtype)), shapes)
            records[number] = record
            return results, BranchRecord(inner.vary(jnp.int32(number)), records)

        return call

    select = select_branch(eqn.params.get("branches_platforms"), index)
    results, record = select(list(map(branch, range(len(interpreters)))), *operands)
    for node in nodes:
        node.operands = range(1, len(operands) + 1)
    return BodyResult(results, nodes, record)


# --- Loops ----------------------------------------------------------------------------------------


def _scan(
    inner: Interpreter, eqn: JaxprEqn, operands: list[Array], step: Step | None
) -> BodyResult:
    """Stack the records of all iterations."""
    del step  # All iterations are recorded.
    params = hijax.params_of(eqn)
    loop = ScanLoop.from_eqn(eqn, operands)
    num_carry = len(loop.carry)
    nodes: list[Node] = []

    def body(
        state: tuple[Array, list[Array]], xs: list[Array]
    ) -> tuple[tuple[Array, list[Array]], tuple[list[Array], LoopRecord]]:
        count, carry = state
        results, node, record = inner.examine(loop.body, loop.arguments(carry, xs))
        nodes[:] = [node]
        row = LoopRecord(count, codes_of(node, node.jaxpr.outvars, record.codes), record)
        return (count + 1, results[:num_carry]), (results[num_carry:], row)

    (_, carry), (ys, rows) = lax.scan(
        body,
        (jnp.int32(0), loop.carry),
        loop.xs,
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
        _split_transpose=params.get("_split_transpose", False),
    )
    return BodyResult([*carry, *ys], nodes, rows)


class _WhileState(NamedTuple):
    """The state of a loop that is recorded.

    Attributes:
        iteration: int32, the iterations done.
        carry: that of the original loop.
        filled: int32, the rows filled, also those that were replaced.
        rows: the record.
    """

    iteration: Array
    carry: list[Array]
    filled: Array
    rows: LoopRecord


def _while_loop(
    inner: Interpreter, eqn: JaxprEqn, operands: list[Array], step: Step | None
) -> BodyResult:
    """Record the iterations in which a value of the carry stops being finite, or the one that the target is in."""
    loop = WhileLoop.from_eqn(eqn, operands)
    predicate, predicate_consts = _compat.open_jaxpr(loop.predicate)
    nodes: list[Node] = []

    def running(carry: list[Array]) -> Array:
        operands = (*loop.predicate_consts, *carry)
        return jax.core.eval_jaxpr(predicate, predicate_consts, *operands)[0]

    def iterate(count: Array, old: list[Array]) -> tuple[list[Array], Array, LoopRecord]:
        new, node, record = inner.examine(loop.body, [*loop.body_consts, *old])
        nodes[:] = [node]
        entering = codes_of(node, node.jaxpr.invars, record.codes)[len(loop.body_consts) :]
        leaving = codes_of(node, node.jaxpr.outvars, record.codes)
        if loop.is_batched:
            lanes = running(old)
            new = [select_lanes(lanes, *pair) for pair in zip(new, old, strict=True)]
            if step is None:
                leaving = codes.pack(list(map(inner.code, new)))
        return new, entering, LoopRecord(count, leaving, record)

    def body(state: _WhileState) -> _WhileState:
        count, old, filled, rows = state
        new, entering, row = iterate(count, old)
        is_kept = count == step.iteration if step else (row.leaving & ~entering).any()
        place = filled % _MAX_ROWS
        rows = jax.tree.map(
            lambda rows, x: rows.at[place].set(jnp.where(is_kept, x, rows[place])), rows, row
        )
        return _WhileState(count + 1, new, filled + is_kept, rows)

    def test(state: _WhileState) -> Array:
        is_running = running(state.carry)
        return is_running.any() if loop.is_batched else is_running

    _, _, shapes = jax.eval_shape(iterate, jnp.int32(0), loop.carry)
    rows = jax.tree.map(lambda x: inner.vary(jnp.full((_MAX_ROWS, *x.shape), 0, x.dtype)), shapes)
    rows = rows._replace(iterations=rows.iterations - 1)
    init = _WhileState(jnp.int32(0), loop.carry, inner.vary(jnp.int32(0)), rows)
    final = lax.while_loop(test, body, init)
    return BodyResult(final.carry, nodes, final.rows)


# --- Meshes ---------------------------------------------------------------------------------------


def _shard_map(
    inner: Interpreter, eqn: JaxprEqn, operands: list[Array], _: Step | None
) -> BodyResult:
    """Return the records with a leading axis of devices."""
    params = eqn.params
    manual, mesh, checked = _compat.manual_axes(eqn), params["mesh"], params["check_vma"]
    if checked:
        inner = inner._replace(axes=inner.axes | frozenset(manual))
    nodes: list[Node] = []

    def body(*operands: Array) -> tuple[list[Array], Record]:
        results, node, record = inner.examine(params["jaxpr"], operands)
        nodes[:] = [node]
        return results, jax.tree.map(lambda x: x[None], record)

    results, record = jax.shard_map(
        body,
        mesh=mesh,
        in_specs=tuple(params["in_specs"]),
        out_specs=(list(params["out_specs"]), PartitionSpec(manual)),
        axis_names=set(manual),
        check_vma=checked,
    )(*operands)
    axis_types = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    if any(axis_types[axis] == AxisType.Explicit for axis in manual):
        # Shardings are part of the types there, and rows of a sharded axis have none.
        record = jax.sharding.reshard(record, NamedSharding(mesh, PartitionSpec()))
    return BodyResult(results, nodes, record)


RULES: dict[str, Rule] = {
    "RematTraced": _remat,  # jax_remat3
    "Scan3": _scan,  # jax_scan3
    "checkpoint": _remat,  # the name up to JAX 0.9
    "cond": _cond,
    "remat2": _remat,  # the name from JAX 0.10
    "scan": _scan,
    "shard_map": _shard_map,
    "while": _while_loop,
}
"""The rules that differ from those of the harvest, by the name of the primitive, or of the class of a hijax object."""
