"""The harvest: evaluates a jaxpr so that its reports leave it as ordinary values.

Equations without a report are evaluated unchanged, in runs. An equation that contains a report goes to the
rule of its primitive (``rules/table.py``), which evaluates it with the reports threaded through as
additional results. A primitive without a rule stays in the program: its reports reach the host by callback,
and a warning names it once. ``README.md`` has an example.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
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
from jaxboard._trace.pack import Harvested, merge_same
from jaxboard._trace.rules.base import Evaluated, RuleContext
from jaxboard._trace.rules.body_reports import reports_if
from jaxboard._trace.rules.fallback import Unharvestable, warn_of_fallback
from jaxboard._trace.rules.streamed import Stream
from jaxboard._trace.rules.table import rule_of
from jaxboard._trace.sampled import sampled_parts


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
    step = None if context.stream is not None else context.step
    by_part = _segments(jaxpr.eqns, sampled_parts(jaxpr) if step is not None else None)
    conditional = {part: by_part[part] for part in by_part if part is not None}
    read_later = {var for var in jaxpr.outvars if not isinstance(var, Literal)}
    read_later.update(*map(_read, itertools.chain(*conditional.values())))
    env, reports = _evaluate_segments(by_part[None], env, read_later, jaxpr, context)
    results = [var.val if isinstance(var, Literal) else env[var] for var in jaxpr.outvars]
    if step is not None:
        inside = context._replace(step=None)

        def reports_of(segments: list[_Segment]) -> list[Harvested]:
            return _evaluate_segments(segments, env, set(), jaxpr, inside)[1]

        for cadence, segments in conditional.items():
            reports += reports_if(step % cadence == 0, functools.partial(reports_of, segments))
    return Evaluated(results, reports)


def _evaluate_segments(
    segments: list[_Segment],
    env: dict[Var, Array],
    read_later: set[Var],
    jaxpr: Jaxpr,
    context: RuleContext,
) -> tuple[dict[Var, Array], list[Harvested]]:
    """Evaluate segments of a jaxpr in order.

    Args:
        segments: the segments.
        env: the values of the variables that they read.
        read_later: the variables to return.
        jaxpr: the jaxpr.
        context: the context.

    Returns:
        The values of ``read_later``, and the reports.
    """
    reports = []
    for segment, live in zip(segments, _live_after(segments, read_later), strict=True):
        harvested = _evaluate_with_rule(segment, env, context) if segment.has_reports else None
        if harvested is None:
            values = _evaluate_unchanged(segment.eqns, env, live, jaxpr)
        else:
            values = dict(zip(segment.eqns[0].outvars, harvested.results, strict=True))
            if context.stream is None:
                reports.extend(harvested.reports)
            else:
                context.stream.add_outside(harvested.reports)
        # Values that are not read any more can be freed.
        env = {var: value for var, value in {**env, **values}.items() if var in live}
    return env, reports


def _evaluate_with_rule(
    segment: _Segment, env: dict[Var, Array], context: RuleContext
) -> Evaluated | None:
    """Evaluate the one equation of a segment; return None if its reports cannot be harvested."""
    (eqn,) = segment.eqns
    rule = rule_of(eqn)
    if rule is None:
        warn_of_fallback(eqn, "jaxboard has no rule for it")
        return None
    masks = tuple(Mask(env[var], outer_maps) for var, outer_maps in segment.predicates)
    context = context._replace(
        masks=context.masks + masks, stream=context.stream if rule.streams else None
    )
    try:
        with _compat.context_of(eqn):
            results, reports = rule.evaluate(eqn, [_operand(v, env) for v in eqn.invars], context)
        # The first computation made the reports of a recomputation.
        return Evaluated(results, [] if _compat.is_recomputation(eqn) else reports)
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


def _segments(
    eqns: Sequence[JaxprEqn], parts: Sequence[int | None] | None
) -> dict[int | None, list[_Segment]]:
    """Return the segments of each part of the equations, in order.

    Args:
        eqns: the equations.
        parts: the part of each equation (see :func:`sampled_parts`); None if all are in part None.
    """
    segments: dict[int | None, list[_Segment]] = {None: []}
    runs: dict[int | None, list[JaxprEqn]] = {}
    tracker = MappedCondTracker()
    for eqn, part in zip(eqns, parts or [None] * len(eqns), strict=True):
        predicates = tracker.predicates_of(eqn)
        if not eqn_has_reports(eqn):
            runs.setdefault(part, []).append(eqn)
            continue
        of_part = segments.setdefault(part, [])
        if part in runs:
            of_part.append(_Segment(runs.pop(part), has_reports=False))
        with_maps = tuple((var, tracker.outer_maps(var)) for var in predicates)
        of_part.append(_Segment([eqn], has_reports=True, predicates=with_maps))
    for part, run in runs.items():
        segments[part].append(_Segment(run, has_reports=False))
    return segments


def _live_after(segments: list[_Segment], read_later: set[Var]) -> list[set[Var]]:
    """Return for each segment the variables that are read after it."""
    live = set(read_later)
    live_after = []
    for segment in reversed(segments):
        live_after.append(set(live))
        live |= _read(segment)
    return live_after[::-1]


def _read(segment: _Segment) -> set[Var]:
    """Return the variables that a segment reads."""
    read = {v for eqn in segment.eqns for v in eqn.invars if not isinstance(v, Literal)}
    return read | {var for var, _ in segment.predicates}


def _evaluate_unchanged(
    eqns: list[JaxprEqn], env: dict[Var, Array], live: set[Var], jaxpr: Jaxpr
) -> dict[Var, Array]:
    """Evaluate some equations of a jaxpr as JAX does, and return the live results."""
    defined = {var for eqn in eqns for var in eqn.outvars}
    # A dict, because it keeps the order.
    read = {v: None for eqn in eqns for v in eqn.invars if not isinstance(v, Literal)}
    invars = [var for var in read if var not in defined]
    outvars = [var for eqn in eqns for var in eqn.outvars if var in live]
    part = _compat.make_jaxpr(invars, outvars, eqns, jaxpr)
    values = jax.core.eval_jaxpr(part, (), *[env[var] for var in invars])
    return dict(zip(outvars, values, strict=True))
