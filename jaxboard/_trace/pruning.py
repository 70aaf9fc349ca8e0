"""Pruning: takes reports out of a jaxpr, with the equations that only they read, or changes their cadences.

A function is traced once, with all its reports. Each of its programs is made from that jaxpr.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxboard import _compat
from jaxboard._frame import ReportSpec
from jaxboard._trace.inspection import is_jaxpr, may_have_effects, parameter_jaxprs
from jaxboard._trace.primitives import REPORT_EFFECT, report_p

_AnyJaxpr: TypeAlias = Jaxpr | ClosedJaxpr


def prune(jaxpr: _AnyJaxpr, not_due: frozenset[int]) -> _AnyJaxpr:
    """Return a jaxpr without the sampled reports of some cadences, at any depth.

    Windowed reports stay, because each step adds to their accumulators. Reports stay too in a primitive that keeps its
    jaxpr elsewhere than in its parameters; the host drops them.

    Args:
        jaxpr: the jaxpr.
        not_due: the cadences.
    """
    if not not_due:
        return jaxpr
    return _rewritten(jaxpr, lambda eqn: None if _is_of(eqn, not_due) else eqn)


def select(jaxpr: _AnyJaxpr, selected: Callable[[ReportSpec], ReportSpec | None]) -> _AnyJaxpr:
    """Return a jaxpr whose reports have other cadences, at any depth.

    Args:
        jaxpr: the jaxpr.
        selected: returns a report with its cadence, or None to leave it out.
    """

    def changed(eqn: JaxprEqn) -> JaxprEqn | None:
        if eqn.primitive is not report_p:
            return eqn
        old = eqn.params["spec"]
        spec = selected(old)
        if spec is None or spec is old:
            return None if spec is None else eqn
        return _compat.with_params(eqn, {**eqn.params, "spec": spec}, frozenset(eqn.effects))

    return _rewritten(jaxpr, changed)


def _rewritten(jaxpr: _AnyJaxpr, change: Callable[[JaxprEqn], JaxprEqn | None]) -> _AnyJaxpr:
    """Return a jaxpr with changed reports, at any depth, without the equations that only removed ones read.

    Args:
        jaxpr: the jaxpr.
        change: returns an equation itself, another one, or None to remove it.
    """

    # Cached: a body that is called several times stays one object, which JAX lowers once.
    @functools.cache
    def pruned(jaxpr: _AnyJaxpr) -> _AnyJaxpr:
        body, _ = _compat.open_jaxpr(jaxpr)
        changed = filter(None, map(change, body.eqns))
        kept = [pruned_eqn(eqn) for eqn in changed]
        if len(kept) == len(body.eqns) and all(map(operator.is_, kept, body.eqns)):
            return jaxpr
        live = _without_dead(kept, body)
        return _compat.with_equations(jaxpr, live, _remaining(body.effects, live))

    def pruned_eqn(eqn: JaxprEqn) -> JaxprEqn:
        inner = parameter_jaxprs(eqn)
        if all(pruned(jaxpr) is jaxpr for jaxpr in inner):
            return eqn
        params = jax.tree.map(
            lambda x: pruned(x) if is_jaxpr(x) else x, eqn.params, is_leaf=is_jaxpr
        )
        bodies = [_compat.open_jaxpr(pruned(jaxpr))[0] for jaxpr in inner]
        return _compat.with_params(eqn, params, _remaining(eqn.effects, bodies))

    return pruned(jaxpr)


def _is_of(eqn: JaxprEqn, cadences: frozenset[int]) -> bool:
    """Return whether an equation is a sampled report of one of the cadences."""
    if eqn.primitive is not report_p:
        return False
    spec = eqn.params["spec"]
    return spec.every in cadences and not spec.windowed


def _remaining(
    effects: Iterable[Any], parts: Sequence[JaxprEqn] | Sequence[Jaxpr]
) -> frozenset[Any]:
    """Return the effects of an equation or jaxpr after reports were removed: that of reports stays if a part has it."""
    of_parts = frozenset().union(*(part.effects for part in parts))
    return frozenset(effects) - ({REPORT_EFFECT} - of_parts)


def _without_dead(eqns: list[JaxprEqn], jaxpr: Jaxpr) -> list[JaxprEqn]:
    """Return the equations of a jaxpr that may have an effect, or have a result that is read."""
    read = {var for var in jaxpr.outvars if not isinstance(var, Literal)}
    live = []
    for eqn in reversed(eqns):
        if may_have_effects(eqn) or not read.isdisjoint(eqn.outvars):
            live.append(eqn)
            read.update(var for var in eqn.invars if not isinstance(var, Literal))
    return live[::-1]
