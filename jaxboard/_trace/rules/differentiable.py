"""Equations with a custom derivative rule that may still be needed.

A function with a custom derivative must stay one equation as long as code outside may differentiate it. That is
decided only when the program is lowered. Inside of another ``jit`` the equation is therefore replaced by one
of the primitive below, which has the reports as additional results and holds both versions:

* lowered, it is the body of the function, harvested;
* differentiated, it is the original equation: the reports in its derivative rule use one callback each, and
  those of its body are empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Primitive
from jax.interpreters import ad, batching, mlir

from jaxboard import _compat
from jaxboard._trace.inspection import eqn_has_reports, inner_jaxprs
from jaxboard._trace.pack import pack
from jaxboard._trace.rules.base import Evaluate, Evaluated, RuleContext
from jaxboard._trace.rules.body_reports import PackedBody, empty_like, with_array_weight, zeros_of
from jaxboard._trace.rules.fallback import Unharvestable, warn_of_fallback

differentiable_call_p = Primitive("jaxboard_differentiable_call")
differentiable_call_p.multiple_results = True


class _Call(NamedTuple):
    """The parameters of the primitive.

    Attributes:
        harvested: the body: (results, reports).
        original: evaluates the original equation: results.
        empty_reports: returns the reports of a body that is not evaluated.
        warn: called when the equation is differentiated.
    """

    harvested: ClosedJaxpr
    original: Callable[..., list[Array]]
    empty_reports: Callable[[], list[Array]]
    warn: Callable[[], None]


def keep_differentiable(
    rule: Evaluate, eqn: JaxprEqn, operands: list[Array], context: RuleContext
) -> Evaluated:
    """Evaluate an equation such that its custom derivative rule still applies.

    Args:
        rule: the rule of the equation where the results will not be differentiated.
        eqn: the equation.
        operands: its operands.
        context: its context, which is not final.

    Raises:
        Unharvestable: the equation has effects other than its reports, or a custom rule for ``vmap``
            and reports inside.
    """
    if _has_custom_vmap(eqn):
        raise Unharvestable("it has a rule of its own for vmap that may still be needed")
    packed = PackedBody()
    evaluate_original = _evaluator(eqn)
    flat, tree = jax.tree.flatten((context.masks, operands))

    def body(*flat: Array) -> tuple[list[Array], dict[str, Array]]:
        masks, operands = jax.tree.unflatten(tree, flat)
        inner = context._replace(final=True, masks=masks)
        results, reports = rule(eqn, operands, inner)
        return results, packed.pack(list(map(with_array_weight, reports)))

    def original(*flat: Array) -> list[Array]:
        _, operands = jax.tree.unflatten(tree, flat)
        return evaluate_original(operands)

    harvested, shape = jax.make_jaxpr(body, return_shape=True)(*flat)
    jaxpr, _ = _compat.open_jaxpr(harvested)
    if jaxpr.effects:
        raise Unharvestable(
            "it has a custom derivative rule that may still be needed, and other effects"
        )

    def empty_reports() -> list[Array]:
        avals = map(_compat.aval_of, jaxpr.outvars[len(eqn.outvars) :])
        arrays = jax.tree.unflatten(jax.tree.structure(shape[1]), list(map(zeros_of, avals)))
        return jax.tree.leaves(pack(list(map(empty_like, packed.unpack(arrays)))).arrays)

    def warn() -> None:
        warn_of_fallback(eqn, "it is differentiated from outside the instrumented function")

    flat_results = differentiable_call_p.bind(
        *flat, **_Call(harvested, original, empty_reports, warn)._asdict()
    )
    results, arrays = jax.tree.unflatten(jax.tree.structure(shape), flat_results)
    return Evaluated(results, packed.unpack(arrays))


def _evaluator(eqn: JaxprEqn) -> Callable[[list[Array]], list[Array]]:
    """Return a function that evaluates an equation unchanged."""
    # By variable: one that occurs several times is one input, read at its last position.
    positions = {v: n for n, v in enumerate(eqn.invars) if not isinstance(v, Literal)}
    body, _ = _compat.open_jaxpr(inner_jaxprs(eqn)[0])
    jaxpr = _compat.make_jaxpr(list(positions), eqn.outvars, [eqn], body)

    def evaluate(operands: list[Array]) -> list[Array]:
        return jax.core.eval_jaxpr(jaxpr, (), *[operands[n] for n in positions.values()])

    return evaluate


def _has_custom_vmap(eqn: JaxprEqn) -> bool:
    """Return whether a function with a custom ``vmap`` rule, in the equation, contains a report."""
    if not eqn_has_reports(eqn):
        return False
    inner = (e for jaxpr in inner_jaxprs(eqn) for e in _compat.open_jaxpr(jaxpr)[0].eqns)
    return eqn.primitive.name == "custom_vmap_call" or any(map(_has_custom_vmap, inner))


@differentiable_call_p.def_impl
def _impl(*operands: Array, harvested: ClosedJaxpr, **params: object) -> list[Array]:
    jaxpr, consts = _compat.open_jaxpr(harvested)
    return jax.core.eval_jaxpr(jaxpr, consts, *operands)


@differentiable_call_p.def_abstract_eval
def _abstract_eval(
    *avals: jax.core.AbstractValue, harvested: ClosedJaxpr, **params: object
) -> list[jax.core.ShapedArray]:
    return list(map(_compat.aval_of, _compat.open_jaxpr(harvested)[0].outvars))


def _jvp(
    primals: Sequence[Array], tangents: Sequence[Array | ad.Zero], **params: Any
) -> tuple[list[Array], list[Array | ad.Zero]]:
    call = _Call(**params)
    call.warn()
    active = [n for n, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def of_active(*values: Array) -> list[Array]:
        operands = list(primals)
        for n, value in zip(active, values, strict=True):
            operands[n] = value
        return call.original(*operands)

    results, result_tangents = jax.jvp(
        of_active, [primals[n] for n in active], [tangents[n] for n in active]
    )
    result_tangents = [
        _compat.zero_tangent(result) if tangent.dtype == jax.dtypes.float0 else tangent
        for result, tangent in zip(results, result_tangents, strict=True)
    ]
    empty = call.empty_reports()
    return [*results, *empty], [*result_tangents, *map(_compat.zero_tangent, empty)]


def _batch(
    operands: Sequence[Array], dims: Sequence[int | None], **params: Any
) -> tuple[list[Array], list[int]]:
    call = _Call(**params)
    size = next(x.shape[dim] for x, dim in zip(operands, dims, strict=True) if dim is not None)

    def batched(function: Callable[..., list[Array]]) -> Callable[..., list[Array]]:
        return jax.vmap(function, in_axes=tuple(dims), axis_size=size)

    def harvested(*operands: Array) -> list[Array]:
        return _impl(*operands, harvested=call.harvested)

    def empty_reports() -> list[Array]:
        return [jnp.broadcast_to(x, (size, *x.shape)) for x in call.empty_reports()]

    batched_call = _Call(
        harvested=jax.make_jaxpr(batched(harvested))(*operands),
        original=batched(call.original),
        empty_reports=empty_reports,
        warn=call.warn,
    )
    results = differentiable_call_p.bind(*operands, **batched_call._asdict())
    return results, [0] * len(results)


_rules: Any = differentiable_call_p
_rules.to_lojax = _impl  # for a body with primitives of hijax
ad.primitive_jvps[differentiable_call_p] = _jvp
batching.primitive_batchers[differentiable_call_p] = _batch
mlir.register_lowering(differentiable_call_p, mlir.lower_fun(_impl, multiple_results=True))
