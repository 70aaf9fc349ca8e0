"""How reports get out of each of JAX's higher-order primitives: one rule for each, in one table."""

from __future__ import annotations

from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jax import lax

from jaxboard import _compat
from jaxboard._frame import Packed, Plan
from jaxboard._trace.harvest import RULES, Rule, Unharvestable, harvest, reports_in
from jaxboard._trace.pack import Harvested, merge_same, pack, unpack
from jaxboard._trace.primitive import delivered, started
from jaxboard.reduce import State, reducer


def collect(closed: Any, operands: list[Any], *, final: bool) -> tuple[list[Any], list[Harvested]]:
    """Evaluates a closed jaxpr: its results, and what it reports, repeated reports merged.

    Args:
        closed: the jaxpr with its constants.
        operands: the values of its arguments.
        final: see :func:`harvest`.
    """
    jaxpr, consts = _compat.open_jaxpr(closed)
    reports: list[Harvested] = []
    results = harvest(jaxpr, consts, operands, reports, final=final)
    return results, merge_same(reports)


def _report(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
    reports.append(started(operands, **eqn.params))
    return []


def _deliver(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
    reports.extend(delivered(operands, **eqn.params))
    return []


def _inline(name: str) -> Rule:
    """Of a call that is evaluated in place."""

    def rule(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
        jaxpr, consts = _compat.open_jaxpr(eqn.params[name])
        return harvest(jaxpr, consts, operands, reports, final=final)

    return rule


def _jit(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
    jaxpr, consts = _compat.open_jaxpr(eqn.params["jaxpr"])
    operands = _constrained(operands, eqn.params["in_shardings"])
    results = harvest(jaxpr, consts, operands, reports, final=final)
    return _constrained(results, eqn.params["out_shardings"])


def _constrained(values: list[Any], shardings: Any) -> list[Any]:
    wanted = map(_compat.sharding_of, shardings)
    return [_with_sharding(x, s) for x, s in zip(values, wanted, strict=True)]


def _with_sharding(x: Any, sharding: jax.sharding.Sharding | None) -> Any:
    if sharding is None:
        return x
    if isinstance(sharding, jax.sharding.NamedSharding):
        explicit = jax.sharding.AxisType.Explicit
        # Where shardings are part of the types, a constraint is refused.
        if explicit in (sharding.mesh.axis_types or ()):
            return jax.sharding.reshard(x, sharding)
    return lax.with_sharding_constraint(x, sharding)


def _custom(name: str) -> Rule:
    """Of a function with a derivative rule of its own, which must stay while a derivative may be asked."""
    inline = _inline(name)

    def rule(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
        if not final:
            raise Unharvestable("it has a derivative of its own that may yet be needed")
        return inline(eqn, operands, reports, final)

    return rule


def _packed_reports(reports: list[Harvested], cell: dict[str, Plan]) -> dict[str, Any]:
    """Packs what a body reported; the plan is left in ``cell``, since only arrays may leave a body."""
    packed = pack(merge_same(reports))
    cell["plan"] = packed.plan
    return packed.arrays


def _scan(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
    params = eqn.params
    jaxpr, consts = _compat.open_jaxpr(params["jaxpr"])
    # Told by rank rather than by parameters, which JAX renamed in 0.12.
    scanned = sum(v.aval.ndim != o.aval.ndim for v, o in zip(jaxpr.invars, eqn.invars, strict=True))
    carried = sum(
        v.aval.ndim == o.aval.ndim for v, o in zip(jaxpr.outvars, eqn.outvars, strict=True)
    )
    fixed = len(operands) - scanned - carried
    cell: dict[str, Plan] = {}

    def body(carry: Any, xs: Any) -> Any:
        mine: list[Harvested] = []
        results = harvest(jaxpr, consts, [*operands[:fixed], *carry, *xs], mine, final=final)
        # Packed inside the body: one stacked result instead of one for each report.
        return results[:carried], (results[carried:], _packed_reports(mine, cell))

    carry, (ys, arrays) = lax.scan(
        body,
        operands[fixed : fixed + carried],
        operands[fixed + carried :],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
        _split_transpose=params.get("_split_transpose", False),
    )
    if params["reverse"]:  # the iteration that ran last has to be the last
        arrays = jax.tree.map(lambda x: x[::-1], arrays)
    reports.extend(report.collapse() for report in unpack(Packed(cell["plan"], arrays)))
    return [*carry, *ys]


def _weighed(report: Harvested, present: bool = True) -> Harvested:
    """The report with its weight as an array; or, if absent, a report of nothing in its shape."""
    shape = () if report.step is None else report.step.shape
    weight = report.state.weight
    if isinstance(weight, int):
        weight = jnp.full(shape, weight, jnp.int32)
    state = State(report.state.value, weight)
    if not present:
        empty = reducer(report.spec).empty(state)
        state = State(empty.value, jnp.zeros(shape, weight.dtype))
    return Harvested(report.spec, state, report.step)


def _shapes(function: Any, *operands: Any) -> tuple[Plan, dict[str, Any]]:
    """What a body would report: the plan and the shapes of the arrays."""
    cell: dict[str, Plan] = {}

    def traced(*operands: Any) -> Any:
        mine: list[Harvested] = []
        function(mine, *operands)
        packed = pack(mine)
        cell["plan"] = packed.plan
        return packed.arrays

    shapes = jax.eval_shape(traced, *operands)
    return cell["plan"], shapes


def _while(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
    params = eqn.params
    test, test_consts = _compat.open_jaxpr(params["cond_jaxpr"])
    jaxpr, consts = _compat.open_jaxpr(params["body_jaxpr"])
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    test_fixed, fixed, carry = operands[:first], operands[first:second], operands[second:]
    if reports_in(test):
        raise Unharvestable("it reports in the loop's predicate")
    # vmap leaves a predicate for each lane: the loop goes on while one holds, and lanes that are done
    # keep their values.
    batched = bool(test.outvars[0].aval.shape)

    def running(carry: Any) -> Any:
        return jax.core.eval_jaxpr(test, test_consts, *test_fixed, *carry)[0]

    def trip(mine: list[Harvested], *carry: Any) -> list[Any]:
        found: list[Harvested] = []
        results = harvest(jaxpr, consts, [*fixed, *carry], found, final=final)
        mine.extend(map(_weighed, merge_same(found)))
        return results

    plan, shapes = _shapes(trip, *carry)
    nothing = pack(
        [
            _weighed(report, present=False)
            for report in unpack(
                Packed(plan, jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))
            )
        ]
    ).arrays

    def body(state: Any) -> Any:
        carry, arrays = state
        mine: list[Harvested] = []
        results = trip(mine, *carry)
        if batched:
            alive = running(carry)
            results = [_select(alive, new, old) for new, old in zip(results, carry, strict=True)]
        merged = [
            Harvested(new.spec, reducer(new.spec).merge(old.state, new.state), new.step)
            if new.step is None
            else new  # points of their own steps: the last trip's
            for old, new in zip(unpack(Packed(plan, arrays)), mine, strict=True)
        ]
        return results, pack(merged).arrays

    def test_of(state: Any) -> Any:
        alive = running(state[0])
        return alive.any() if batched else alive

    results, arrays = lax.while_loop(test_of, body, (list(carry), nothing))
    reports.extend(unpack(Packed(plan, arrays)))
    return results


def _select(mask: Any, new: Any, old: Any) -> Any:
    if jnp.issubdtype(new.dtype, jax.dtypes.extended):
        implementation = jax.random.key_impl(new)
        data = _select(mask, jax.random.key_data(new), jax.random.key_data(old))
        return jax.random.wrap_key_data(data, impl=implementation)
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)


def _cond(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
    if eqn.params.get("branches_platforms") is not None:
        raise Unharvestable("its branches are chosen by platform")
    index, *operands = operands
    bodies = [_branch(*_compat.open_jaxpr(branch), final) for branch in eqn.params["branches"]]
    # The union of what the branches report: each branch gives all of it, what it doesn't report itself
    # with weight zero.
    known: dict[Any, tuple[int, Harvested]] = {}
    for number, body in enumerate(bodies):
        plan, shapes = _shapes(body, *operands)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
        for report, key in _keyed(unpack(Packed(plan, zeros))):
            known.setdefault(key, (number, report))
    cell: dict[str, Plan] = {}

    def padded(body: Any) -> Any:
        def branch(*operands: Any) -> Any:
            mine: list[Harvested] = []
            results = body(mine, *operands)
            own = {key: report for report, key in _keyed(mine)}
            every = [own.get(key) or _weighed(like, False) for key, (_, like) in known.items()]
            return results, _packed_reports(every, cell)

        return branch

    results, arrays = lax.switch(index, [padded(body) for body in bodies], *operands)
    reports.extend(unpack(Packed(cell["plan"], arrays)))
    return results


def _branch(jaxpr: Any, consts: Any, final: bool) -> Any:
    def body(mine: list[Harvested], *operands: Any) -> list[Any]:
        found: list[Harvested] = []
        results = harvest(jaxpr, consts, operands, found, final=final)
        mine.extend(map(_weighed, merge_same(found)))
        return results

    return body


def _keyed(reports: list[Harvested]) -> list[tuple[Harvested, Any]]:
    """Reports with what tells them apart: what they are, and the shapes of what they hold."""
    keys = []
    for place, report in enumerate(reports):
        arrays = jax.tree.leaves((report.state, report.step))
        shapes = tuple((x.shape, str(jnp.result_type(x))) for x in arrays)
        keys.append((report, (report.spec, shapes, None if report.step is None else place)))
    return keys


def _remat(eqn: Any, operands: list[Any], reports: list[Harvested], final: bool) -> list[Any]:
    jaxpr, consts = _compat.open_jaxpr(eqn.params["jaxpr"])
    cell: dict[str, Any] = {}

    def body(*operands: Any) -> Any:
        mine: list[Harvested] = []
        results = harvest(jaxpr, consts, operands, mine, final=final)
        return results, _packed_reports(mine, cell)

    if not eqn.params["differentiated"]:
        if final:
            return harvest(jaxpr, consts, operands, reports, final=final)
        policy, prevent = eqn.params["policy"], eqn.params["prevent_cse"]
        results, arrays = jax.checkpoint(body, prevent_cse=prevent, policy=policy)(*operands)
    else:
        # This is the recomputation: its barrier against being optimised away must stay around it.
        closed, shape = jax.make_jaxpr(body, return_shape=True)(*operands)
        inner, inner_consts = _compat.open_jaxpr(closed)
        if inner_consts:
            raise Unharvestable("its body has constants")
        flat = eqn.primitive.bind(*operands, **dict(eqn.params, jaxpr=inner))
        results, arrays = jax.tree.unflatten(jax.tree.structure(shape), flat)
    reports.extend(unpack(Packed(cell["plan"], arrays)))
    return list(results)


RULES.update(
    {
        "jaxboard_report": _report,
        "jaxboard_deliver": _deliver,
        "jit": _jit,
        "pjit": _jit,  # its name in JAX 0.8
        "closed_call": _inline("call_jaxpr"),
        "core_call": _inline("call_jaxpr"),
        "custom_jvp_call": _custom("call_jaxpr"),
        "custom_vjp_call": _custom("call_jaxpr"),
        "checkpoint": _remat,
        "scan": _scan,
        "while": _while,
        "cond": _cond,
    }
)
