"""How reports get out of each of JAX's higher-order primitives: one rule for each, in one table."""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

from jaxboard import _compat
from jaxboard._frame import Packed, ReportSpec
from jaxboard._trace.harvest import RULES, Rule, RuleContext, Unharvestable, harvest
from jaxboard._trace.pack import Harvested, merge_same, unpack
from jaxboard._trace.primitives import delivered, started
from jaxboard._trace.rules.bodies import only_if, packed_reports, vary_together
from jaxboard._trace.rules.cond import cond
from jaxboard._trace.rules.deferred import defer
from jaxboard._trace.rules.loops import scan, while_loop
from jaxboard._trace.rules.shard_map import shard_map
from jaxboard._trace.rules.streamed import Stream


def collect(
    closed: Any,
    operands: list[Any],
    *,
    final: bool,
    step: Any = None,
    stream: Stream | None = None,
) -> tuple[list[Any], list[Harvested]]:
    """Evaluates a closed jaxpr: its results, and what it reports, repeated reports merged.

    Args:
        closed: the jaxpr with its constants.
        operands: the values of its arguments.
        final: whether nobody will differentiate the result.
        step: the step of the call, if sampled reports that aren't due are to be skipped as it runs.
        stream: where to stream loops, if that is to be done.
    """
    jaxpr, consts = _compat.open_jaxpr(closed)
    reports: list[Harvested] = []
    results = harvest(
        jaxpr, consts, operands, reports, RuleContext(final, step=step, stream=stream)
    )
    return results, merge_same(reports)


def _report(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    spec: ReportSpec = eqn.params["spec"]

    def start() -> Harvested:
        return started(operands, setting.masks, **eqn.params)

    if setting.step is not None and spec.every > 1 and not (spec.windowed or eqn.params["stepped"]):
        report = only_if(setting.step % spec.every == 0, start)
    else:
        report = start()
    # A count is a constant, but in a shard_map it is one for each device that the value is of.
    axes = frozenset().union(*map(_compat.varying, operands))
    reports.append(vary_together(report, axes) if axes else report)
    return []


def _deliver(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    reports.extend(delivered(operands, **eqn.params))
    return []


def _inline(name: str) -> Rule:
    """Of a call that is evaluated in place."""

    def rule(
        eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
    ) -> list[Any]:
        jaxpr, consts = _compat.open_jaxpr(eqn.params[name])
        return harvest(jaxpr, consts, operands, reports, setting)

    return rule


def _jit(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    jaxpr, consts = _compat.open_jaxpr(eqn.params["jaxpr"])
    operands = _constrained(operands, eqn.params["in_shardings"])
    results = harvest(jaxpr, consts, operands, reports, setting)
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


def _with_own_rule(rule: Rule) -> Rule:
    """Of a function with a rule of its own, which stays while a derivative may be asked for."""

    def either(
        eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
    ) -> list[Any]:
        if setting.final:
            return rule(eqn, operands, reports, setting)
        return defer(rule, eqn, operands, reports, setting)

    return either


def _remat(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    jaxpr, consts = _compat.open_jaxpr(eqn.params["jaxpr"])
    if setting.final and not eqn.params["differentiated"]:
        return harvest(jaxpr, consts, operands, reports, setting)
    cell: dict[str, Any] = {}

    def body(masks: Any, *operands: Any) -> Any:
        mine: list[Harvested] = []
        inside = setting._replace(masks=masks)
        results = harvest(jaxpr, consts, operands, mine, inside)
        return results, packed_reports(mine, cell)

    operands = [setting.masks, *operands]
    if not eqn.params["differentiated"]:
        policy, prevent = eqn.params["policy"], eqn.params["prevent_cse"]
        results, arrays = jax.checkpoint(body, prevent_cse=prevent, policy=policy)(*operands)
    else:
        # This is the recomputation: its barrier against being optimised away must stay around it.
        closed, shape = jax.make_jaxpr(body, return_shape=True)(*operands)
        inner, inner_consts = _compat.open_jaxpr(closed)
        if inner_consts:
            raise Unharvestable("its body has constants")
        params = dict(eqn.params, jaxpr=inner)
        flat = eqn.primitive.bind(*jax.tree.leaves(operands), **params)
        results, arrays = jax.tree.unflatten(jax.tree.structure(shape), flat)
    reports.extend(unpack(Packed(cell["plan"], arrays)))
    return list(results)


def _linear_solve(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    # Of its four functions only `solve` runs; the others are there for derivatives.
    jaxpr, consts = _compat.open_jaxpr(eqn.params["jaxprs"].solve)
    counts = eqn.params["const_lengths"]
    first = counts.matvec + counts.vecmat
    fixed = operands[first : first + counts.solve]
    right = operands[sum(counts) :]
    return harvest(jaxpr, consts, [*fixed, *right], reports, setting)


def _hidden(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    closed = _compat.expanded(eqn, operands)
    if closed is None:
        raise Unharvestable("it keeps its values apart from others on purpose")
    jaxpr, consts = _compat.open_jaxpr(closed)
    return harvest(jaxpr, consts, operands, reports, setting)


RULES.update(
    {
        "jaxboard_report": _report,
        "jaxboard_deliver": _deliver,
        "jit": _jit,
        "pjit": _jit,  # its name in JAX 0.8
        "closed_call": _inline("call_jaxpr"),
        "core_call": _inline("call_jaxpr"),
        "custom_jvp_call": _with_own_rule(_inline("call_jaxpr")),
        "custom_vjp_call": _with_own_rule(_inline("call_jaxpr")),
        "custom_vmap_call": _with_own_rule(_inline("call")),
        "checkpoint": _remat,
        "remat2": _remat,  # its name from JAX 0.10
        "custom_linear_solve": _with_own_rule(_linear_solve),
        "eval_jaxpr": _inline("call_jaxpr"),
        "call_hi_primitive": _with_own_rule(_hidden),
        "scan": scan,
        "while": while_loop,
        "cond": cond,
        "shard_map": shard_map,
    }
)
