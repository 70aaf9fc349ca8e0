"""Estimates of the floating-point operations of an equation."""

from __future__ import annotations

import math

import jax.extend.core as jex

from jaxboard import _compat

_PER_OUTPUT = {
    "abs",
    "add",
    "and",
    "ceil",
    "clamp",
    "cos",
    "cosh",
    "div",
    "erf",
    "erf_inv",
    "exp",
    "exp2",
    "expm1",
    "floor",
    "integer_pow",
    "is_finite",
    "lgamma",
    "log",
    "log1p",
    "logistic",
    "max",
    "min",
    "mul",
    "neg",
    "pow",
    "rem",
    "round",
    "rsqrt",
    "select_n",
    "sign",
    "sin",
    "sinh",
    "sqrt",
    "square",
    "sub",
    "tan",
    "tanh",
    "add_any",
}
"""Operations that compute each element of the output from a few elements of the inputs."""

_PER_INPUT = {
    "argmax",
    "argmin",
    "cumsum",
    "cumprod",
    "cummax",
    "reduce_sum",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "reduce_and",
    "reduce_or",
    "scatter-add",
}
"""Operations that read each element of the first input once."""


def flops(eqn: jex.JaxprEqn) -> int:
    """Return an estimate: two for each multiply-add of a product, one for each element otherwise.

    Operations that only move data count nothing.
    """
    name = eqn.primitive.name
    if name == "dot_general":
        (contracting, _), _ = eqn.params["dimension_numbers"]
        shape = _compat.aval_of(eqn.invars[0]).shape
        return 2 * _size(eqn.outvars[0]) * math.prod(shape[axis] for axis in contracting)
    if name == "conv_general_dilated":
        # Each element of the output is a product over the window and the input channels of its group.
        kernel = _compat.aval_of(eqn.invars[1]).shape
        out_channels = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
        return 2 * _size(eqn.outvars[0]) * (math.prod(kernel) // out_channels)
    if name in _PER_OUTPUT:
        return _size(eqn.outvars[0])
    return _size(eqn.invars[0]) if name in _PER_INPUT else 0


def _size(var: jex.Var | jex.Literal) -> int:
    shape = _compat.aval_of(var).shape
    return math.prod(shape) if all(isinstance(size, int) for size in shape) else 0
