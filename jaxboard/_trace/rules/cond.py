"""The rule of ``cond``, ``switch`` and ``platform_dependent``."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxboard import _compat
from jaxboard._trace.pack import Harvested, merge_same
from jaxboard._trace.rules.base import Evaluated, RuleContext
from jaxboard._trace.rules.body_reports import (
    PackedBody,
    abstract_reports,
    empty_like,
    varying_axes,
    with_array_weight,
)


def cond(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Return from each branch the reports of all branches; one that it does not make itself has no weight."""
    index, *operands = operands
    branches = [_branch(closed, context) for closed in eqn.params["branches"]]
    templates: dict[Hashable, Harvested] = {}
    axes: dict[Hashable, frozenset[str]] = {}
    for branch in branches:
        for key, report in _by_key(abstract_reports(branch, *operands)).items():
            templates.setdefault(key, report)
            varying = varying_axes(report) | _compat.varying(index)
            axes[key] = axes.get(key, frozenset()) | varying
    body = PackedBody()

    def padded(branch: Callable[..., Evaluated]) -> Callable[..., Any]:
        def call(*operands: Array) -> tuple[list[Array], dict[str, Array]]:
            results, reports = branch(*operands)
            made = _by_key(reports)
            every = [
                with_array_weight(made[key], axes[key])
                if key in made
                else empty_like(template, axes[key])
                for key, template in templates.items()
            ]
            return results, body.pack(every)

        return call

    select = select_branch(eqn.params.get("branches_platforms"), index)
    results, arrays = select([padded(branch) for branch in branches], *operands)
    return Evaluated(results, body.unpack(arrays))


def select_branch(
    platforms: tuple[tuple[str, ...] | None, ...] | None, index: Array
) -> Callable[..., Any]:
    """Return the function that calls one of the branches: by index, or by the platform compiled for."""

    def by_platform(branches: list[Callable[..., Any]], *operands: Array) -> Any:
        by_name = {}
        for names, branch in zip(platforms or (), branches, strict=True):
            by_name.update(dict.fromkeys(("default",) if names is None else names, branch))
        return lax.platform_dependent(*operands, **by_name)

    def by_index(branches: list[Callable[..., Any]], *operands: Array) -> Any:
        return lax.switch(index, branches, *operands)

    return by_index if platforms is None else by_platform


def _branch(closed: ClosedJaxpr, context: RuleContext) -> Callable[..., Evaluated]:
    def branch(*operands: Array) -> Evaluated:
        results, reports = context.harvest(closed, operands)
        return Evaluated(results, list(map(with_array_weight, merge_same(reports))))

    return branch


def _by_key(reports: list[Harvested]) -> dict[Hashable, Harvested]:
    """Return reports by what identifies one across branches: its spec and the shapes of its arrays.

    A report with steps of its own is also identified by its position, because such reports do not merge.
    """
    keyed = {}
    for position, report in enumerate(reports):
        arrays = jax.tree.leaves((report.state, report.step))
        shapes = tuple((x.shape, str(jnp.result_type(x))) for x in arrays)
        keyed[report.spec, shapes, None if report.step is None else position] = report
    return keyed
