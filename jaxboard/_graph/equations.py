"""The conversion of a jaxpr: each equation becomes an operation, or a scope with the equations inside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
import jax.extend.core as jex
import numpy as np

from jaxboard import _compat
from jaxboard._frame import ReportSpec
from jaxboard._graph.flops import flops
from jaxboard._graph.nested import ArrayType, Output, Scope
from jaxboard._graph.tracing import TracedFunction
from jaxboard._trace import hijax
from jaxboard._trace.inspection import is_jaxpr
from jaxboard._trace.primitives import report_p

Jaxpr: TypeAlias = jex.Jaxpr | jex.ClosedJaxpr

_CALLS = {
    "checkpoint",
    "closed_call",
    "core_call",
    "custom_jvp_call",
    "custom_lin",
    "custom_vjp_call",
    "custom_vjp_call_jaxpr",
    "custom_vmap_call",
    "jit",
    "pjit",
    "remat",
    "remat2",
}
"""Primitives whose inputs and outputs are those of the jaxpr inside."""

_LONGEST = 200
"""Most characters of an attribute."""


def convert(traced: TracedFunction) -> Scope:
    """Return the operations of a function as a tree of scopes.

    The outermost scope contains ``inputs`` and ``outputs``, and the name scopes of the function: those of
    :func:`jax.named_scope` and of modules. A transformation is a scope too: ``jvp`` is the forward pass of a gradient,
    ``transpose_jvp`` the backward pass.
    """
    root = Scope()
    sources: list[Output | None] = []
    jaxpr, _ = _compat.open_jaxpr(traced.jaxpr)
    for (path, sharding), var in zip(traced.inputs, jaxpr.invars, strict=True):
        scope, name = _place(root.scope("inputs"), path)
        attributes = {"sharding": sharding} if sharding else {}
        operation = scope.add(name, "input", (), [_type(var)], attributes=attributes)
        sources.append(Output(operation, 0))
    results = _convert(traced.jaxpr, sources, root)
    for path, var, source in zip(traced.outputs, jaxpr.outvars, results, strict=True):
        scope, name = _place(root.scope("outputs"), path)
        scope.add(name, "output", [source] if source else (), [_type(var)])
    return root


def _place(scope: Scope, path: str) -> tuple[Scope, str]:
    *parts, name = path.split("/")
    for part in parts:
        scope = scope.scope(part)
    return scope, name


def _convert(jaxpr: Jaxpr, sources: Sequence[Output | None], scope: Scope) -> list[Output | None]:
    """Add the equations of a jaxpr to a scope; return where its results come from, None for literals."""
    inner, _ = _compat.open_jaxpr(jaxpr)
    known: dict[jex.Var, Output | None] = dict(zip(inner.invars, sources, strict=True))
    for var in inner.constvars:
        known[var] = Output(
            scope.scope("constants").add("constant", "constant", (), [_type(var)]), 0
        )

    def read(var: jex.Var | jex.Literal) -> Output | None:
        return None if isinstance(var, jex.Literal) else known.get(var)

    for eqn in inner.eqns:
        place = scope
        for part in _scope_names(str(eqn.source_info.name_stack)):
            if not _repeats_transformation(part, place):
                place = place.scope(part)
        is_alone = len(inner.eqns) == 1
        outputs = _equation(eqn, list(map(read, eqn.invars)), place, is_alone=is_alone)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return list(map(read, inner.outvars))


def _equation(
    eqn: jex.JaxprEqn, inputs: list[Output | None], scope: Scope, *, is_alone: bool
) -> Sequence[Output | None]:
    name = eqn.primitive.name
    if eqn.primitive is report_p:
        return _report(eqn, inputs, scope)
    jaxprs = list(_inner_jaxprs(eqn))
    if name in _CALLS and jaxprs:
        _, jaxpr = jaxprs[0]
        body, _ = _compat.open_jaxpr(jaxpr)
        if len(body.invars) == len(inputs):
            return _convert(jaxpr, inputs, _scope_of_call(eqn, body, scope, is_alone=is_alone))
    if not jaxprs:
        return _add(scope, name, eqn, inputs)
    inside = scope.new_scope(name)
    results: list[Output | None] = []
    for label, jaxpr in jaxprs:
        place = inside.new_scope(label) if len(jaxprs) > 1 else inside
        results += _convert(jaxpr, _inputs_of(eqn, label, jaxpr, inputs), place)
    return _add(inside, "result", eqn, results)


def _add(
    scope: Scope, name: str, eqn: jex.JaxprEqn, inputs: Sequence[Output | None]
) -> list[Output]:
    """Add an equation as an operation; return its outputs."""
    attributes = {
        name: text
        for name, value in eqn.params.items()
        if value is not None and not any(_jaxprs_in(value)) and (text := _text(value))
    }
    for position, var in enumerate(eqn.invars):
        if isinstance(var, jex.Literal):
            attributes[f"input {position}"] = _text(np.asarray(var.val))
    shardings = [_sharding(var) for var in eqn.outvars]
    if any(shardings):
        attributes["sharding of outputs"] = ", ".join(shardings)
    types = list(map(_type, eqn.outvars))
    sources = [source for source in inputs if source is not None]
    op = eqn.primitive.name.removeprefix("jaxboard_")
    operation = scope.add(name, op, sources, types, attributes=attributes, flops=flops(eqn))
    return [Output(operation, position) for position in range(len(types))]


def _report(eqn: jex.JaxprEqn, inputs: list[Output | None], scope: Scope) -> list[Output]:
    spec: ReportSpec = eqn.params["spec"]
    attributes = {"tag": spec.tag, "kind": spec.kind.value, "every": str(spec.every)}
    sources = [source for source in inputs if source is not None]
    scope.add(f"report_{spec.tag}", "report", sources, attributes=attributes)
    return []


# --- Scopes ---------------------------------------------------------------------------------------


def _scope_names(stack: str) -> Iterator[str]:
    """Return the scopes in a name stack: ``a/transpose(jvp(b/c))`` has ``a``, ``transpose_jvp``, ``b`` and ``c``."""
    for part in _split(stack):
        transformations, inner = _transformations(part)
        if transformations:
            yield "_".join(transformations)
            yield from _scope_names(inner)
        elif part:
            yield part


def _transformations(part: str) -> tuple[list[str], str]:
    """Return the transformations of a scope, the outermost first, and what is transformed."""
    found: list[str] = []
    while match := re.fullmatch(r"(\w+)\((.*)\)", part):
        found.append(match[1])
        part = match[2]
    return found, part


def _split(stack: str) -> Iterator[str]:
    """Split a name stack at slashes outside of parentheses."""
    depth, start = 0, 0
    for position, letter in enumerate(stack):
        depth += (letter == "(") - (letter == ")")
        if letter == "/" and depth == 0:
            yield stack[start:position]
            start = position + 1
    yield stack[start:]


def _repeats_transformation(name: str, scope: Scope) -> bool:
    """Return whether a name is that of a transformation that already has a scope around."""
    known = {"jvp", "transpose_jvp", "vmap", "vmap_jvp", "transpose_vmap_jvp", "jvp_vmap"}
    return name in known and name in scope.parts


def _scope_of_call(eqn: jex.JaxprEqn, body: jex.Jaxpr, scope: Scope, *, is_alone: bool) -> Scope:
    """Return the scope of a call: a new one, except for a jitted function that is all of its caller or has one equation."""
    name = str(eqn.params.get("name", ""))
    if eqn.primitive.name in ("jit", "pjit"):
        return scope if is_alone or len(body.eqns) <= 1 else scope.new_scope(name or "jit")
    kind = re.sub(r"_call(_jaxpr)?$|2$", "", eqn.primitive.name)
    if not name and len(body.eqns) == 1:  # The jitted function that has the custom rule.
        name = str(body.eqns[0].params.get("name", ""))
    return scope.new_scope(f"{kind}_{name}" if name else kind)


# --- Jaxprs inside equations ----------------------------------------------------------------------


def _inner_jaxprs(eqn: jex.JaxprEqn) -> Iterator[tuple[str, Jaxpr]]:
    """Return the jaxprs in an equation, each with a label."""
    for name, value in eqn.params.items():
        found = list(_jaxprs_in(value))
        label = re.sub(r"_?jaxpr?s?$", "", name) or "body"
        for position, jaxpr in enumerate(found):
            fields = getattr(value, "_fields", None)  # custom_linear_solve has a named tuple.
            suffix = "" if len(found) == 1 else f"_{position}"
            yield (
                (fields[position] if fields else {"branches": "branch"}.get(label, label) + suffix),
                jaxpr,
            )
    if hijax.is_hijax(eqn):
        # A loop and a remat have a jaxpr, and keep their names.
        body = hijax.params_of(eqn).get("jaxpr")
        avals = map(_compat.aval_of, eqn.invars)
        types = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        yield "body", hijax.expanded(eqn, types) if body is None else body


def _jaxprs_in(value: object) -> Iterator[Jaxpr]:
    values: Sequence[object] = value if isinstance(value, tuple | list) else (value,)
    yield from filter(is_jaxpr, values)


def _inputs_of(
    eqn: jex.JaxprEqn, label: str, jaxpr: Jaxpr, inputs: list[Output | None]
) -> list[Output | None]:
    """Return where the arguments of an inner jaxpr come from."""
    count = len(_compat.open_jaxpr(jaxpr)[0].invars)
    if eqn.primitive.name == "while":
        in_cond, in_body = (eqn.params[f"{part}_nconsts"] for part in ("cond", "body"))
        carry = inputs[in_cond + in_body :]
        consts = inputs[:in_cond] if label == "cond" else inputs[in_cond : in_cond + in_body]
        return [*consts, *carry]
    # The branches of a cond take all but the first operand. Others are not known: some operands have no source.
    return [*([None] * (count - len(inputs))), *inputs[max(0, len(inputs) - count) :]]


# --- Descriptions ---------------------------------------------------------------------------------


def _type(var: Any) -> ArrayType:
    aval = var.aval
    shape = getattr(aval, "shape", ())
    sizes = tuple(size if isinstance(size, int) else None for size in shape)
    return str(getattr(aval, "dtype", aval)), sizes


def _sharding(var: Any) -> str:
    """Return how an output is sharded, if its type has an explicit sharding."""
    spec = getattr(getattr(var.aval, "sharding", None), "spec", ())
    return str(spec) if any(axis is not None for axis in spec) else ""


def _text(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
