"""The rules of ``scan`` and ``while``."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxboard import _compat
from jaxboard._frame import Packed
from jaxboard._reduce import reducer
from jaxboard._trace.harvest import RuleContext, harvest, reports_in, warn_of_callbacks
from jaxboard._trace.masks import Mask
from jaxboard._trace.pack import Harvested, merge_same, pack, unpack
from jaxboard._trace.primitives import deliver
from jaxboard._trace.rules import streamed
from jaxboard._trace.rules.bodies import (
    abstract_reports,
    empty_like,
    packed_reports,
    with_array_weight,
)


def scan(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    """One stacked array of reports for each dtype, merged along the iterations afterwards."""
    params = eqn.params
    jaxpr, consts = _compat.open_jaxpr(params["jaxpr"])
    # Told by rank rather than by parameters, which JAX renamed in 0.12.
    scanned = sum(v.aval.ndim != o.aval.ndim for v, o in zip(jaxpr.invars, eqn.invars, strict=True))
    carried = sum(
        v.aval.ndim == o.aval.ndim for v, o in zip(jaxpr.outvars, eqn.outvars, strict=True)
    )
    fixed = len(operands) - scanned - carried
    start, rows = operands[fixed : fixed + carried], operands[fixed + carried :]
    how = {name: params[name] for name in ("length", "reverse", "unroll")}
    inner = setting._replace(stream=None)

    def iteration(step: Any, carry: Any, xs: Any) -> Any:
        mine: list[Harvested] = []
        given = [*operands[:fixed], *carry, *xs]
        results = harvest(jaxpr, consts, given, mine, inner._replace(step=step))
        return results[:carried], results[carried:], mine

    if setting.stream is not None:
        carry, ys = streamed.scan(setting.stream, iteration, start, rows, **how)
        return [*carry, *ys]
    cell: dict[str, Any] = {}

    def body(carry: Any, xs: Any) -> Any:
        carry, ys, mine = iteration(setting.step, carry, xs)
        # Packed inside the body: one stacked result instead of one for each report.
        return carry, (ys, packed_reports(mine, cell))

    carry, (ys, arrays) = lax.scan(
        body,
        start,
        rows,
        **how,
        _split_transpose=params.get("_split_transpose", False),
    )
    if params["reverse"]:  # the iteration that ran last has to be the last
        arrays = jax.tree.map(lambda x: x[::-1], arrays)
    if params["length"]:
        reports.extend(report.collapse() for report in unpack(Packed(cell["plan"], arrays)))
    return [*carry, *ys]


def while_loop(
    eqn: Any, operands: list[Any], reports: list[Harvested], setting: RuleContext
) -> list[Any]:
    """The accumulators ride in the carry."""
    params = eqn.params
    test, test_consts = _compat.open_jaxpr(params["cond_jaxpr"])
    jaxpr, consts = _compat.open_jaxpr(params["body_jaxpr"])
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
    test_fixed, fixed, carry = operands[:first], operands[first:second], operands[second:]
    test_reports = reports_in(test)
    # vmap leaves a predicate for each lane: the loop goes on while one holds, and lanes that are done
    # keep their values.
    batched = bool(test.outvars[0].aval.shape)

    def goes_on(carry: Any, mine: list[Harvested], setting: RuleContext) -> Any:
        (alive,) = harvest(test, test_consts, [*test_fixed, *carry], mine, setting)
        return alive

    if setting.stream is not None and not (test_reports or batched):
        inner = setting._replace(stream=None)

        def iteration(step: Any, carry: Any) -> Any:
            mine: list[Harvested] = []
            given = [*fixed, *carry]
            return harvest(jaxpr, consts, given, mine, inner._replace(step=step)), mine

        return streamed.while_loop(
            setting.stream, lambda carry: goes_on(carry, [], inner), iteration, carry
        )
    setting = setting._replace(stream=None)

    def trip(mine: list[Harvested], alive: Any, *carry: Any) -> Any:
        found: list[Harvested] = []
        masks = (*setting.masks, Mask(alive, None)) if batched else setting.masks
        inside = setting._replace(masks=masks)
        results = harvest(jaxpr, consts, [*fixed, *carry], found, inside)
        if batched:
            results = [_select(alive, new, old) for new, old in zip(results, carry, strict=True)]
        # Where the predicate reports, it is evaluated at the end of a trip, and so as often as before.
        alive = goes_on(results, found, inside) if test_reports else alive
        merged = merge_same(found)
        _deliver_points([report for report in merged if report.step is not None])
        mine.extend(with_array_weight(report) for report in merged if report.step is None)
        return results, alive

    before: list[Harvested] = []
    alive = goes_on(carry, before, setting)
    _deliver_points([report for report in before if report.step is not None])
    reports.extend(report for report in before if report.step is None)
    empty = [empty_like(report) for report in abstract_reports(trip, alive, *carry)]
    plan = pack(empty).plan

    def body(state: Any) -> Any:
        carry, alive, arrays = state
        if not test_reports:
            alive = goes_on(carry, [], setting) if batched else None
        mine: list[Harvested] = []
        results, alive = trip(mine, alive, *carry)
        merged = [
            Harvested(new.spec, reducer(new.spec).merge(old.state, new.state))
            for old, new in zip(unpack(Packed(plan, arrays)), mine, strict=True)
        ]
        return results, alive if test_reports else None, pack(merged).arrays

    def test_of(state: Any) -> Any:
        alive = state[1] if test_reports else goes_on(state[0], [], setting)
        return alive.any() if batched else alive

    start = (list(carry), alive if test_reports else None, pack(empty).arrays)
    results, _, arrays = lax.while_loop(test_of, body, start)
    reports.extend(unpack(Packed(plan, arrays)))
    return results


def _deliver_points(points: list[Harvested]) -> None:
    """Sends points with steps of their own: how many trips there will be isn't known."""
    if points:
        tags = [report.spec.tag for report in points]
        warn_of_callbacks(
            "reports with step= in a while loop reach the host by a callback for each trip",
            "the number of trips, and so of points, isn't known (a scan's is)",
            tags,
        )
        deliver(pack(points), advance=None)


def _select(mask: Any, new: Any, old: Any) -> Any:
    if jnp.issubdtype(new.dtype, jax.dtypes.extended):
        implementation = jax.random.key_impl(new)
        data = _select(mask, jax.random.key_data(new), jax.random.key_data(old))
        return jax.random.wrap_key_data(data, impl=implementation)
    return jnp.where(mask.reshape(mask.shape + (1,) * (new.ndim - mask.ndim)), new, old)
