"""Equations with a rule of their own, while it is open whether that rule will be asked for.

A function with a derivative rule has to stay one equation as long as somebody around it may differentiate. Once
a program is lowered nobody will. So inside of somebody's ``jit`` the equation gives way to one of a primitive
that has the reports as results beside those of the equation. Lowered, it is the function's body, harvested.
Differentiated, it is the equation as it was: the reports of the rule take a callback each, and those
of the body hold nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.core
import jax.extend.core as jex
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from jaxboard import _compat
from jaxboard._frame import Packed
from jaxboard._trace.harvest import (
    Rule,
    RuleContext,
    Unharvestable,
    inner_jaxprs,
    reports_at,
    warn_left,
)
from jaxboard._trace.pack import Harvested, pack, unpack
from jaxboard._trace.rules.bodies import empty_like, packed_reports, with_array_weight

deferred_rule_p = jex.Primitive("jaxboard_deferred_rule")
deferred_rule_p.multiple_results = True


def defer(
    rule: Rule, eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    """Evaluates an equation as one whose rule may yet be asked for, and appends what it reports.

    Args:
        rule: of the equation, where nobody will differentiate.
        eqn: the equation.
        operands: of the equation.
        reports: appended to.
        setting: what surrounds the equation.

    Raises:
        Unharvestable: it has effects beside its reports, or a rule for ``vmap`` with reports inside.
    """
    if _maps_by_rule(eqn):
        raise Unharvestable("it has a rule of its own for vmap that may yet be needed")
    cell: dict[str, Any] = {}
    evaluate = _evaluator(eqn)
    operands, tree = jax.tree.flatten((setting.masks, operands))

    def body(*operands: Any) -> Any:
        masks, own = jax.tree.unflatten(tree, operands)
        mine: list[Harvested] = []
        results = rule(eqn, own, mine, setting._replace(final=True, masks=masks))
        return results, packed_reports(list(map(with_array_weight, mine)), cell)

    def original(*operands: Any) -> list[Any]:
        _, own = jax.tree.unflatten(tree, operands)
        return evaluate(own)

    harvested, shape = jax.make_jaxpr(body, return_shape=True)(*operands)
    jaxpr, _ = _compat.open_jaxpr(harvested)
    if jaxpr.effects:
        raise Unharvestable("it has a rule of its own that may yet be needed, and other effects")

    def nothing() -> list[Any]:
        avals = [var.aval for var in jaxpr.outvars[len(eqn.outvars) :]]
        zeros = [_compat.vary(jnp.zeros(a.shape, a.dtype), _compat.varying(a)) for a in avals]
        arrays = jax.tree.unflatten(jax.tree.structure(shape[1]), zeros)
        like = unpack(Packed(cell["plan"], arrays))
        return jax.tree.leaves(pack(list(map(empty_like, like))).arrays)

    def differentiated() -> None:
        warn_left(eqn, "it is differentiated from outside of what is instrumented")

    results = deferred_rule_p.bind(
        *operands,
        harvested=harvested,
        original=original,
        nothing=nothing,
        differentiated=differentiated,
    )
    results, arrays = jax.tree.unflatten(jax.tree.structure(shape), results)
    reports.extend(unpack(Packed(cell["plan"], arrays)))
    return results


def _evaluator(eqn: Any) -> Callable[[list[Any]], list[Any]]:
    """What evaluates an equation as it is."""
    places = {v: n for n, v in enumerate(eqn.invars) if not isinstance(v, jex.Literal)}
    debug_info = _compat.open_jaxpr(inner_jaxprs(eqn)[0])[0].debug_info
    jaxpr = _compat.make_jaxpr(list(places), eqn.outvars, [eqn], debug_info)
    return lambda operands: jax.core.eval_jaxpr(jaxpr, (), *[operands[n] for n in places.values()])


def _maps_by_rule(eqn: Any) -> bool:
    if not reports_at(eqn):
        return False
    inner = (e for jaxpr in inner_jaxprs(eqn) for e in _compat.open_jaxpr(jaxpr)[0].eqns)
    return eqn.primitive.name == "custom_vmap_call" or any(map(_maps_by_rule, inner))


@deferred_rule_p.def_impl
def _decided(*operands: Any, harvested: Any, **_: Any) -> list[Any]:
    jaxpr, consts = _compat.open_jaxpr(harvested)
    return jax.core.eval_jaxpr(jaxpr, consts, *operands)


@deferred_rule_p.def_abstract_eval
def _abstract(*_: Any, harvested: Any, **__: Any) -> list[Any]:
    return [var.aval for var in _compat.open_jaxpr(harvested)[0].outvars]


def _jvp(
    primals: Any,
    tangents: Any,
    *,
    original: Callable[..., list[Any]],
    nothing: Callable[[], list[Any]],
    differentiated: Callable[[], None],
    **_: Any,
) -> Any:
    differentiated()
    moving = [n for n, tangent in enumerate(tangents) if not isinstance(tangent, ad.Zero)]

    def along(*values: Any) -> list[Any]:
        operands = list(primals)
        for n, value in zip(moving, values, strict=True):
            operands[n] = value
        return original(*operands)

    one, other = ([values[n] for n in moving] for values in (primals, tangents))
    results, changes = jax.jvp(along, one, other)
    changes = [
        _compat.zero_tangent(x) if change.dtype == jax.dtypes.float0 else change
        for x, change in zip(results, changes, strict=True)
    ]
    empty = nothing()
    return [*results, *empty], [*changes, *map(_compat.zero_tangent, empty)]


def _batch(
    operands: Any,
    dims: Any,
    *,
    harvested: Any,
    original: Callable[..., list[Any]],
    nothing: Callable[[], list[Any]],
    **params: Any,
) -> Any:
    size = next(x.shape[dim] for x, dim in zip(operands, dims, strict=True) if dim is not None)
    mapped = lambda f: jax.vmap(f, in_axes=tuple(dims), axis_size=size)  # noqa: E731
    results = deferred_rule_p.bind(
        *operands,
        harvested=jax.make_jaxpr(mapped(lambda *x: _decided(*x, harvested=harvested)))(*operands),
        original=mapped(original),
        nothing=lambda: [jnp.broadcast_to(x, (size, *x.shape)) for x in nothing()],
        **params,
    )
    return results, [0] * len(results)


ad.primitive_jvps[deferred_rule_p] = _jvp
batching.primitive_batchers[deferred_rule_p] = _batch
mlir.register_lowering(deferred_rule_p, mlir.lower_fun(_decided, multiple_results=True))
