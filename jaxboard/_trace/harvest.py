"""The harvest: evaluates a jaxpr so that what it reports comes out as values.

Equations without a report are evaluated as they are, in runs. One with a report in it goes to the rule of
its primitive (``rules.RULES``), which evaluates it with the reports threaded through as ordinary
results. A primitive without a rule is left alone: its reports reach the host by callback, and a warning
names it once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.core
import jax.extend.core as jex
import jax.numpy as jnp

from jaxboard import _compat
from jaxboard._errors import JaxboardWarning
from jaxboard._trace.masks import MappedCondTracker, Mask
from jaxboard._trace.pack import Harvested
from jaxboard._trace.primitives import deliver_p, report_p
from jaxboard._trace.rules.streamed import Stream


class RuleContext(NamedTuple):
    """What a rule has to know of what surrounds its equation.

    Attributes:
        final: nobody will differentiate the result, so functions with derivative rules of their own
            may be evaluated like others. Otherwise that is left open; see ``undecided``.
        masks: which lanes of the equation count; see ``lanes``.
        step: the step of the call, where the program itself has to see what is due; else None.
        stream: where the loops that are met are to be streamed; see ``stream``.
    """

    final: bool
    masks: tuple[Any, ...] = ()
    step: Any = None
    stream: Stream | None = None


Rule: TypeAlias = Callable[[Any, list[Any], list[Harvested], RuleContext], list[Any]]
"""(equation, operands, where reports are put, what surrounds it) -> results."""

_CLOSED = ("checkpoint", "shard_map")
"""Primitives whose body can't take a value from around it."""

_IN_PLACE = ("jit", "pjit", "closed_call", "core_call", "custom_jvp_call", "custom_vjp_call")
_STREAMED = (*_IN_PLACE, "scan", "while")
"""The loops that can be streamed, and what is evaluated in place: a loop in it is still the outermost."""

RULES: dict[str, Rule] = {}
"""By the primitive's name. Filled by ``rules``."""


class Unharvestable(Exception):  # noqa: N818 (no error: the reports take another way)
    """Raised by a rule for an equation that it has to leave alone."""


def harvest(
    jaxpr: Any, consts: Any, operands: Any, reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    """Evaluates a jaxpr and appends what it reports to ``reports``.

    Args:
        jaxpr: an open jaxpr.
        consts: the values of its constants.
        operands: the values of its arguments.
        reports: appended to.
        setting: what surrounds the jaxpr.

    Returns:
        The results.
    """
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, operands, strict=True))

    def read(var: Any) -> Any:
        return var.val if isinstance(var, jex.Literal) else env[var]

    segments = list(_segments(jaxpr.eqns))
    for segment, alive in zip(segments, _alive_after(segments, jaxpr), strict=True):
        results = None
        if segment.reports:
            (eqn,) = segment.eqns
            mine: list[Harvested] = []
            rule = RULES.get(eqn.primitive.name, _no_rule)
            masks = tuple(Mask(env[var], outside) for var, outside in segment.predicates)
            try:
                with _compat.context_of(eqn):
                    values = [_operand(v, env) for v in eqn.invars]
                    inside = setting._replace(masks=setting.masks + masks)
                    if eqn.primitive.name in _CLOSED:
                        inside = inside._replace(step=None)
                    if eqn.primitive.name not in _STREAMED:
                        inside = inside._replace(stream=None)
                    results = rule(eqn, values, mine, inside)
                reports.extend(mine)
            except Unharvestable as reason:
                warn_left(eqn, reason)
        if results is None:
            _evaluate(segment.eqns, env, alive, jaxpr.debug_info)
        else:
            env.update(zip(segment.eqns[0].outvars, results, strict=True))
        # What nothing reads any more can be freed.
        env = {var: value for var, value in env.items() if var in alive}
    return [read(var) for var in jaxpr.outvars]


def _operand(var: Any, env: dict[Any, Any]) -> Any:
    if not isinstance(var, jex.Literal):
        value = env[var]
        # A constant may be of a type of JAX's own, which has less than an array.
        return value if isinstance(value, jax.Array) else jnp.asarray(value)
    # A literal is a Python number, and would forget its dtype.
    aval: Any = var.aval
    return jnp.asarray(var.val, aval.dtype)


def _no_rule(*_: Any) -> list[Any]:
    raise Unharvestable("jaxboard has no rule for it")


def reports_in(jaxpr: Any) -> bool:
    """Whether a jaxpr reports anything, at any depth."""
    return any(reports_at(eqn) for eqn in _compat.open_jaxpr(jaxpr)[0].eqns)


def reports_at(eqn: Any) -> bool:
    """Whether an equation reports anything, at any depth."""
    return eqn.primitive in (report_p, deliver_p) or any(map(reports_in, inner_jaxprs(eqn)))


def inner_jaxprs(eqn: Any) -> list[Any]:
    """The jaxprs among the parameters of an equation."""
    is_jaxpr = lambda x: isinstance(x, _compat.JAXPR_TYPES)  # noqa: E731
    leaves = jax.tree.leaves(list(eqn.params.values()), is_leaf=is_jaxpr)
    return [leaf for leaf in leaves if is_jaxpr(leaf)] + _compat.hidden_jaxprs(eqn)


def _tags(eqn: Any) -> Iterator[str]:
    if eqn.primitive is report_p:
        yield eqn.params["spec"].tag
    elif eqn.primitive is deliver_p:
        yield from eqn.params["plan"].tags
    for inner in inner_jaxprs(eqn):
        for inner_eqn in _compat.open_jaxpr(inner)[0].eqns:
            yield from _tags(inner_eqn)


_warned: set[tuple[str, tuple[str, ...]]] = set()


def warn_left(eqn: Any, reason: Any) -> None:
    """Says, once for each set of tags, that the reports of an equation take the slow way, and why."""
    warn_of_callbacks(
        f"reports inside {eqn.primitive.name} reach the host by a callback each", reason, _tags(eqn)
    )


def warn_of_callbacks(what: str, reason: Any, tags: Iterable[str]) -> None:
    """Says, once for each set of tags, that reports take the slow way, and why."""
    named = tuple(sorted(set(tags)))
    if (what, named) not in _warned:
        _warned.add((what, named))
        warnings.warn(
            f"{what}, which is slow: {reason}. Tags: {', '.join(map(repr, named))}.",
            JaxboardWarning,
            stacklevel=2,
        )


class _Segment(NamedTuple):
    """Equations that are evaluated together.

    Attributes:
        eqns: one that reports, or a run of those that don't.
        reports: which of the two.
        predicates: the variables that hold which lanes count, and how many maps are around those.
    """

    eqns: list[Any]
    reports: bool
    predicates: tuple[tuple[Any, int], ...] = ()


def _segments(eqns: Any) -> Iterator[_Segment]:
    """The equations in order."""
    run: list[Any] = []
    branches = MappedCondTracker()
    for eqn in eqns:
        predicates = branches.of(eqn)
        if reports_at(eqn):
            if run:
                yield _Segment(run, reports=False)
            placed = tuple((var, branches.outside(var)) for var in predicates)
            yield _Segment([eqn], reports=True, predicates=placed)
            run = []
        else:
            run.append(eqn)
    if run:
        yield _Segment(run, reports=False)


def _alive_after(segments: list[_Segment], jaxpr: Any) -> list[set[Any]]:
    """For each segment, the variables that are read after it."""
    alive = {var for var in jaxpr.outvars if not isinstance(var, jex.Literal)}
    after = []
    for segment in reversed(segments):
        after.append(set(alive))
        read = (var for eqn in segment.eqns for var in eqn.invars)
        alive.update(var for var in read if not isinstance(var, jex.Literal))
        alive.update(var for var, _ in segment.predicates)
    return after[::-1]


def _evaluate(eqns: list[Any], env: dict[Any, Any], alive: set[Any], debug_info: Any) -> None:
    """Evaluates equations as they are."""
    made = {var for eqn in eqns for var in eqn.outvars}
    read = {v: None for e in eqns for v in e.invars if not isinstance(v, jex.Literal)}
    given = [var for var in read if var not in made]
    wanted = [var for eqn in eqns for var in eqn.outvars if var in alive]
    jaxpr = _compat.make_jaxpr(given, wanted, eqns, debug_info)
    values = jax.core.eval_jaxpr(jaxpr, (), *[env[var] for var in given])
    env.update(zip(wanted, values, strict=True))
