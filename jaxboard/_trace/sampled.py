"""Finds the equations that only sampled reports read.

A program that computes which reports are due evaluates these equations in the branch of those reports, so that a step
on which they are not due does not compute them.
"""

from __future__ import annotations

from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from jaxboard._frame import ReportSpec
from jaxboard._trace.inspection import may_have_effects, tags_in
from jaxboard._trace.primitives import report_p


def sampled_parts(jaxpr: Jaxpr) -> list[int | None]:
    """Return for each equation the cadence of the reports that need it; None if every step needs it.

    A report is also None if an equation of another part reports the same tag later, so that they keep their order.
    """
    # The part that reads a variable, and the part that reports a tag; None for several parts.
    readers: dict[Var, int | None] = {}
    reported: dict[str, int | None] = {}
    parts: list[int | None] = []

    def read(eqn_vars: list[Var | Literal], part: int | None) -> None:
        for var in eqn_vars:
            if not isinstance(var, Literal) and readers.setdefault(var, part) != part:
                readers[var] = None

    read(jaxpr.outvars, None)
    for eqn in reversed(jaxpr.eqns):
        part = _cadence(eqn)
        if may_have_effects(eqn):
            tags = list(tags_in(eqn))
            if any(reported.get(tag, part) != part for tag in tags):
                part = None
            reported.update(dict.fromkeys(tags, part))
        else:
            found = {readers[var] for var in eqn.outvars if var in readers}
            part = found.pop() if len(found) == 1 else None
        parts.append(part)
        read(eqn.invars, part)
    return parts[::-1]


def _cadence(eqn: JaxprEqn) -> int | None:
    """Return the cadence of a sampled report; None for any other equation."""
    if eqn.primitive is not report_p or eqn.params["stepped"]:
        return None
    spec: ReportSpec = eqn.params["spec"]
    return None if spec.every == 1 or spec.windowed else spec.every
