"""The evaluation of a jaxpr that also returns a code for each floating-point value.

The codes of a body are one vector, with those of the bodies inside it next to it. A loop stacks them, so that the host sees
every iteration. Which variable an entry belongs to is static: a :class:`Node`. Rules that only call a function are
those of the harvest (``_trace.rules.table``); :mod:`.bodies` has the others.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var

from jaxboard import _compat
from jaxboard._autopsy import codes
from jaxboard._trace import hijax
from jaxboard._trace.rules.base import Evaluated, RuleContext
from jaxboard._trace.rules.fallback import Unharvestable
from jaxboard._trace.rules.table import rule_of

MOVES = frozenset({
    "broadcast_in_dim",
    "copy",
    "copy_p",
    "expand_dims",
    "pcast",
    "pvary",
    "reshape",
    "reshard",
    "rev",
    "sharding_constraint",
    "squeeze",
    "stop_gradient",
    "transpose",
})  # fmt: skip
"""Primitives whose result has the elements of their only operand."""


class Node:
    """The static part of an evaluated jaxpr.

    Attributes:
        jaxpr: the jaxpr.
        entries: the position of each variable in the vector of codes.
        cases: the positions of the codes of the cases, by the position of a selecting equation.
        bodies: the nodes of the bodies of an equation, by its position.
        operands: for each argument of the jaxpr, the position of that operand of the equation around the jaxpr; None if it is
            not known.
    """

    def __init__(self, jaxpr: Jaxpr, operands: Sequence[int | None]):
        self.jaxpr = jaxpr
        self.operands = operands
        self.entries: dict[Var, int] = {}
        self.cases: dict[int, list[int]] = {}
        self.bodies: dict[int, list[Node]] = {}


class Record(NamedTuple):
    """The arrays of an evaluated jaxpr.

    Attributes:
        codes: uint8[n].
        ranges: those of the operands of the target, [m, FIELDS]; [0, FIELDS] without one.
        inside: what the rule of an equation recorded, by its position.
    """

    codes: Array
    ranges: Array
    inside: dict[int, Any]


class Examined(NamedTuple):
    """A jaxpr after its evaluation.

    Attributes:
        results: the values of its results.
        node: the static part.
        record: the arrays.
    """

    results: list[Array]
    node: Node
    record: Record


class Step(NamedTuple):
    """A step on the path to an equation inside others.

    Attributes:
        position: the position of an equation in its jaxpr.
        branch: which of its bodies the next step is in.
        iteration: the iteration of the body, or the device; 0 if it has one.
    """

    position: int
    branch: int = 0
    iteration: int = 0


class BodyResult(NamedTuple):
    """An equation with bodies after its evaluation.

    Attributes:
        results: the values of its results.
        nodes: the nodes of its bodies.
        record: what was recorded in them, a pytree of arrays.
    """

    results: list[Array]
    nodes: list[Node]
    record: Any


Rule: TypeAlias = Callable[["Interpreter", JaxprEqn, list[Array], "Step | None"], BodyResult]
"""(interpreter of the bodies, equation, operands, the step into the bodies if the target is there) -> its results."""


class Interpreter(NamedTuple):
    """Evaluates jaxprs.

    Attributes:
        rules: the rules that differ from those of the harvest, by the name of the primitive.
        target: the path to the equation whose operands to describe, () if it is elsewhere. Without it, all values are
            examined.
        axes: the manual mesh axes, along which everything recorded varies.
    """

    rules: Mapping[str, Rule]
    target: tuple[Step, ...] | None = None
    axes: frozenset[str] = frozenset()

    def examine(
        self,
        jaxpr: Jaxpr | ClosedJaxpr,
        operands: Sequence[Array],
        consts: Sequence[Array] | None = None,
    ) -> Examined:
        """Evaluate a jaxpr.

        Args:
            jaxpr: the jaxpr.
            operands: the values of its arguments.
            consts: the values of its constants; the default is its own.
        """
        body, own = _compat.open_jaxpr(jaxpr)
        consts = own if consts is None else consts
        return _Evaluation(self, body, list(range(len(operands))), {}).run(consts, operands)

    def code(self, value: Array) -> Array:
        """Return the code of a value; 0 if it is not of floating-point numbers."""
        return self.vary(codes.code(value) if codes.is_float(value) else jnp.uint8(0))

    def vary(self, x: Array) -> Array:
        """Return an array as one that varies along the manual mesh axes."""
        return _compat.vary(x, self.axes)


class _Evaluation:
    """The evaluation of one jaxpr.

    Args:
        interpreter: the interpreter.
        jaxpr: the jaxpr.
        operands: see :attr:`Node.operands`.
        known: the codes of values, each with the value, by its identity. It is shared by jaxprs in the same trace.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        jaxpr: Jaxpr,
        operands: Sequence[int | None],
        known: dict[int, tuple[Array, Array]],
    ):
        self._interpreter, self._known = interpreter, known
        self._node = Node(jaxpr, operands)
        self._codes: list[Array] = []
        self._ranges = interpreter.vary(codes.ranges([]))
        self._inside: dict[int, Any] = {}
        self._env: dict[Var, Array] = {}

    def run(self, consts: Sequence[Array], operands: Sequence[Array]) -> Examined:
        """Evaluate the jaxpr."""
        jaxpr = self._node.jaxpr
        for var, value in zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *operands], strict=True):
            self._define(var, _as_array(value))
        read = {v for eqn in jaxpr.eqns for v in eqn.invars if not isinstance(v, Literal)}
        read.update(v for v in jaxpr.outvars if not isinstance(v, Literal))
        for position, eqn in enumerate(jaxpr.eqns):
            results = self._evaluate(position, eqn, [var in read for var in eqn.outvars])
            for var, value in zip(eqn.outvars, results, strict=True):
                if value is not None:
                    self._define(var, value)
        results = list(map(self._read, jaxpr.outvars))
        packed = self._interpreter.vary(codes.pack(self._codes))
        record = Record(packed, self._ranges, self._inside)
        return Examined(results, self._node, record)

    def _define(self, var: Var, value: Array) -> None:
        self._env[var] = value
        if self._interpreter.target is None and codes.is_float(value):
            if id(value) not in self._known:
                # The value is kept, so that no other one gets its identity.
                self._known[id(value)] = value, self._interpreter.code(value)
            self._node.entries[var] = self._record(self._known[id(value)][1])

    def _record(self, code: Array) -> int:
        """Add a code to the record; return its position."""
        self._codes.append(code)
        return len(self._codes) - 1

    def _evaluate(
        self, position: int, eqn: JaxprEqn, is_read: list[bool]
    ) -> Sequence[Array | None]:
        """Return the results of an equation, with None for those that are not read."""
        name, target = eqn.primitive.name, self._interpreter.target
        if not eqn.outvars and ("callback" in name or name.startswith(("debug_", "jaxboard_"))):
            return []  # Its effect took place in the call that is examined.
        operands = list(map(self._read, eqn.invars))
        step = None
        if target is not None:
            if not target or target[0].position != position:
                return self._evaluate_unchanged(eqn, is_read)
            step, *rest = target
            if not rest:
                described = filter(codes.has_range, operands)
                self._ranges = self._interpreter.vary(codes.ranges(list(described)))
                return self._evaluate_unchanged(eqn, is_read)
            target = tuple(rest)
        inner = self._interpreter._replace(target=target)
        with _compat.context_of(eqn), contextlib.suppress(Unharvestable):
            results = self._evaluate_bodies(inner, position, eqn, operands, step)
            if results is not None:
                return results
        return self._evaluate_operation(position, eqn, operands, is_read)

    def _evaluate_bodies(
        self,
        inner: Interpreter,
        position: int,
        eqn: JaxprEqn,
        operands: list[Array],
        step: Step | None,
    ) -> list[Array] | None:
        """Evaluate an equation with bodies by its rule; return None if it has none."""
        own, rule = inner.rules.get(hijax.name_of(eqn)), rule_of(eqn)
        if own is not None:
            results, nodes, record = own(inner, eqn, operands, step)
        elif rule is not None:
            bodies: list[Examined] = []

            def evaluate(
                jaxpr: Jaxpr, consts: Sequence[Array], values: Sequence[Array], context: RuleContext
            ) -> Evaluated:
                del context  # It is the same everywhere.
                body = _Evaluation(inner, jaxpr, _positions(values, operands), self._known)
                bodies.append(body.run(consts, values))
                return Evaluated(bodies[-1].results, [])

            results = rule.evaluate(eqn, operands, RuleContext(evaluate, final=True)).results
            nodes, record = [bodies[0].node], bodies[0].record
        else:
            return None
        self._node.bodies[position] = nodes
        self._inside[position] = record
        return results

    def _evaluate_operation(
        self, position: int, eqn: JaxprEqn, operands: list[Array], is_read: list[bool]
    ) -> Sequence[Array | None]:
        """Evaluate an equation as JAX does, and note what follows for the code of its result."""
        results = self._evaluate_unchanged(eqn, is_read)
        result = results[0] if results else None
        if self._interpreter.target is not None or result is None:
            return results
        if eqn.primitive.name in MOVES and len(operands) == 1:
            known = self._known.get(id(operands[0]))
            if known is not None:
                self._known[id(result)] = result, known[1]
        elif eqn.primitive.name == "select_n" and codes.is_float(result):
            which, *cases = operands
            selected = list(map(self._interpreter.vary, codes.codes_of_cases(which, cases)))
            self._node.cases[position] = list(map(self._record, selected))
            self._known[id(result)] = result, functools.reduce(lax.max, selected)
        return results

    def _evaluate_unchanged(self, eqn: JaxprEqn, is_read: list[bool]) -> Sequence[Array | None]:
        invars = list(dict.fromkeys(v for v in eqn.invars if not isinstance(v, Literal)))
        outvars = [var for var, is_used in zip(eqn.outvars, is_read, strict=True) if is_used]
        part = _compat.make_jaxpr(invars, outvars, [eqn], self._node.jaxpr)
        results = iter(jax.core.eval_jaxpr(part, (), *[self._env[var] for var in invars]))
        return [next(results) if is_used else None for is_used in is_read]

    def _read(self, var: Var | Literal) -> Array:
        if not isinstance(var, Literal):
            return self._env[var]
        # A literal may be a Python number, which has no dtype.
        return jnp.asarray(var.val, _compat.aval_of(var).dtype)


def _as_array(value: Array) -> Array:
    # A constant may be of a type internal to JAX, with fewer methods than an array; a Ref stays one.
    return value if isinstance(value, jax.Array | jax.Ref) else jnp.asarray(value)


def _positions(values: Sequence[Array], operands: list[Array]) -> list[int | None]:
    """Return which operand each of the arguments of a body is."""
    if len(values) == len(operands):
        return list(range(len(values)))
    by_identity = {id(operand): position for position, operand in enumerate(operands)}
    return [by_identity.get(id(value)) for value in values]


def codes_of(node: Node, variables: Sequence[Var | Literal], recorded: Array) -> Array:
    """Return the codes of variables of a jaxpr, uint8[n], from those that were recorded."""
    known = [codes.code_of_number(v.val) if isinstance(v, Literal) else 0 for v in variables]
    entries = [node.entries.get(v) if isinstance(v, Var) else None for v in variables]
    if not recorded.size:  # There is a target.
        return jnp.asarray(known, jnp.uint8)
    places = np.asarray([0 if entry is None else entry for entry in entries], np.int32)
    is_recorded = np.asarray([entry is not None for entry in entries], bool)
    return jnp.where(is_recorded, recorded[places], np.asarray(known, np.uint8))
