"""The search for the operations where NaN and infinities in results began, on the host.

It follows the codes of a finished evaluation back from the results. A value that is masked is on no path to a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from jax.extend.core import JaxprEqn, Literal

from jaxboard._autopsy.bodies import LoopRecord
from jaxboard._autopsy.codes import INF, NAN, PLUS_INF
from jaxboard._autopsy.frames import Frame, Variable, frames_inside
from jaxboard._autopsy.interpreter import Node, Record, Step
from jaxboard._frame import ReportSpec
from jaxboard._trace.inspection import eqn_has_reports
from jaxboard._trace.primitives import report_p
from jaxboard._trace.rules.loops import scan_layout
from jaxboard.records import Kind

_MAX_VISITS = 100_000
"""Most variables that one search visits, counted in every iteration."""

_ONLY_FROM_PLUS = ("exp", "exp2", "expm1")
"""Primitives of which minus infinity has a finite result."""


class Event(NamedTuple):
    """An equation in one iteration, or a source outside of the program.

    Attributes:
        steps: the path to the equation; () for a source.
        eqns: the equations at those steps, the last one is the equation itself.
        argument: the position of the argument; -1 for a constant.
    """

    steps: tuple[Step, ...]
    eqns: tuple[JaxprEqn, ...] = ()
    argument: int = -1


class Cause(NamedTuple):
    """Where a NaN or an infinity began.

    Attributes:
        event: where.
        became_nan: where the infinity became NaN, if it did.
        infinity: the source of the infinity of which the event made NaN.
    """

    event: Event
    became_nan: Event | None = None
    infinity: Event | None = None


class Finding(NamedTuple):
    """The first cause of values that are not finite, and where they ended up.

    Attributes:
        cause: the cause.
        is_nan: whether it made NaN; else an infinity.
        results: the positions of the results that are not finite.
        reports: the tags of the reports that are not.
    """

    cause: Cause
    is_nan: bool
    results: list[int]
    reports: list[str]


class _Seen(NamedTuple):
    """A variable whose value leaves the program: a result, or the value of a report."""

    frame: Frame
    var: Variable


def first_cause(node: Node, record: Record) -> Finding | None:
    """Return the first cause of NaN in the results, or else of NaN in reports, or else of infinities; None if there is none.

    An infinity that was in an argument or in a constant counts as intended.
    """
    program = Frame(node, record)
    results = [_Seen(program, var) for var in node.jaxpr.outvars]
    reports = list(_reports(program))
    for values, wanted in (
        (results, NAN),
        ([value for _, value in reports], NAN),
        ([*results, *(value for spec, value in reports if spec.kind is Kind.SCALAR)], INF),
    ):
        bad = [value for value in values if value.frame.code(value.var) & wanted]
        causes: list[Cause] = []
        for event, infinite in _origins(bad, wanted):
            if wanted == NAN:
                causes += _causes_of_nan(event, infinite)
            elif event.steps:
                causes.append(Cause(event))
        if causes:
            cause = min(causes, key=_order)
            is_bad = lambda value: value.frame.code(value.var) & wanted  # noqa: E731, B023
            return Finding(
                cause,
                wanted == NAN and cause.became_nan is None,
                [position for position, value in enumerate(results) if is_bad(value)],
                sorted({spec.tag for spec, value in reports if is_bad(value)}),
            )
    return None


def _order(cause: Cause) -> tuple[int, tuple[Step, ...]]:
    """Return the place of a cause in the order of execution: arguments first, constants last."""
    event = cause.event
    return (1 if event.steps else 0 if event.argument >= 0 else 2), event.steps


def _reports(frame: Frame) -> Iterator[tuple[ReportSpec, _Seen]]:
    """Return the reports in a frame, and in those inside, whose values are not finite.

    Those with a mask are left out, as what they mask is not known, and those of measured trees.
    """
    for position, eqn in enumerate(frame.node.jaxpr.eqns):
        if eqn.primitive is report_p:
            spec: ReportSpec = eqn.params["spec"]
            is_raw = isinstance(spec.kind, Kind) and not eqn.params["weighted"]
            if is_raw and frame.code(eqn.invars[0]):
                yield spec, _Seen(frame, eqn.invars[0])
        elif eqn_has_reports(eqn):
            for inner in frames_inside(frame, position):
                yield from _reports(inner)


def _causes_of_nan(event: Event, infinite: list[tuple[Frame, Variable]]) -> Iterator[Cause]:
    """Return the causes of a NaN.

    Args:
        event: where it began.
        infinite: the infinite operands there.
    """
    origins = [o for frame, var in infinite for o, _ in _origins([_Seen(frame, var)], INF)]
    operations = [origin for origin in origins if origin.steps]
    if operations:
        yield from (Cause(origin, became_nan=event) for origin in operations)
    else:
        yield Cause(event, infinity=origins[0] if origins else None)


_Origin: TypeAlias = tuple[Event, list[tuple[Frame, Variable]]]
"""An event, and the infinite operands of its equation."""


def _origins(values: Sequence[_Seen], wanted: int) -> list[_Origin]:
    """Return where the NaN, or the infinities, in values began."""
    found: dict[tuple[Any, ...], _Origin] = {}
    pending: list[tuple[Frame, Variable, int]] = [
        (value.frame, value.var, wanted) for value in values
    ]
    visited: set[tuple[int, int, int]] = set()
    while pending and len(visited) < _MAX_VISITS:
        frame, var, wanted = pending.pop()
        if (id(frame), id(var), wanted) in visited:
            continue
        visited.add((id(frame), id(var), wanted))
        before, event, infinite = _before(frame, var, wanted)
        pending += [(frame, var, bits) for frame, var, bits in before]
        if event is not None:
            found.setdefault((event.steps, event.argument), (event, infinite))
    return list(found.values())


_Before: TypeAlias = tuple[
    list[tuple[Frame, Variable, int]], Event | None, list[tuple[Frame, Variable]]
]


def _before(frame: Frame, var: Variable, wanted: int) -> _Before:
    """Return the variables that a value has its NaN or infinity from; or, if it began here, the event and infinite operands."""
    if isinstance(var, Literal) or var in frame.node.jaxpr.constvars:
        return [], Event(()), []
    defined = frame.definition(var)
    if defined is None:
        return _before_argument(frame, frame.node.jaxpr.invars.index(var), wanted)
    position, result = defined
    eqn = frame.node.jaxpr.eqns[position]
    if position in frame.node.bodies:
        inner = _result_of_body(frame, position, result, wanted)
        if inner is None:
            return [], _event(frame, position), []
        return [(*inner, wanted)], None, []
    operands = [(var, frame.code(var)) for var in eqn.invars]
    if position in frame.node.cases:
        recorded = [int(frame.record.codes[entry]) for entry in frame.node.cases[position]]
        operands = list(zip(eqn.invars[1:], recorded, strict=True))
    passes = wanted
    if wanted == INF:
        # The code of a value that has NaN, too, does not show infinities.
        passes = NAN | (PLUS_INF if eqn.primitive.name in _ONLY_FROM_PLUS else INF)
    before = [(frame, var, wanted) for var, code in operands if code & passes]
    if before:
        return before, None, []
    if _is_collective(eqn):
        before = _on_other_devices(frame, position, wanted)
        if before:
            return before, None, []
    infinite = [(frame, var) for var, code in operands if code & INF]
    return [], _event(frame, position), infinite


def _before_argument(frame: Frame, argument: int, wanted: int) -> _Before:
    parent = frame.parent
    if parent is None:
        return [], Event((), argument=argument), []
    position = frame.step.position
    eqn = parent.node.jaxpr.eqns[position]
    record = parent.record.inside[position]
    if isinstance(record, LoopRecord):
        operand = _operand_of_loop(eqn, argument)
        carried = argument - _first_of_carry(eqn)
        if 0 <= carried < _size_of_carry(eqn):
            earlier = _before_iteration(parent, position, carried, frame.step.iteration, wanted)
            if earlier is not None:
                return [(*earlier, wanted)], None, []
    else:
        operand = frame.node.operands[argument]
    if operand is None or not parent.code(eqn.invars[operand]) & wanted:
        return [], _event(parent, position), []
    return [(parent, eqn.invars[operand], wanted)], None, []


def _result_of_body(
    frame: Frame, position: int, result: int, wanted: int
) -> tuple[Frame, Variable] | None:
    """Return the variable of a body, or the operand, that a result of an equation has its value from."""
    eqn, record = frame.node.jaxpr.eqns[position], frame.record.inside[position]
    if isinstance(record, LoopRecord):
        if result < _size_of_carry(eqn):
            found = _before_iteration(frame, position, result, None, wanted)
            operand = eqn.invars[_operand_of_loop(eqn, _first_of_carry(eqn) + result)]
            return found or ((frame, operand) if frame.code(operand) & wanted else None)
        bad = record.iterations[(record.leaving[:, result] & wanted) != 0]
        return _in_iteration(frame, position, int(bad.min()), result, wanted) if len(bad) else None
    for inner in frames_inside(frame, position):  # One, or one for each device.
        var = inner.node.jaxpr.outvars[result]
        if inner.code(var) & wanted:
            return inner, var
    return None


def _before_iteration(
    frame: Frame, position: int, carried: int, iteration: int | None, wanted: int
) -> tuple[Frame, Variable] | None:
    """Return the variable where a value of the carry stopped being finite: in the last such iteration before one, or of all."""
    eqn, record = frame.node.jaxpr.eqns[position], frame.record.inside[position]
    node = frame.node.bodies[position][0]
    entry = node.entries.get(node.jaxpr.invars[_first_of_carry(eqn) + carried])
    if entry is None:
        return None
    gained = record.leaving[:, carried] & ~record.body.codes[:, entry] & wanted
    iterations = record.iterations[gained != 0]
    before = iterations if iteration is None else iterations[iterations < iteration]
    return (
        _in_iteration(frame, position, int(before.max()), carried, wanted) if len(before) else None
    )


def _in_iteration(
    frame: Frame, position: int, iteration: int, result: int, wanted: int
) -> tuple[Frame, Variable] | None:
    inner = frame.inside(Step(position, 0, iteration))
    if inner is None:
        return None
    var = inner.node.jaxpr.outvars[result]
    return (inner, var) if inner.code(var) & wanted else None


def _on_other_devices(
    frame: Frame, position: int, wanted: int
) -> list[tuple[Frame, Variable, int]]:
    """Return the operands of a collective operation on the devices where they are not finite."""
    steps: list[Step] = []
    around = frame
    while around.parent is not None:
        eqn = around.parent.node.jaxpr.eqns[around.step.position]
        if eqn.primitive.name == "shard_map":
            break
        steps.append(around.step)
        around = around.parent
    if around.parent is None:
        return []
    found: list[tuple[Frame, Variable, int]] = []
    for other in frames_inside(around.parent, around.step.position):
        inner: Frame | None = other
        for step in reversed(steps):
            inner = None if inner is None else inner.inside(step)
        if inner is not None:
            operands = inner.node.jaxpr.eqns[position].invars
            found += [(inner, var, wanted) for var in operands if inner.code(var) & wanted]
    return found


def _is_collective(eqn: JaxprEqn) -> bool:
    axes = eqn.params.get("axis_name") or eqn.params.get("axes") or ()
    return any(isinstance(axis, str) for axis in ([axes] if isinstance(axes, str) else axes))


def _event(frame: Frame, position: int) -> Event:
    eqns = [frame.node.jaxpr.eqns[position]]
    around = frame
    while around.parent is not None:
        eqns.append(around.parent.node.jaxpr.eqns[around.step.position])
        around = around.parent
    return Event((*frame.steps, Step(position)), tuple(reversed(eqns)))


# --- Loops ----------------------------------------------------------------------------------------


def _first_of_carry(eqn: JaxprEqn) -> int:
    """Return the position of the carry in the arguments of the body."""
    if eqn.primitive.name == "while":
        return eqn.params["body_nconsts"]
    is_scanned, num_carry = scan_layout(eqn)
    return is_scanned.count(False) - num_carry


def _size_of_carry(eqn: JaxprEqn) -> int:
    if eqn.primitive.name == "while":
        return len(eqn.outvars)
    return scan_layout(eqn)[1]


def _operand_of_loop(eqn: JaxprEqn, argument: int) -> int:
    """Return which operand of a loop an argument of its body is, or begins with."""
    return eqn.params["cond_nconsts"] + argument if eqn.primitive.name == "while" else argument
