"""The harvest: evaluates a jaxpr so that what it reports comes out as values.

Equations without a report are evaluated as they are, in runs. One with a report in it goes to the rule of
its primitive (``rules.RULES``), which evaluates it with the reports threaded through as ordinary
results. A primitive without a rule is left alone: its reports reach the host by callback, and a warning
names it once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
import jax.core
import jax.extend.core as jex
import jax.numpy as jnp

from jaxboard import _compat
from jaxboard._errors import JaxboardWarning
from jaxboard._trace.pack import Harvested
from jaxboard._trace.primitive import deliver_p, report_p

Rule: TypeAlias = Callable[[Any, list[Any], list[Harvested], bool], list[Any]]
"""(equation, operands, where reports are put, whether the result is final) -> results."""

RULES: dict[str, Rule] = {}
"""By the primitive's name. Filled by ``rules``."""


class Unharvestable(Exception):  # noqa: N818 (no error: the reports take another way)
    """Raised by a rule for an equation that it has to leave alone."""


def harvest(
    jaxpr: Any, consts: Any, operands: Any, reports: list[Harvested], *, final: bool
) -> list[Any]:
    """Evaluates a jaxpr and appends what it reports to ``reports``.

    Args:
        jaxpr: an open jaxpr.
        consts: the values of its constants.
        operands: the values of its arguments.
        reports: appended to.
        final: nobody will differentiate the result, so functions with derivative rules of their own
            may be evaluated like others. Otherwise they stay.

    Returns:
        The results.
    """
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, operands, strict=True))

    def read(var: Any) -> Any:
        return var.val if isinstance(var, jex.Literal) else env[var]

    segments = list(_segments(jaxpr.eqns))
    for (eqns, reporting), alive in zip(segments, _alive_after(segments, jaxpr), strict=True):
        results = None
        if reporting:
            (eqn,) = eqns
            mine: list[Harvested] = []
            rule = RULES.get(eqn.primitive.name, _no_rule)
            try:
                with _compat.context_of(eqn):
                    values = [_operand(v, env) for v in eqn.invars]
                    results = rule(eqn, values, mine, final)
                reports.extend(mine)
            except Unharvestable as reason:
                _warn_left(eqn, reason)
        if results is None:
            _evaluate(eqns, env, alive, jaxpr.debug_info)
        else:
            env.update(zip(eqns[0].outvars, results, strict=True))
        # What nothing reads any more can be freed.
        env = {var: value for var, value in env.items() if var in alive}
    return [read(var) for var in jaxpr.outvars]


def _operand(var: Any, env: dict[Any, Any]) -> Any:
    if not isinstance(var, jex.Literal):
        return env[var]
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
    return [leaf for leaf in leaves if is_jaxpr(leaf)]


def _tags(eqn: Any) -> Iterator[str]:
    if eqn.primitive is report_p:
        yield eqn.params["spec"].tag
    elif eqn.primitive is deliver_p:
        yield from eqn.params["plan"].tags
    for inner in inner_jaxprs(eqn):
        for inner_eqn in _compat.open_jaxpr(inner)[0].eqns:
            yield from _tags(inner_eqn)


_warned: set[tuple[str, tuple[str, ...]]] = set()


def _warn_left(eqn: Any, reason: Unharvestable) -> None:
    tags = tuple(sorted(set(_tags(eqn))))
    key = (eqn.primitive.name, tags)
    if key not in _warned:
        _warned.add(key)
        warnings.warn(
            f"reports inside {eqn.primitive.name} reach the host by a callback each, which is slow: "
            f"{reason}. Tags: {', '.join(map(repr, tags))}.",
            JaxboardWarning,
            stacklevel=2,
        )


def _segments(eqns: Any) -> Iterator[tuple[list[Any], bool]]:
    """Equations in order: runs of those that report nothing, and those that do, one by one."""
    run: list[Any] = []
    for eqn in eqns:
        if reports_at(eqn):
            if run:
                yield run, False
            yield [eqn], True
            run = []
        else:
            run.append(eqn)
    if run:
        yield run, False


def _alive_after(segments: list[tuple[list[Any], bool]], jaxpr: Any) -> list[set[Any]]:
    """For each segment, the variables that are read after it."""
    alive = {var for var in jaxpr.outvars if not isinstance(var, jex.Literal)}
    after = []
    for eqns, _ in reversed(segments):
        after.append(set(alive))
        alive.update(v for eqn in eqns for v in eqn.invars if not isinstance(v, jex.Literal))
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
