"""The rules of ``scan`` and ``while``."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from jaxboard import _compat
from jaxboard._frame import Packed
from jaxboard._reduce import WideInt, reducer
from jaxboard._trace import hijax
from jaxboard._trace.inspection import has_reports
from jaxboard._trace.masks import Mask
from jaxboard._trace.pack import Harvested, merge_same, pack, unpack
from jaxboard._trace.primitives import deliver
from jaxboard._trace.rules import streamed
from jaxboard._trace.rules.base import Evaluated, RuleContext
from jaxboard._trace.rules.body_reports import (
    PackedBody,
    abstract_reports,
    empty_like,
    with_array_weight,
)
from jaxboard._trace.rules.fallback import warn_of_callbacks

# --- scan -----------------------------------------------------------------------------------------


def scan(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Stack the reports of all iterations, one array for each dtype, and merge them afterwards."""
    params = hijax.params_of(eqn)
    loop = ScanLoop.from_eqn(eqn, operands)
    num_carry = len(loop.carry)
    options = {name: params[name] for name in ("length", "reverse", "unroll")}
    stream, context = context.stream, context._replace(stream=None)

    def iteration(
        step: Array | WideInt | None, carry: list[Array], xs: list[Array]
    ) -> tuple[list[Array], list[Array], list[Harvested]]:
        inner = context._replace(step=step)
        results, reports = inner.harvest(loop.body, loop.arguments(carry, xs))
        return results[:num_carry], results[num_carry:], reports

    if stream is not None:
        carry, ys = streamed.scan(stream, iteration, loop.carry, loop.xs, **options)
        return Evaluated([*carry, *ys], [])
    packed = PackedBody()

    def body(
        carry: list[Array], xs: list[Array]
    ) -> tuple[list[Array], tuple[list[Array], dict[str, Array]]]:
        carry, ys, reports = iteration(context.step, carry, xs)
        # Packed inside the body: one stacked result for each dtype instead of one for each report.
        return carry, (ys, packed.pack(reports))

    split_transpose = params.get("_split_transpose", False)
    carry, (ys, arrays) = lax.scan(
        body, loop.carry, loop.xs, **options, _split_transpose=split_transpose
    )
    if params["reverse"]:
        # In order of execution, for reducers that keep the last value.
        arrays = jax.tree.map(lambda x: x[::-1], arrays)
    stacked = packed.unpack(arrays) if params["length"] else []
    return Evaluated([*carry, *ys], [report.collapse("iteration") for report in stacked])


class ScanLoop(NamedTuple):
    """A ``scan`` equation with its operands.

    Attributes:
        body: the jaxpr of an iteration.
        is_scanned: for each argument of the body, whether it is an element of a scanned array.
        consts: the constants of the body.
        carry: the initial carry.
        xs: the scanned arrays.
    """

    body: ClosedJaxpr
    is_scanned: list[bool]
    consts: list[Array]
    carry: list[Array]
    xs: list[Array]

    @classmethod
    def from_eqn(cls, eqn: JaxprEqn, operands: list[Array]) -> ScanLoop:
        """Separate the operands of a scan."""
        is_scanned, num_carry = scan_layout(eqn)
        whole = [x for x, scanned in zip(operands, is_scanned, strict=True) if not scanned]
        xs = [x for x, scanned in zip(operands, is_scanned, strict=True) if scanned]
        num_consts = len(whole) - num_carry
        return cls(
            hijax.params_of(eqn)["jaxpr"], is_scanned, whole[:num_consts], whole[num_consts:], xs
        )

    def arguments(self, carry: list[Array], xs: list[Array]) -> list[Array]:
        """Return the arguments of the body in an iteration."""
        each, rest = iter(xs), iter([*self.consts, *carry])
        return [next(each if scanned else rest) for scanned in self.is_scanned]


def scan_layout(eqn: JaxprEqn) -> tuple[list[bool], int]:
    """Return for each operand of a scan whether it is scanned, and how many of the others, the last, are the carry.

    Compared by rank: the scanned arrays have one axis more outside of the body. The parameters that hold the
    counts have other names from JAX 0.12. With ``jax_scan3`` there is no carry: the body writes to Refs.
    """
    body, _ = _compat.open_jaxpr(hijax.params_of(eqn)["jaxpr"])
    ndim = lambda var: len(_compat.aval_of(var).shape)  # noqa: E731
    is_scanned = [ndim(x) != ndim(y) for x, y in zip(body.invars, eqn.invars, strict=True)]
    num_carry = sum(ndim(x) == ndim(y) for x, y in zip(body.outvars, eqn.outvars, strict=True))
    return is_scanned, num_carry


# --- while ----------------------------------------------------------------------------------------


def while_loop(eqn: JaxprEqn, operands: list[Array], context: RuleContext) -> Evaluated:
    """Carry an accumulator for each report through the loop, or stream it."""
    loop = WhileLoop.from_eqn(eqn, operands)
    stream, context = context.stream, context._replace(stream=None)
    if stream is not None and not (loop.is_batched or has_reports(loop.predicate)):
        return _stream(loop, stream, context)
    return _accumulate(loop, context)


class WhileLoop(NamedTuple):
    """A ``while`` equation with its operands.

    Attributes:
        predicate: (predicate_consts, carry) -> whether the loop is running.
        body: (body_consts, carry) -> the next carry.
        predicate_consts: the constants of the predicate.
        body_consts: the constants of the body.
        carry: the initial carry.
    """

    predicate: ClosedJaxpr
    body: ClosedJaxpr
    predicate_consts: list[Array]
    body_consts: list[Array]
    carry: list[Array]

    @classmethod
    def from_eqn(cls, eqn: JaxprEqn, operands: list[Array]) -> WhileLoop:
        """Split the operands of an equation into constants and carry."""
        params = eqn.params
        first = params["cond_nconsts"]
        second = first + params["body_nconsts"]
        return cls(
            params["cond_jaxpr"],
            params["body_jaxpr"],
            operands[:first],
            operands[first:second],
            operands[second:],
        )

    @property
    def is_batched(self) -> bool:
        """True if ``vmap`` gave each lane its own predicate.

        The loop then runs while any lane does, and lanes that have finished keep their values.
        """
        return bool(_compat.aval_of(_compat.open_jaxpr(self.predicate)[0].outvars[0]).shape)

    def evaluate_predicate(
        self, carry: list[Array], context: RuleContext
    ) -> tuple[Array, list[Harvested]]:
        """Return whether the loop, or each lane, is running, and the reports of the predicate."""
        (running,), reports = context.harvest(self.predicate, [*self.predicate_consts, *carry])
        return running, reports

    def is_running(self, carry: list[Array], context: RuleContext) -> Array:
        """Evaluate a predicate that has no reports."""
        return self.evaluate_predicate(carry, context)[0]

    def evaluate_body(self, carry: list[Array], context: RuleContext) -> Evaluated:
        """Return the next carry, and the reports of the body."""
        return context.harvest(self.body, [*self.body_consts, *carry])


def _stream(loop: WhileLoop, stream: streamed.Stream, context: RuleContext) -> Evaluated:
    carry = streamed.while_loop(
        stream,
        lambda carry: loop.is_running(carry, context),
        lambda step, carry: loop.evaluate_body(carry, context._replace(step=step)),
        loop.carry,
    )
    return Evaluated(list(carry), [])


def _accumulate(loop: WhileLoop, context: RuleContext) -> Evaluated:
    batched, predicate_reports = loop.is_batched, has_reports(loop.predicate)

    def iteration(running: Array, *carry: Array) -> Evaluated:
        """Return the next carry, whether the loop is running then, and the reports.

        ``running`` is whether it is running before. It is used only if lanes differ in it, or the predicate reports.
        """
        masks = (*context.masks, Mask(running, None)) if batched else context.masks
        inner = context._replace(masks=masks)
        results, reports = loop.evaluate_body(list(carry), inner)
        if batched:
            results = [select_lanes(running, *pair) for pair in zip(results, carry, strict=True)]
        if predicate_reports:
            # Evaluated at the end of an iteration, so as often as in the original loop.
            running, more = loop.evaluate_predicate(results, inner)
            reports = [*reports, *more]
        reports = _deliver_points(merge_same(reports))
        return Evaluated([*results, running], list(map(with_array_weight, reports)))

    running, first_reports = loop.evaluate_predicate(loop.carry, context)
    first_reports = _deliver_points(first_reports)
    empty = [empty_like(report) for report in abstract_reports(iteration, running, *loop.carry)]
    plan = pack(empty).plan

    def body(state: _State) -> _State:
        carry, running, arrays = state
        if running is None:
            running = loop.is_running(carry, context) if batched else jnp.array(True)
        (*results, running), reports = iteration(running, *carry)
        accumulators = unpack(Packed(plan, arrays))
        merged = [_merge(old, new) for old, new in zip(accumulators, reports, strict=True)]
        return _State(results, running if predicate_reports else None, pack(merged).arrays)

    def test(state: _State) -> Array:
        running = state.running
        if running is None:
            running = loop.is_running(state.carry, context)
        return running.any() if batched else running

    init = _State(loop.carry, running if predicate_reports else None, pack(empty).arrays)
    final = lax.while_loop(test, body, init)
    return Evaluated(final.carry, [*first_reports, *unpack(Packed(plan, final.arrays))])


def _merge(old: Harvested, new: Harvested) -> Harvested:
    """Merge a report of an iteration into its accumulator."""
    return Harvested(new.spec, reducer(new.spec).merge(old.state, new.state))


class _State(NamedTuple):
    """The state of a loop that accumulates.

    Attributes:
        carry: that of the original loop.
        running: whether the loop, or each lane, is running; None where the predicate has no reports and can be
            evaluated for each test.
        arrays: the accumulators, packed.
    """

    carry: list[Array]
    running: Array | None
    arrays: dict[str, Array]


def _deliver_points(reports: list[Harvested]) -> list[Harvested]:
    """Send the reports with steps of their own to the host, and return the others.

    Each iteration makes points of such a report, and the number of iterations is unknown.
    """
    points = [report for report in reports if report.step is not None]
    if points:
        warn_of_callbacks(
            "reports with step= in a while loop reach the host by a callback for each iteration",
            "the number of iterations, and so of points, isn't known (a scan's is)",
            [report.spec.tag for report in points],
        )
        deliver(pack(points), advance=None)
    return [report for report in reports if report.step is None]


def select_lanes(running: Array, new: Array, old: Array) -> Array:
    """Take the new values of the lanes that are running."""
    if jnp.issubdtype(new.dtype, jax.dtypes.extended):
        implementation = jax.random.key_impl(new)
        data = select_lanes(running, jax.random.key_data(new), jax.random.key_data(old))
        return jax.random.wrap_key_data(data, impl=implementation)
    return jnp.where(running.reshape(running.shape + (1,) * (new.ndim - running.ndim)), new, old)
