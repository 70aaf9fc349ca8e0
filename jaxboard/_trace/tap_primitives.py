"""The primitives of a tap: values pass unchanged, and the gradient that flows back is reported.

``tap`` becomes, where it is differentiated, a linear identity on the tangent whose transpose reports. A
``custom_vjp`` would do the same, but refuse forward-mode derivatives.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax.core
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxboard._frame import ReportSpec
from jaxboard._reduce import floats
from jaxboard._trace.primitives import report

# --- Rules of both primitives ---------------------------------------------------------------------


def _identity(value: Array, *, spec: ReportSpec, rank: int) -> Array:
    return value


def _abstract_identity(
    aval: jax.core.AbstractValue, *, spec: ReportSpec, rank: int
) -> jax.core.AbstractValue:
    return aval


def _batch(
    primitive: Primitive,
    operands: Sequence[Array],
    dims: Sequence[int],
    *,
    spec: ReportSpec,
    rank: int,
) -> tuple[Array, int]:
    (value,), (dim,) = operands, dims
    return primitive.bind(jnp.moveaxis(value, dim, 0), spec=spec, rank=rank), 0


def _lowering(
    ctx: mlir.LoweringRuleContext, operand: Any, *, spec: ReportSpec, rank: int
) -> list[Any]:
    return [operand]


def _register(primitive: Primitive) -> None:
    """Make a primitive the identity, also on batches."""
    primitive.def_impl(_identity)
    primitive.def_abstract_eval(_abstract_identity)
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive)
    mlir.register_lowering(primitive, _lowering)


# --- The tap --------------------------------------------------------------------------------------

tap_p = Primitive("jaxboard_tap")
_register(tap_p)


def tap(spec: ReportSpec, value: Array) -> Array:
    """Return ``value``, and report the norms of its gradients as ``spec`` describes."""
    return tap_p.bind(value, spec=spec, rank=jnp.ndim(value))


def _tap_jvp(
    primals: Sequence[Array], tangents: Sequence[Array | ad.Zero], *, spec: ReportSpec, rank: int
) -> tuple[Array, Array | ad.Zero]:
    # The primal result is no tap: a second derivative does not report the gradient again.
    (value,), (tangent,) = primals, tangents
    if isinstance(tangent, ad.Zero):
        return value, tangent
    return value, tangent_p.bind(tangent, spec=spec, rank=rank)


ad.primitive_jvps[tap_p] = _tap_jvp

# --- Its tangent ----------------------------------------------------------------------------------

tangent_p = Primitive("jaxboard_tap_tangent")
_register(tangent_p)


def _tangent_jvp(
    primals: Sequence[Array], tangents: Sequence[Array | ad.Zero], *, spec: ReportSpec, rank: int
) -> tuple[Array, Array | ad.Zero]:
    return tangent_p.bind(*primals, spec=spec, rank=rank), tangents[0]


def _tangent_transpose(
    gradient: Array | ad.Zero, operand: ad.UndefinedPrimal, *, spec: ReportSpec, rank: int
) -> list[Array | ad.Zero]:
    if not isinstance(gradient, ad.Zero):
        # In at least 32 bits: squares of smaller floats overflow.
        magnitude = floats(jnp.abs(gradient))
        axes = tuple(range(gradient.ndim - rank, gradient.ndim))
        report(spec, jnp.sqrt(jnp.square(magnitude).sum(axes)))
    return [gradient]


ad.primitive_jvps[tangent_p] = _tangent_jvp
ad.primitive_transposes[tangent_p] = _tangent_transpose
