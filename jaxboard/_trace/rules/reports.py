"""The rules of jaxboard's own primitives: where the recursion of the harvest ends."""

from __future__ import annotations

from jax import Array
from jax.extend.core import JaxprEqn

from jaxboard import _compat
from jaxboard._frame import ReportSpec
from jaxboard._trace.pack import Harvested
from jaxboard._trace.primitives import accumulate, unpack_operands
from jaxboard._trace.rules.base import Evaluated, RuleContext
from jaxboard._trace.rules.body_reports import reports_if, vary_together


def report(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Start the accumulator of a report, in a branch if the program knows whether it is due."""
    spec: ReportSpec = eqn.params["spec"]

    def make_report() -> Harvested:
        return accumulate(operands, context.masks, **eqn.params)

    sampled = spec.every > 1 and not (spec.windowed or eqn.params["stepped"])
    if sampled and context.step is not None:
        (harvested,) = reports_if(context.step % spec.every == 0, lambda: [make_report()])
    else:
        harvested = make_report()
    # A weight that is a constant is still one for each device along the axes that the value varies along.
    axes = frozenset().union(*map(_compat.varying, operands))
    return Evaluated([], [vary_together(harvested, axes) if axes else harvested])


def deliver(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Return the reports of a frame that an inner instrumented function would have delivered."""
    return Evaluated([], unpack_operands(operands, eqn.params["plan"]))
