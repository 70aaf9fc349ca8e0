"""Descriptions of the equations that an autopsy finds."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

import numpy as np
from jax.extend import source_info_util
from jax.extend.core import JaxprEqn

from jaxboard import _compat
from jaxboard._autopsy.causes import Event
from jaxboard._autopsy.codes import has_range
from jaxboard._autopsy.findings import Loop, Operand, Operation
from jaxboard._log import is_internal
from jaxboard._trace import hijax

_MAX_FRAMES = 100

_LOOPS = ("scan", "Scan3", "while", "shard_map")


def describe_operation(event: Event) -> Operation:
    """Return the operation of an event."""
    eqn = event.eqns[-1]
    # Some of JAX's own functions have no line; that of the equation around them does as well.
    lines = next(filter(None, map(_lines, reversed(event.eqns))), [])
    source = lines[-1] if lines else ""
    outside = [line for line in lines if f"{os.sep}site-packages{os.sep}" not in line]
    caller = outside[-1] if outside and outside[-1] != source else ""
    scopes = [str(each.source_info.name_stack) for each in event.eqns]
    loops = tuple(
        _loop(each, step.iteration)
        for each, step in zip(event.eqns[:-1], event.steps[:-1], strict=True)
        if hijax.name_of(each) in _LOOPS
    )
    return Operation(eqn.primitive.name, source, caller, "/".join(filter(None, scopes)), loops)


def describe_operands(eqn: JaxprEqn, ranges: np.ndarray | None) -> tuple[Operand, ...]:
    """Return the operands of an equation.

    Args:
        eqn: the equation.
        ranges: their ranges, [n, FIELDS]; None if they are not known.
    """
    if ranges is None:
        return ()
    avals = filter(has_range, map(_compat.aval_of, eqn.invars))
    return tuple(
        Operand(
            str(aval.dtype),
            tuple(aval.shape),
            float(least) if math.isfinite(least) else None,
            float(most) if math.isfinite(most) else None,
            int(nan),
            int(inf),
        )
        for aval, (least, most, nan, inf) in zip(avals, ranges, strict=True)
    )


def _loop(eqn: JaxprEqn, iteration: int) -> Loop:
    name, params = eqn.primitive.name, hijax.params_of(eqn)
    if name == "shard_map":
        sizes = dict(params["mesh"].shape)
        return Loop(name, iteration, math.prod(sizes[axis] for axis in _compat.manual_axes(eqn)))
    if params.get("reverse"):
        iteration = params["length"] - 1 - iteration
    return Loop("while" if name == "while" else "scan", iteration, params.get("length"))


def _lines(eqn: JaxprEqn) -> list[str]:
    """Return the lines that led to an equation, the innermost last: ``train.py:12 (loss_fn)``."""
    return list(_user_frames(source_info_util.summarize(eqn.source_info, num_frames=_MAX_FRAMES)))


def _user_frames(summary: str) -> Iterator[str]:
    for line in summary.splitlines():
        match = re.fullmatch(r"(.*?):(\d+)(?::\d+)? \((.*)\)", line)
        if match is not None and not is_internal(match[1]):
            function = match[3].rpartition("<locals>.")[2]
            yield f"{match[1]}:{match[2]} ({function})"
