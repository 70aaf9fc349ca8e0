"""Inspection of jaxprs: whether they contain reports, at any depth."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from jaxboard import _compat
from jaxboard._trace import hijax
from jaxboard._trace.primitives import deliver_p, report_p


def has_reports(jaxpr: Jaxpr | ClosedJaxpr) -> bool:
    """Return whether a jaxpr contains a report."""
    return any(map(eqn_has_reports, _compat.open_jaxpr(jaxpr)[0].eqns))


def eqn_has_reports(eqn: JaxprEqn) -> bool:
    """Return whether an equation is a report or contains one."""
    return eqn.primitive in (report_p, deliver_p) or any(map(has_reports, inner_jaxprs(eqn)))


def inner_jaxprs(eqn: JaxprEqn) -> list[Jaxpr | ClosedJaxpr]:
    """Return the jaxprs in an equation."""
    return [*parameter_jaxprs(eqn), *hijax.jaxprs_in(eqn)]


def may_have_effects(eqn: JaxprEqn) -> bool:
    """Return whether an equation may do more than compute its results. Some of hijax do not declare their effects."""
    return bool(eqn.effects) or hijax.is_hijax(eqn)


def parameter_jaxprs(eqn: JaxprEqn) -> list[Jaxpr | ClosedJaxpr]:
    """Return the jaxprs among the parameters of an equation."""
    return list(filter(is_jaxpr, jax.tree.leaves(list(eqn.params.values()), is_leaf=is_jaxpr)))


def tags_in(eqn: JaxprEqn) -> Iterator[str]:
    """Yield the tags of the reports in an equation."""
    if eqn.primitive is report_p:
        yield eqn.params["spec"].tag
    elif eqn.primitive is deliver_p:
        yield from eqn.params["plan"].tags
    for jaxpr in inner_jaxprs(eqn):
        for inner_eqn in _compat.open_jaxpr(jaxpr)[0].eqns:
            yield from tags_in(inner_eqn)


def is_jaxpr(x: object) -> TypeGuard[Jaxpr | ClosedJaxpr]:
    """Return whether an object is a jaxpr, open or closed."""
    return isinstance(x, _compat.JAXPR_TYPES)
