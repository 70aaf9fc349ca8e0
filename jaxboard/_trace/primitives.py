"""The two primitives: a report, where the user wrote it, and the delivery of a frame to the host.

``report`` carries the raw values and keeps one meaning under every transformation: its JVP reports the
primal, batching moves the mapped axis to the front (the reducer merges it), and remat runs it once (JAX's
rule for effects). The harvest takes reports out of a program. A report that stays lowers to a ``deliver``, which
calls the host.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxboard import _compat
from jaxboard._frame import Composite, Entry, Frame, Packed, Plan, ReportSpec, Target
from jaxboard._host.active_channel import active, tracing_target
from jaxboard._host.callbacks import callbacks
from jaxboard._host.channel import open_channel
from jaxboard._reduce import StackAxis
from jaxboard._trace import context
from jaxboard._trace.arrival import Caller, TracingCaller, arrive
from jaxboard._trace.masks import (
    Mask,
    differing_devices,
    masked_weight,
    spread_over_devices,
)
from jaxboard._trace.pack import Harvested, pack, start_accumulator, unpack

# --- The effect and the rules of both -------------------------------------------------------------


class ReportEffect(jax.debug.DebugEffect):
    """The effect of a report: JAX allows a debug effect in control flow, remat and custom derivatives."""

    def __str__(self) -> str:
        return "Report"


REPORT_EFFECT = ReportEffect()


def _abstract_eval(
    *avals: jax.core.AbstractValue, **params: object
) -> tuple[list[jax.core.AbstractValue], set[Any]]:
    return [], {REPORT_EFFECT}


def _of_primals(
    primitive: Primitive, primals: Sequence[Array], tangents: object, **params: Any
) -> tuple[list[Array], list[Array]]:
    """Bind a primitive to the primals: its rule for JVPs, and for Taylor mode."""
    primitive.bind(*primals, **params)
    return [], []


def _no_cotangents(cotangents: object, *operands: Array, **params: object) -> list[None]:
    return [None] * len(operands)


def _register(primitive: Primitive) -> None:
    """Register the rules that both primitives share."""
    primitive.multiple_results = True
    primitive.def_effectful_abstract_eval(_abstract_eval)
    ad.primitive_jvps[primitive] = functools.partial(_of_primals, primitive)
    ad.primitive_transposes[primitive] = _no_cotangents


# --- The report -----------------------------------------------------------------------------------

report_p = Primitive("jaxboard_report")
_register(report_p)


def report(
    spec: ReportSpec, value: Any, weight: Array | None = None, step: Array | None = None
) -> None:
    """Report a device array, traced or not."""
    _compat.register_jet_rule(report_p, ad.primitive_jvps[report_p])
    operands = [x for x in (value, weight, step) if x is not None]
    report_p.bind(*operands, spec=spec, weighted=weight is not None, stepped=step is not None)


def accumulate(
    operands: Sequence[Array],
    masks: tuple[Mask, ...] = (),
    *,
    spec: ReportSpec,
    weighted: bool,
    stepped: bool,
    outermost: StackAxis = "lane",
) -> Harvested:
    """Start the accumulator of a report equation, for the lanes that count.

    Args:
        operands: the value, its weight if ``weighted`` and its step if ``stepped``.
        masks: which lanes count.
        spec: the report.
        weighted: see above.
        stepped: see above.
        outermost: what the outermost axis of lanes stands for.
    """
    value, *rest = operands
    weight = masked_weight(masks, value, rest.pop(0) if weighted else None, spec)
    step = rest.pop(0) if stepped else None
    return start_accumulator(spec, value, weight, step, outermost)


@report_p.def_impl
def _report_impl(*operands: Array, spec: ReportSpec, weighted: bool, stepped: bool) -> list[Array]:
    target = spec.target
    channel = active() if target is None else open_channel(target) or active()
    if channel is not None and channel.selection is not None:
        selected = channel.selection.selected(spec)
        if selected is None:
            return []
        spec = selected
    if channel is not None:
        # A compiled program: the caller does not wait for the value and may donate it afterwards. Tag, run and the
        # host's function are left out of the program, so that one program serves all.
        untagged = dataclasses.replace(spec, tag="", target=None, finish=None)
        with context.outside():
            packed = _pack_report(operands, spec=untagged, weighted=weighted, stepped=stepped)
        plan = _with_names(packed.plan, spec.tag, target, spec.finish)
        vectors = plan.vectors(packed.arrays)
        now = channel.given_times.time_of_report(spec.tag)
        channel.send(Frame(plan, vectors, channel.current, now, open=True))
    return []


@functools.partial(jax.jit, static_argnames=("spec", "weighted", "stepped"))
def _pack_report(
    operands: Sequence[Array], *, spec: ReportSpec, weighted: bool, stepped: bool
) -> Packed:
    return pack([accumulate(operands, spec=spec, weighted=weighted, stepped=stepped)])


@functools.lru_cache(maxsize=4096)
def _with_names(plan: Plan, tag: str, target: Target | None, finish: Hashable) -> Plan:
    def named(entry: Entry) -> Entry:
        spec = dataclasses.replace(entry.spec, tag=tag, target=target, finish=finish)
        return dataclasses.replace(entry, spec=spec)

    return Plan(tuple(map(named, plan.entries)), plan.step)


def _report_batch(
    operands: Sequence[Array], dims: Sequence[int | None], *, stepped: bool, **params: Any
) -> tuple[list[Array], list[int]]:
    operands, dims = list(operands), list(dims)
    steps = []
    if stepped:
        step, dim = operands.pop(), dims.pop()
        separate = params["spec"].lanes is not None and any(dim is not None for dim in dims)
        steps = [_batch_step(step, dim, separate)]
    if any(dim is not None for dim in dims):
        operands = _lanes_to_front(operands, dims)
        if not operands[0].shape[0]:
            return [], []  # a map over no lanes makes no report
    report_p.bind(*operands, *steps, stepped=stepped, **params)
    return [], []


def _batch_step(step: Array, dim: int | None, separate: bool) -> Array:
    """Return the step of a report under a map. Separate lanes keep their steps; merged lanes share one."""
    if not separate:
        return step if dim is None else step.max(dim)
    if dim is None:
        return step.max()
    step = jnp.moveaxis(step, dim, 0)
    return step.reshape(step.shape[0], -1).max(1)


def _lanes_to_front(operands: Sequence[Array], dims: Sequence[int | None]) -> list[Array]:
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
    return [
        jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(operands, dims, strict=True)
    ]


def _report_lowered(
    *operands: Array, spec: ReportSpec, weighted: bool, stepped: bool
) -> list[Array]:
    """Deliver a report that was not harvested as a frame of its own."""
    value, *rest = operands
    inputs, has_seeds = operands, spec.lanes is not None and value.ndim > spec.rank
    is_stack = spec.kind is Composite.STACK and not has_seeds
    devices = differing_devices(value) if has_seeds or is_stack else ()
    if devices:
        weight = rest.pop(0) if weighted else None
        value, weight = spread_over_devices(value, weight, spec.rank, devices)
        if has_seeds:
            # The lanes of each device are seed runs.
            value, weight = (x.reshape(-1, *x.shape[2:]) for x in (value, weight))
            rest = [jnp.tile(step, len(value) // len(step)) if step.ndim else step for step in rest]
        inputs, weighted = [value, weight, *rest], True
    outermost = "device" if devices and is_stack else "lane"
    report = accumulate(inputs, spec=spec, weighted=weighted, stepped=stepped, outermost=outermost)
    packed = pack([report])
    # A count is a constant. XLA moves what depends on no operand out of a shard_map, and then refuses the
    # callback, which has no sharding there.
    _, arrays = jax.lax.optimization_barrier((operands, packed.arrays))
    deliver(Packed(packed.plan, arrays), advance=None)
    return []


batching.primitive_batchers[report_p] = _report_batch
mlir.register_lowering(report_p, mlir.lower_fun(_report_lowered, multiple_results=True))

# --- The delivery ---------------------------------------------------------------------------------

deliver_p = Primitive("jaxboard_deliver")
_register(deliver_p)


def deliver(packed: Packed, *, advance: bool | None, caller: Caller | None = None) -> None:
    """Send a frame to the host when the program runs.

    Args:
        packed: the frame.
        advance: whether the frame is that of a call that takes a step; None if it is of no call.
        caller: see :func:`arrive`.
    """
    _compat.register_jet_rule(deliver_p, ad.primitive_jvps[deliver_p])
    dtypes = sorted(packed.arrays)
    operands = (packed.arrays[d] for d in dtypes)
    deliver_p.bind(*operands, plan=packed.plan, advance=advance, caller=caller)


def unpack_operands(operands: Sequence[Array], plan: Plan) -> list[Harvested]:
    """Return the reports in the operands of a deliver equation."""
    return unpack(Packed(plan, _by_dtype(operands, plan)))


def _by_dtype(operands: Sequence[Array | np.ndarray], plan: Plan) -> dict[str, Any]:
    return dict(zip(plan.array_names, operands, strict=True))


@deliver_p.def_impl
def _deliver_impl(
    *operands: Array, plan: Plan, advance: bool | None, caller: Caller | None
) -> list[Array]:
    arrive(plan, advance, _by_dtype(operands, plan), caller)
    return []


def _deliver_batch(
    operands: Sequence[Array],
    dims: Sequence[int | None],
    *,
    plan: Plan,
    advance: bool | None,
    caller: Caller | None,
) -> tuple[list[Array], list[int]]:
    operands = _lanes_to_front(operands, dims)
    has_lanes = operands and operands[0].shape[0]
    reports = [each.batch() for each in unpack_operands(operands, plan)] if has_lanes else []
    step = None if plan.step is None else plan.step.read(_by_dtype(operands, plan)).max(0)
    deliver(pack(reports, step), advance=advance, caller=caller)
    return [], []


def _deliver_lowering(
    ctx: mlir.LoweringRuleContext,
    *operands: Any,
    plan: Plan,
    advance: bool | None,
    caller: Caller | None,
) -> Sequence[Any]:
    callbacks.expected = True
    if caller is None:
        target = tracing_target()
        caller = None if target is None else TracingCaller(target)

    def receive(*arrays: Array | np.ndarray) -> tuple[()]:
        # XLA lends its memory only for the call, so NumPy arrays are copied. JAX arrays are kept as they are:
        # reading one here can deadlock.
        kept = [np.array(a) if isinstance(a, np.ndarray) else a for a in arrays]
        arrive(plan, advance, _by_dtype(kept, plan), caller)
        return ()

    if _compat.can_call_python(ctx):
        return _compat.call_python(ctx, receive, operands)

    def receive_from_jax(*arrays: Array) -> None:
        receive(*arrays)

    def through_jax(*arrays: Array) -> list[Array]:
        jax.debug.callback(receive_from_jax, *arrays)
        return []

    return mlir.lower_fun(through_jax, multiple_results=True)(ctx, *operands)


batching.primitive_batchers[deliver_p] = _deliver_batch
mlir.register_lowering(deliver_p, _deliver_lowering)
