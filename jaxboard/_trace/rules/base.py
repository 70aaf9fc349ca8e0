"""The types of the rules: what a rule is, what it receives and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from jaxboard import _compat
from jaxboard._reduce import WideInt
from jaxboard._trace.masks import Mask
from jaxboard._trace.pack import Harvested
from jaxboard._trace.rules.streamed import Stream


class Evaluated(NamedTuple):
    """An equation or a jaxpr after its evaluation.

    Attributes:
        results: the values of its output variables.
        reports: the reports that were made, in order.
    """

    results: list[Array]
    reports: list[Harvested]


class RuleContext(NamedTuple):
    """The surroundings of an equation, as its rule sees them.

    Attributes:
        evaluate: evaluates a jaxpr. Rules call :meth:`harvest`.
        final: whether the results will not be differentiated. A function with a custom derivative rule may
            then be evaluated like any other; otherwise see :mod:`.differentiable`.
        masks: which lanes of the equation count.
        step: the step of the call, if the program skips sampled reports that are not due; else None.
        stream: where outermost loops are streamed; None if they are not.
    """

    evaluate: Callable[[Jaxpr, Sequence[Array], Sequence[Array], RuleContext], Evaluated]
    final: bool
    masks: tuple[Mask, ...] = ()
    step: Array | WideInt | None = None
    stream: Stream | None = None

    def harvest(self, jaxpr: Jaxpr | ClosedJaxpr, operands: Sequence[Array]) -> Evaluated:
        """Evaluate the body of an equation in this context."""
        body, consts = _compat.open_jaxpr(jaxpr)
        return self.evaluate(body, consts, operands, self)


Evaluate: TypeAlias = Callable[[JaxprEqn, list[Array], RuleContext], Evaluated]
"""(equation, operands, context) -> its results and its reports."""


class Rule(NamedTuple):
    """Everything that the harvest knows about a primitive.

    Attributes:
        evaluate: evaluates an equation of the primitive that contains reports.
        streams: whether the rule accepts ``RuleContext.stream``: it is a loop that can be streamed, or it
            evaluates its body in place, so that an outermost loop in the body is still outermost.
    """

    evaluate: Evaluate
    streams: bool = False
