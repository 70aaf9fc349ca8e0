"""The primitives of a tap: values pass as they are, and the gradient that comes back is reported.

Not a ``custom_vjp``, which would refuse forward-mode derivatives: ``tap`` leaves behind, where somebody
differentiates, a linear identity on the tangent, whose transpose reports.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxboard._frame import ReportSpec
from jaxboard._reduce import floats
from jaxboard._trace.primitives import report

tap_p = Primitive("jaxboard_tap")
tangent_p = Primitive("jaxboard_tap_tangent")


def tap(spec: ReportSpec, value: Any) -> Any:
    """The value; the norms of its gradients are reported as ``spec`` says."""
    return tap_p.bind(value, spec=spec, rank=jnp.ndim(value))


def _same(value: Any, **_: Any) -> Any:
    return value


def _lower(_: Any, operand: Any, **__: Any) -> list[Any]:
    return [operand]


def _batch(primitive: Primitive, operands: Any, dims: Any, **params: Any) -> Any:
    (value,), (dim,) = operands, dims
    return primitive.bind(jnp.moveaxis(value, dim, 0), **params), 0


for _primitive in (tap_p, tangent_p):
    _primitive.def_impl(_same)
    _primitive.def_abstract_eval(_same)
    mlir.register_lowering(_primitive, _lower)
    batching.primitive_batchers[_primitive] = functools.partial(_batch, _primitive)


def _differentiate(primals: Any, tangents: Any, **params: Any) -> Any:
    # Whoever differentiates this again gets no second tap: a gradient is reported once.
    (value,), (tangent,) = primals, tangents
    passed = tangent if isinstance(tangent, ad.Zero) else tangent_p.bind(tangent, **params)
    return value, passed


def _differentiate_tangent(primals: Any, tangents: Any, **params: Any) -> Any:
    return tangent_p.bind(*primals, **params), tangents[0]


def _transpose(gradient: Any, _: Any, *, spec: ReportSpec, rank: int) -> list[Any]:
    if not isinstance(gradient, ad.Zero):
        # In at least 32 bits: squares of smaller floats overflow.
        magnitude = floats(jnp.abs(gradient))
        own = tuple(range(gradient.ndim - rank, gradient.ndim))
        report(spec, jnp.sqrt(jnp.square(magnitude).sum(own)))
    return [gradient]


ad.primitive_jvps[tap_p] = _differentiate
ad.primitive_jvps[tangent_p] = _differentiate_tangent
ad.primitive_transposes[tangent_p] = _transpose
