"""The rules of primitives that call a function: ``jit``, custom derivative rules, remat and the like."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax import Array, lax
from jax.extend.core import JaxprEqn

from jaxboard import _compat
from jaxboard._reduce import WideInt
from jaxboard._trace import hijax
from jaxboard._trace.masks import Mask
from jaxboard._trace.rules.base import Evaluate, Evaluated, RuleContext
from jaxboard._trace.rules.body_reports import PackedBody
from jaxboard._trace.rules.differentiable import keep_differentiable
from jaxboard._trace.rules.fallback import Unharvestable


def inline(param: str) -> Evaluate:
    """Return the rule of a call that is replaced by its body, the jaxpr in parameter ``param``."""

    def rule(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
        return context.harvest(eqn.params[param], operands)

    return rule


def custom_derivative(rule: Evaluate) -> Evaluate:
    """Wrap the rule of a function with a custom derivative: keep the equation while it may be differentiated."""

    def wrapped(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
        if context.final:
            return rule(eqn, operands, context)
        return keep_differentiable(rule, eqn, operands, context)

    return wrapped


def jit(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Inline the function, and keep the shardings of its arguments and results."""
    operands = constrain(operands, eqn.params["in_shardings"])
    results, reports = context.harvest(eqn.params["jaxpr"], operands)
    return Evaluated(constrain(results, eqn.params["out_shardings"]), reports)


def constrain(values: list[Array], shardings: Sequence[object]) -> list[Array]:
    return [
        _with_sharding(value, _compat.sharding_of(sharding))
        for value, sharding in zip(values, shardings, strict=True)
    ]


def _with_sharding(value: Array, sharding: jax.sharding.Sharding | None) -> Array:
    if sharding is None:
        return value
    if isinstance(sharding, jax.sharding.NamedSharding):
        explicit = jax.sharding.AxisType.Explicit
        # JAX refuses a constraint where shardings are part of the types.
        if explicit in (sharding.mesh.axis_types or ()):
            return jax.sharding.reshard(value, sharding)
    return lax.with_sharding_constraint(value, sharding)


def remat(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Inline the function unless it has, or may get, a derivative that recomputes it."""
    params = hijax.params_of(eqn)
    differentiated = params.get("differentiated", False)  # no parameter with jax_remat3
    if context.final and not differentiated:
        return context.harvest(params["jaxpr"], operands)
    packed = PackedBody()

    # The body gets the masks and the step as operands: it must not have constants.
    def body(
        masks: tuple[Mask, ...], step: Array | WideInt | None, *operands: Array
    ) -> tuple[list[Array], dict[str, Array]]:
        inner = context._replace(masks=masks, step=step)
        results, reports = inner.harvest(params["jaxpr"], operands)
        return results, packed.pack(reports)

    arguments = (context.masks, context.step, *operands)
    if not differentiated:
        prevent_cse = params.get("prevent_cse", True)
        if isinstance(prevent_cse, tuple):  # from JAX 0.12: for each operand
            prevent_cse = (False, False, *prevent_cse)
        rematted = jax.checkpoint(body, prevent_cse=prevent_cse, policy=params["policy"])
        results, arrays = rematted(*arguments)
    else:
        # This is the recomputation. It stays a remat equation, whose barrier prevents that XLA merges the
        # recomputation with the first computation.
        closed, shape = jax.make_jaxpr(body, return_shape=True)(*arguments)
        jaxpr, consts = _compat.open_jaxpr(closed)
        if consts:
            raise Unharvestable("its body has constants")
        flat = eqn.primitive.bind(*jax.tree.leaves(arguments), **{**params, "jaxpr": jaxpr})
        results, arrays = jax.tree.unflatten(jax.tree.structure(shape), flat)
    return Evaluated(list(results), packed.unpack(arrays))


def linear_solve(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Inline ``solve``, the only one of the equation's four functions that is not just for derivatives."""
    lengths = eqn.params["const_lengths"]
    first = lengths.matvec + lengths.vecmat
    consts = operands[first : first + lengths.solve]
    right_hand_side = operands[sum(lengths) :]
    return context.harvest(eqn.params["jaxprs"].solve, [*consts, *right_hand_side])


def expand(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Inline the function of a hijax equation."""
    return context.harvest(hijax.expanded(eqn, operands), operands)
