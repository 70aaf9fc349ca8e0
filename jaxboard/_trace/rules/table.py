"""The rule table: everything the harvest knows about a primitive, by the primitive's name."""

from __future__ import annotations

from jax.extend.core import JaxprEqn

from jaxboard._trace import hijax
from jaxboard._trace.rules import calls, reports
from jaxboard._trace.rules.base import Rule
from jaxboard._trace.rules.cond import cond
from jaxboard._trace.rules.loops import scan, while_loop
from jaxboard._trace.rules.shard_map import shard_map

_CALL = calls.inline("call_jaxpr")
_JIT = Rule(calls.jit, streams=True)
_REMAT = Rule(calls.remat)
_SCAN = Rule(scan, streams=True)

RULES: dict[str, Rule] = {
    # jaxboard's own
    "jaxboard_report": Rule(reports.report),
    "jaxboard_deliver": Rule(reports.deliver),
    # Calls
    "jit": _JIT,
    "pjit": _JIT,  # the name up to JAX 0.8
    "closed_call": Rule(_CALL, streams=True),
    "eval_jaxpr": Rule(_CALL, streams=True),  # what JAX 0.12 stages for a closed call
    "core_call": Rule(_CALL, streams=True),
    "custom_jvp_call": Rule(calls.custom_derivative(_CALL), streams=True),
    "custom_vjp_call": Rule(calls.custom_derivative(_CALL), streams=True),
    "custom_vmap_call": Rule(calls.custom_derivative(calls.inline("call"))),
    "custom_linear_solve": Rule(calls.custom_derivative(calls.linear_solve)),
    hijax.CALL: Rule(
        calls.custom_derivative(calls.expand), streams=True
    ),  # hijax without a rule below
    "checkpoint": _REMAT,  # the name up to JAX 0.9
    "remat2": _REMAT,  # the name from JAX 0.10
    # Control flow and meshes
    "scan": _SCAN,
    "while": Rule(while_loop, streams=True),
    "cond": Rule(cond),
    "shard_map": Rule(shard_map),
    # Classes of hijax objects
    "Scan3": _SCAN,  # jax_scan3
    "RematTraced": _REMAT,  # jax_remat3
}


def rule_of(eqn: JaxprEqn) -> Rule | None:
    """Return the rule of an equation; None if jaxboard has none."""
    return RULES.get(hijax.name_of(eqn)) or RULES.get(eqn.primitive.name)
