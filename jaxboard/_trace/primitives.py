"""The two primitives: a report, where the user wrote it, and the delivery of a frame to the host.

``report`` carries the raw values. Its rules keep one meaning under every transformation: JVP reports
the primal, batching puts the mapped axis in front (the reducer merges it), remat runs it once (JAX's own
rule for effects). ``harvest`` takes reports out of a program. One that stays in lowers to a
``deliver``, which calls the host.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxboard import _compat
from jaxboard._frame import Entry, Frame, LoopChunk, Packed, Plan, ReportSpec, Slot
from jaxboard._host import progress
from jaxboard._host.channel import Channel, active
from jaxboard._trace import context
from jaxboard._trace.masks import among_devices, masked_weight
from jaxboard._trace.pack import Harvested, pack, start, unpack

report_p = Primitive("jaxboard_report")
report_p.multiple_results = True

deliver_p = Primitive("jaxboard_deliver")
deliver_p.multiple_results = True


def report(spec: ReportSpec, value: Any, weight: Any = None, step: Any = None) -> None:
    """Reports a device array, traced or not."""
    operands = [x for x in (value, weight, step) if x is not None]
    report_p.bind(*operands, spec=spec, weighted=weight is not None, stepped=step is not None)


def started(
    operands: Any, masks: tuple[Any, ...] = (), *, spec: ReportSpec, weighted: bool, stepped: bool
) -> Harvested:
    """The accumulator of a report equation, of the lanes that count (see ``lanes``)."""
    value, *rest = operands
    weight = masked_weight(masks, value, rest.pop(0) if weighted else None, spec)
    return start(spec, value, weight, rest.pop(0) if stepped else None)


def deliver(packed: Packed, *, advance: bool | None) -> None:
    """Sends a frame to the host when the program runs.

    Args:
        packed: the frame.
        advance: whether it is that of a call that takes a step; None if no call is known.
    """
    dtypes = sorted(packed.arrays)
    deliver_p.bind(*(packed.arrays[d] for d in dtypes), plan=packed.plan, advance=advance)


def _arrays(operands: Any, plan: Plan) -> dict[str, Any]:
    slots = [plan.step, *(s for e in plan.entries for s in (*e.slots, e.weight, e.step))]
    dtypes = {slot.dtype for slot in slots if isinstance(slot, Slot)}
    return dict(zip(sorted(dtypes), operands, strict=True))


def delivered(operands: Any, *, plan: Plan, advance: bool | None) -> list[Harvested]:
    """The accumulators of a deliver equation."""
    return unpack(Packed(plan, _arrays(operands, plan)))


# ------------------------------------------------------------------ outside of any transformation


@functools.partial(jax.jit, static_argnames=("spec", "weighted", "stepped"))
def _packed(operands: Any, *, spec: ReportSpec, weighted: bool, stepped: bool) -> Packed:
    return pack([started(operands, spec=spec, weighted=weighted, stepped=stepped)])


@functools.lru_cache(maxsize=4096)
def _named(plan: Plan, tag: str) -> Plan:
    return Plan(tuple(_renamed(entry, tag) for entry in plan.entries), plan.step)


def _renamed(entry: Entry, tag: str) -> Entry:
    return dataclasses.replace(entry, spec=dataclasses.replace(entry.spec, tag=tag))


@report_p.def_impl
def _report_now(*operands: Any, spec: ReportSpec, weighted: bool, stepped: bool) -> list[Any]:
    channel = active()
    if channel is not None:
        # A program of its own: nothing waits for the value, and the user may donate it afterwards. The
        # tag is put in behind it, so that one program serves all tags.
        with context.entered(context.DEFAULT), _compat.unchecked():
            made = _packed(
                operands, spec=dataclasses.replace(spec, tag=""), weighted=weighted, stepped=stepped
            )
        plan = _named(made.plan, spec.tag)
        channel.put(Frame(plan, made.arrays, channel.current, time.time(), open=True))
    return []


@deliver_p.def_impl
def _deliver_now(*operands: Any, plan: Plan, advance: bool | None) -> list[Any]:
    _arrive(plan, advance, _arrays(operands, plan))
    return []


def _arrive(plan: Plan, advance: bool | None, arrays: dict[str, Any]) -> None:
    channel = active()
    if plan.rows is not None:
        _count_rows(plan, plan.rows, channel, arrays)
    if channel is not None:
        counted = advance is not None and plan.rows is None
        step = channel.begin(bool(advance)) if counted else channel.current
        at = None if plan.step else step
        frame = Frame(plan, arrays, at, time.time(), open=not advance)
        # Not to wait: the flusher may be waiting for what this callback holds up.
        channel.put(frame, False)


def _count_rows(
    plan: Plan, rows: LoopChunk, channel: Channel | None, arrays: dict[str, Any]
) -> None:
    """Lets the run's count, and the progress bar, follow a streamed loop."""
    run = rows.size
    # JAX's own arrays must not be read here (see _lower_deliver); the call counts those steps beforehand.
    if plan.step is not None and isinstance(arrays[plan.step.dtype], np.ndarray):
        steps = plan.step.read(arrays)
        run = int((steps >= 0).sum())
        if channel is not None and run:
            channel.advance_to(int(steps.max()))
    if rows.bar is not None:
        progress.update(rows.bar, run, rows.total)


# ------------------------------------------------------------------------------------ rules


@report_p.def_effectful_abstract_eval
def _report_abstract(*_: Any, **__: Any) -> Any:
    return [], set(_compat.report_effects())


@deliver_p.def_effectful_abstract_eval
def _deliver_abstract(*_: Any, **__: Any) -> Any:
    return [], set(_compat.report_effects())


def _of_primals(primitive: Primitive, primals: Any, tangents: Any, **params: Any) -> Any:
    primitive.bind(*primals, **params)
    return [], []


def _no_transpose(_: Any, *operands: Any, **__: Any) -> list[None]:
    return [None] * len(operands)


for _primitive in (report_p, deliver_p):
    ad.primitive_jvps[_primitive] = functools.partial(_of_primals, _primitive)
    ad.primitive_transposes[_primitive] = _no_transpose


def _lanes_in_front(operands: Any, dims: Any) -> list[Any]:
    size = next(x.shape[d] for x, d in zip(operands, dims, strict=True) if d is not None)
    return [
        jnp.broadcast_to(x, (size, *x.shape)) if d is None else jnp.moveaxis(x, d, 0)
        for x, d in zip(operands, dims, strict=True)
    ]


def _step_of_lanes(step: Any, dim: int | None, apart: bool) -> Any:
    """Of lanes that stay apart each has its step; others make one point, and a point has one."""
    if not apart:
        return step if dim is None else step.max(dim)
    if dim is None:
        return step.max()
    step = jnp.moveaxis(step, dim, 0)
    return step.reshape(step.shape[0], -1).max(1)


def _batch_report(operands: Any, dims: Any, *, stepped: bool, **params: Any) -> Any:
    operands, dims = list(operands), list(dims)
    steps = []
    if stepped:
        step, dim = operands.pop(), dims.pop()
        apart = params["spec"].lanes is not None and any(dim is not None for dim in dims)
        steps = [_step_of_lanes(step, dim, apart)]
    if any(dim is not None for dim in dims):
        operands = _lanes_in_front(operands, dims)
    report_p.bind(*operands, *steps, stepped=stepped, **params)
    return [], []


def _batch_deliver(operands: Any, dims: Any, *, plan: Plan, advance: bool | None) -> Any:
    operands = _lanes_in_front(operands, dims)
    reports = [r.mapped() for r in delivered(operands, plan=plan, advance=advance)]
    step = None
    if plan.step is not None:
        step = plan.step.read(_arrays(operands, plan)).max(0)
    deliver(pack(reports, step), advance=advance)
    return [], []


batching.primitive_batchers[report_p] = _batch_report
batching.primitive_batchers[deliver_p] = _batch_deliver


def _deliver_report(*operands: Any, spec: ReportSpec, weighted: bool, stepped: bool) -> list[Any]:
    given = operands
    if spec.lanes is not None:
        value, *rest = operands
        value, weight = among_devices(value, rest.pop(0) if weighted else None, spec.rank)
        rest = [jnp.tile(step, len(value) // len(step)) if step.ndim else step for step in rest]
        given, weighted = [value, *([] if weight is None else [weight]), *rest], weight is not None
    packed = pack([started(given, spec=spec, weighted=weighted, stepped=stepped)])
    # A count is a constant. XLA takes what depends on nothing out of a shard_map, and then refuses the
    # callback, which has no sharding there.
    _, arrays = jax.lax.optimization_barrier((operands, packed.arrays))
    deliver(Packed(packed.plan, arrays), advance=None)
    return []


def _lower_deliver(ctx: Any, *operands: Any, plan: Plan, advance: bool | None) -> Any:
    def arrive(*arrays: Any) -> tuple[()]:
        # XLA's memory is only lent for the call. Where these are JAX arrays they are kept as they are:
        # reading one here can deadlock (see _arrive for who reads them).
        kept = [np.array(a) if isinstance(a, np.ndarray) else a for a in arrays]
        _arrive(plan, advance, _arrays(kept, plan))
        return ()

    def arrive_as_jax(*arrays: Any) -> None:
        arrive(*arrays)

    if _compat.can_call_python(ctx):
        return _compat.call_python(ctx, arrive, operands)

    def through_jax(*arrays: Any) -> list[Any]:
        jax.debug.callback(arrive_as_jax, *arrays)
        return []

    return mlir.lower_fun(through_jax, multiple_results=True)(ctx, *operands)


mlir.register_lowering(report_p, mlir.lower_fun(_deliver_report, multiple_results=True))
mlir.register_lowering(deliver_p, _lower_deliver)
