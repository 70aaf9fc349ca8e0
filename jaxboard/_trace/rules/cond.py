"""The rule of ``cond``, ``switch`` and ``platform_dependent``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxboard import _compat
from jaxboard._frame import Packed
from jaxboard._trace.harvest import RuleContext, harvest
from jaxboard._trace.pack import Harvested, merge_same, unpack
from jaxboard._trace.rules.bodies import (
    abstract_reports,
    empty_like,
    packed_reports,
    varying_axes,
    with_array_weight,
)


def cond(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    """Each branch gives all that any branch reports; what it doesn't report itself has no weight."""
    index, *operands = operands
    bodies = [_branch(branch, setting) for branch in eqn.params["branches"]]
    known: dict[Any, Harvested] = {}
    axes: dict[Any, frozenset[str]] = {}
    for body in bodies:
        for report, key in _keyed(abstract_reports(body, *operands)):
            known.setdefault(key, report)
            own = varying_axes(report) | _compat.varying(index)
            axes[key] = axes.get(key, frozenset()) | own
    cell: dict[str, Any] = {}

    def padded(body: Any) -> Any:
        def branch(*operands: Any) -> Any:
            mine: list[Harvested] = []
            results = body(mine, *operands)
            own = {key: report for report, key in _keyed(mine)}
            every = [
                with_array_weight(own[key], axes[key])
                if key in own
                else empty_like(like, axes[key])
                for key, like in known.items()
            ]
            return results, packed_reports(every, cell)

        return branch

    chosen = _choice(eqn.params.get("branches_platforms"), index)
    results, arrays = chosen([padded(body) for body in bodies], *operands)
    reports.extend(unpack(Packed(cell["plan"], arrays)))
    return results


def _choice(platforms: Any, index: Any) -> Callable[..., Any]:
    """How one of several branches is called: by index, or by the platform that is compiled for."""

    def by_platform(branches: list[Any], *operands: Any) -> Any:
        named = {}
        for names, branch in zip(platforms, branches, strict=True):
            named.update(dict.fromkeys(("default",) if names is None else names, branch))
        return lax.platform_dependent(*operands, **named)

    def by_index(branches: list[Any], *operands: Any) -> Any:
        return lax.switch(index, branches, *operands)

    return by_index if platforms is None else by_platform


def _branch(closed: Any, setting: RuleContext) -> Callable[..., list[Any]]:
    jaxpr, consts = _compat.open_jaxpr(closed)

    def body(mine: list[Harvested], *operands: Any) -> list[Any]:
        found: list[Harvested] = []
        results = harvest(jaxpr, consts, operands, found, setting)
        mine.extend(map(with_array_weight, merge_same(found)))
        return results

    return body


def _keyed(reports: list[Harvested]) -> list[tuple[Harvested, Any]]:
    """Reports with what tells them apart: what they are, and the shapes of what they hold."""
    keys = []
    for place, report in enumerate(reports):
        arrays = jax.tree.leaves((report.state, report.step))
        shapes = tuple((x.shape, str(jnp.result_type(x))) for x in arrays)
        keys.append((report, (report.spec, shapes, None if report.step is None else place)))
    return keys
