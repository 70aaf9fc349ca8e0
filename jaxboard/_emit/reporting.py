"""The common part of all verbs: it passes a checked value to the traced program or to the active run."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import jax
import numpy as np

from jaxboard import _compat
from jaxboard._emit import arguments, conversion, device_numbers
from jaxboard._frame import Composite, Number, Observation, ReportSpec
from jaxboard._host.active_channel import active, named_target
from jaxboard._host.channel import Channel
from jaxboard._host.clipping import clipping_notice
from jaxboard._host.given_times import given_time
from jaxboard._log import warn
from jaxboard._reduce import reducer
from jaxboard._reduce.first_items import Items
from jaxboard._trace import context
from jaxboard._trace.advice import warn_no_run
from jaxboard._trace.primitives import report
from jaxboard._types import Array, Reportable, Runs, Step
from jaxboard.records import Kind, Record

Value = TypeVar("Value")

_SELECTABLE = frozenset(Kind) - {Kind.HPARAMS, Kind.METRICS, Kind.LAYOUT, Kind.GRAPH}
"""The kinds whose cadence a run selects. The others describe the run, once."""


def report_array(
    kind: Kind | Composite,
    tag: str,
    value: Value,
    check: Callable[[str, Value], Array],
    *,
    step: Step | None,
    every: int | None,
    where: Reportable | None,
    runs: Runs,
    weight: Reportable | None = None,
    reduce: str = "last",
    options: Hashable = None,
    finish: Hashable = None,
) -> None:
    """Report an array from traced code or from plain Python.

    Args:
        kind: what is reported.
        tag: the tag, without the scopes around the call.
        value: what the user passed.
        check: returns ``value`` as an array, or raises :class:`ReportError`; it is called with the tag.
        step: see :func:`jaxboard.scalar`.
        every: see :func:`jaxboard.scalar`.
        where: see :func:`jaxboard.scalar`.
        runs: see :func:`jaxboard.scalar`.
        weight: see :func:`jaxboard.scalar`.
        reduce: see :attr:`ReportSpec.reduce`.
        options: see :attr:`ReportSpec.options`.
        finish: see :attr:`ReportSpec.finish`.
    """
    arguments.check_tag(tag)
    every = arguments.check_every(tag, every)
    surroundings = context.current()
    lanes = arguments.initial_lanes(tag, runs, surroundings)
    cadence = surroundings.every if every is None else every
    if surroundings.silent:
        return
    try:
        array = check(tag, value)
    except jax.errors.UnexpectedTracerError as error:
        raise arguments.escaped_tracer(tag) from error
    full_tag = surroundings.scope + tag
    spec = _spec(kind, full_tag, reduce, cadence, array.ndim, options, lanes, finish)
    array = conversion.widened(array)
    own_step = None if step is None else arguments.as_step(tag, step)
    count = conversion.as_weight(tag, weight, where)
    if _compat.at_top_level():
        _report_to_run(tag, spec, array, count, own_step)
        return
    if given_time() is not None:
        raise arguments.report_error(
            tag, "walltime= is for plain Python, and JAX is tracing here. Leave it out."
        )
    if isinstance(own_step, int) and own_step > _max_step():
        raise arguments.report_error(
            tag, f"step={own_step} exceeds the largest step in compiled code, {_max_step()}."
        )
    spec = dataclasses.replace(spec, target=named_target() or surroundings.target)
    operands = (array, count, own_step)
    try:
        report(spec, *(x if x is None else conversion.as_jax(_fit_64_bits(x)) for x in operands))
    except jax.errors.UnexpectedTracerError as error:
        raise arguments.escaped_tracer(tag) from error


@functools.lru_cache(maxsize=4096)
def _spec(*fields: Any) -> ReportSpec:
    # Making and hashing one takes microseconds, and the reports of a loop have few different ones.
    return ReportSpec(*fields[:-1], finish=fields[-1])


def _max_step() -> int:
    """Return the largest step that compiled code can carry: of 32 bits, or of 64 under ``jax_enable_x64``."""
    return int(np.iinfo(jax.dtypes.canonicalize_dtype(np.int64)).max)


def _report_to_run(
    tag: str, spec: ReportSpec, array: Array, count: Array | None, step: int | jax.Array | None
) -> None:
    """Report an array from plain Python to the active run, if it is due."""
    channel = active()
    if channel is None:
        warn_no_run(f"report {tag!r} ({arguments.call_site()})")
        return
    if channel.selection is not None:
        selected = channel.selection.selected(spec)
        if selected is None:
            return
        spec = selected
    if not spec.windowed and not is_due(channel, step, spec.every):
        return
    on_host = isinstance(array, np.ndarray)
    if (
        spec.kind is Kind.SCALAR
        and not isinstance(count, jax.Array)
        and not isinstance(step, jax.Array)
        and (on_host or array.is_fully_replicated)
    ):
        at = channel.current if step is None else step
        number = cast("np.generic", array[()]) if on_host else device_numbers.kept(array)
        now = channel.given_times.time_of_report(spec.tag)
        channel.put(Number(spec, number, count, at, now, step is not None))
        return
    if isinstance(array, jax.Array) and isinstance(step, int) and step > _max_step():
        with jax.transfer_guard_device_to_host("allow"):
            array = np.asarray(array)
    if isinstance(array, jax.Array):
        report(spec, *map(_on_device, (array, count, step)))
        return
    state = reducer(spec).start(array, None if count is None else np.asarray(count), spec.rank)
    if isinstance(state.value, Items):
        state = state._replace(value=_checked_items(channel, tag, spec, state.value))
    at = channel.current if step is None else int(step)
    now = channel.given_times.time_of_report(spec.tag)
    channel.put(Observation(spec, state, at, now, explicit_step=step is not None))


def _checked_items(channel: Channel, tag: str, spec: ReportSpec, items: Items) -> Items:
    """Return items from plain Python as not clipped, and warn once if they were."""
    if items.limits is None:
        return items
    low, high = np.asarray(items.limits).tolist()
    if (low, high) != (0, 0) and ("clipped", tag) not in channel.warned:
        channel.warned.add(("clipped", tag))
        notice = clipping_notice(spec.kind, low, high)
        warn(f"report {tag!r} ({arguments.call_site()}): {notice}")
    return items._replace(limits=np.zeros_like(items.limits))


def report_record(
    verb: str,
    kind: Kind,
    tag: str,
    make_value: Callable[[], object],
    *,
    step: int | None,
    every: int | None,
    walltime: float | None = None,
) -> None:
    """Report a value that is not reduced, from plain Python only.

    Args:
        verb: the name of the verb, for the message.
        kind: what is reported.
        tag: the tag, without the scopes around the call; "" for a record that has none, in any scope.
        make_value: returns the value; called only if the report is due.
        step: see :func:`jaxboard.scalar`.
        every: see :func:`jaxboard.scalar`.
        walltime: the time of the report, in seconds since the epoch; None for now.

    Raises:
        ReportError: JAX is tracing, or an argument is invalid.
    """
    every = arguments.check_every(tag, every)
    arguments.check_walltime(tag, walltime)
    if not _compat.at_top_level():
        raise arguments.report_error(
            tag,
            f"{verb} is for plain Python, and JAX is tracing here: it would be reported once, while "
            "compiling. Report it outside of the traced function.",
        )
    own_step = None if step is None else arguments.as_host_step(tag, step)
    surroundings = context.current()
    if surroundings.silent:
        return
    channel = active()
    full_tag = surroundings.scope + tag if tag else ""
    if channel is None:
        warn_no_run(f"report {tag!r} ({arguments.call_site()})")
        return
    cadence = surroundings.every if every is None else every
    if kind in _SELECTABLE:
        cadence = selected_cadence(channel, full_tag, cadence)
    if cadence is not None and is_due(channel, own_step, cadence):
        at = channel.current if own_step is None else own_step
        given = given_time() if walltime is None else float(walltime)
        now = time.time() if given is None else given
        channel.put(Record(kind, full_tag, at, now, make_value()))


def selected_cadence(
    channel: Channel, tag: str, every: int, *, is_prefix: bool = False
) -> int | None:
    """Return the cadence that a run selects for a tag; ``every`` if it selects none, None if the report is left out."""
    if channel.selection is None:
        return every
    choice = channel.selection.choice(tag, is_prefix=is_prefix)
    return every if choice == "code" else choice


def is_due(channel: Channel, step: Step | None, every: int) -> bool:
    """Return whether a report is due. A step on a device counts as due: reading it would block."""
    if every == 1 or isinstance(step, jax.Array):
        return True
    return (channel.current if step is None else int(step)) % every == 0


def _on_device(x: Array | int | None) -> jax.Array | None:
    """Return ``x`` on the device, by an explicit transfer that a transfer guard permits."""
    if x is None or isinstance(x, jax.Array):
        return x
    with np.errstate(over="ignore"):
        return jax.device_put(_fit_64_bits(np.asarray(x)))


def _fit_64_bits(x: Array | int) -> Array | int:
    """Return 64-bit integers that JAX would wrap to 32 bits as floats, anything else unchanged."""
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "iu" or x.dtype.itemsize < 8:
        return x
    info = np.iinfo(jax.dtypes.canonicalize_dtype(x.dtype))
    fits = not x.size or (x.min() >= info.min and x.max() <= info.max)
    return x if fits else x.astype(np.float32)
