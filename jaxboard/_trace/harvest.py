"""The harvest: evaluates a jaxpr so that its reports leave it as ordinary values.

Equations without a report are evaluated unchanged, in runs. An equation that contains a report goes to the
rule of its primitive (``rules.table.RULES``), which evaluates it with the reports threaded through as
additional results. A primitive without a rule stays in the program: its reports reach the host by callback,
and a warning names it once. ``README.md`` has an example.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from jaxboard import _compat
from jaxboard._reduce import WideInt
from jaxboard._trace.inspection import eqn_has_reports
from jaxboard._trace.masks import MappedCondTracker, Mask
from jaxboard._trace.pack import merge_same
from jaxboard._trace.rules.base import Evaluated, RuleContext
from jaxboard._trace.rules.fallback import Unharvestable, warn_of_fallback
from jaxboard._trace.rules.streamed import Stream
from jaxboard._trace.rules.table import RULES


def harvest(
    closed: Jaxpr | ClosedJaxpr,
    operands: Sequence[Array],
    *,
    final: bool,
    step: Array | WideInt | None = None,
    stream: Stream | None = None,
) -> Evaluated:
    """Evaluate a jaxpr: its results and its reports, with repeated reports merged.

    Args:
        closed: the jaxpr with its constants.
        operands: the values of its arguments.
        final: whether the results will not be differentiated.
        step: the step of the call, if the program skips sampled reports that are not due.
        stream: where to stream the outermost loops; None to evaluate them as part of the call. It also receives the
            reports outside of those loops, and none are returned.
    """
    context = RuleContext(_evaluate, final, step=step, stream=stream)
    results, reports = context.harvest(closed, operands)
    return Evaluated(results, merge_same(reports))


def _evaluate(
    jaxpr: Jaxpr, consts: Sequence[Array], operands: Sequence[Array], context: RuleContext
) -> Evaluated:
    """Evaluate an open jaxpr in a context. Every rule calls this for the bodies of its equation."""
    env: dict[Var, Array] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, operands, strict=True))
    reports = []
    segments = list(_segments(jaxpr.eqns))
    for segment, live in zip(segments, _live_after(segments, jaxpr), strict=True):
        harvested = _evaluate_with_rule(segment, env, context) if segment.has_reports else None
        if harvested is None:
            _evaluate_unchanged(segment.eqns, env, live, jaxpr)
        else:
            env.update(zip(segment.eqns[0].outvars, harvested.results, strict=True))
            if context.stream is None:
                reports.extend(harvested.reports)
            else:
                context.stream.add_outside(harvested.reports)
        # Values that are not read any more can be freed.
        env = {var: value for var, value in env.items() if var in live}
    results = [var.val if isinstance(var, Literal) else env[var] for var in jaxpr.outvars]
    return Evaluated(results, reports)


def _evaluate_with_rule(
    segment: _Segment, env: dict[Var, Array], context: RuleContext
) -> Evaluated | None:
    """Evaluate the one equation of a segment; return None if its reports cannot be harvested."""
    (eqn,) = segment.eqns
    rule = RULES.get(eqn.primitive.name)
    if rule is None:
        warn_of_fallback(eqn, "jaxboard has no rule for it")
        return None
    masks = tuple(Mask(env[var], outer_maps) for var, outer_maps in segment.predicates)
    context = context._replace(
        masks=context.masks + masks, stream=context.stream if rule.streams else None
    )
    try:
        with _compat.context_of(eqn):
            return rule.evaluate(eqn, [_operand(var, env) for var in eqn.invars], context)
    except Unharvestable as reason:
        warn_of_fallback(eqn, reason)
        return None


def _operand(var: Var | Literal, env: dict[Var, Array]) -> Array:
    if isinstance(var, Literal):
        # A literal may be a Python number, which has no dtype.
        return jnp.asarray(var.val, _compat.aval_of(var).dtype)
    value = env[var]
    # A constant may be of a type internal to JAX, with fewer methods than an array; a Ref stays one.
    return value if isinstance(value, jax.Array | jax.Ref) else jnp.asarray(value)


class _Segment(NamedTuple):
    """Equations that are evaluated together.

    Attributes:
        eqns: one equation with reports, or a run of equations without.
        has_reports: whether it is the former.
        predicates: the predicates of the mapped branches around the equation, bool variables over lanes, each
            with the number of maps around those lanes.
    """

    eqns: list[JaxprEqn]
    has_reports: bool
    predicates: tuple[tuple[Var, int], ...] = ()


def _segments(eqns: Iterable[JaxprEqn]) -> Iterator[_Segment]:
    """Yield the equations in order, grouped into segments."""
    run: list[JaxprEqn] = []
    tracker = MappedCondTracker()
    for eqn in eqns:
        predicates = tracker.predicates_of(eqn)
        if eqn_has_reports(eqn):
            if run:
                yield _Segment(run, has_reports=False)
            with_maps = tuple((var, tracker.outer_maps(var)) for var in predicates)
            yield _Segment([eqn], has_reports=True, predicates=with_maps)
            run = []
        else:
            run.append(eqn)
    if run:
        yield _Segment(run, has_reports=False)


def _live_after(segments: list[_Segment], jaxpr: Jaxpr) -> list[set[Var]]:
    """Return for each segment the variables that are read after it."""
    live = {var for var in jaxpr.outvars if not isinstance(var, Literal)}
    live_after = []
    for segment in reversed(segments):
        live_after.append(set(live))
        for eqn in segment.eqns:
            live.update(var for var in eqn.invars if not isinstance(var, Literal))
        live.update(var for var, _ in segment.predicates)
    return live_after[::-1]


def _evaluate_unchanged(
    eqns: list[JaxprEqn], env: dict[Var, Array], live: set[Var], jaxpr: Jaxpr
) -> None:
    """Evaluate some equations of a jaxpr as JAX does, and add the live results to ``env``."""
    defined = {var for eqn in eqns for var in eqn.outvars}
    # A dict, because it keeps the order.
    read = {v: None for eqn in eqns for v in eqn.invars if not isinstance(v, Literal)}
    invars = [var for var in read if var not in defined]
    outvars = [var for eqn in eqns for var in eqn.outvars if var in live]
    part = _compat.make_jaxpr(invars, outvars, eqns, jaxpr)
    values = jax.core.eval_jaxpr(part, (), *[env[var] for var in invars])
    env.update(zip(outvars, values, strict=True))
