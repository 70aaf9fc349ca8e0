"""Equations of "hijax": primitives that are objects with methods, not names with parameters.

Such an equation has the primitive ``call_hi_primitive``, and its parameter ``_prim`` is an object. The jaxprs and options
that an ordinary equation has as parameters are attributes of that object, and the object's ``expand`` is what JAX
lowers. From JAX 0.12 ``lax.custom_root`` is one; the flags ``jax_scan3``, ``jax_remat3``, ``jax_custom_vjp3`` and
``jax_custom_jvp3`` replace ``scan``, ``remat`` and custom derivatives by others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax
from jax import Array
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from jaxboard import _compat

_AnyJaxpr: TypeAlias = Jaxpr | ClosedJaxpr

CALL = "call_hi_primitive"
"""The name of the primitive of all these equations."""


def is_hijax(eqn: JaxprEqn) -> bool:
    """Return whether an equation is one of hijax."""
    return eqn.primitive.name == CALL


def name_of(eqn: JaxprEqn) -> str:
    """Return the name of an equation's primitive, or of the class of its hijax object."""
    return type(eqn.params["_prim"]).__name__ if is_hijax(eqn) else eqn.primitive.name


def params_of(eqn: JaxprEqn) -> dict[str, Any]:
    """Return the parameters of an equation, which hijax keeps in its object."""
    return vars(eqn.params["_prim"]) if is_hijax(eqn) else eqn.params


def jaxprs_in(eqn: JaxprEqn) -> list[_AnyJaxpr]:
    """Return the jaxprs in the object of an equation; none for an ordinary equation."""
    return list(_jaxprs_of(eqn.params["_prim"])) if is_hijax(eqn) else []


def _jaxprs_of(primitive: object) -> Iterator[_AnyJaxpr]:
    for value in getattr(primitive, "params", {}).values():
        # A traced function has a jaxpr; the batched version of a primitive has that primitive.
        jaxpr = getattr(value, "jaxpr", value)
        if isinstance(jaxpr, _compat.JAXPR_TYPES):
            yield jaxpr
        elif hasattr(value, "expand"):
            yield from _jaxprs_of(value)


def expanded(eqn: JaxprEqn, operands: Sequence[Array | jax.ShapeDtypeStruct]) -> ClosedJaxpr:
    """Return the function of a hijax equation, as JAX lowers it."""
    primitive = eqn.params["_prim"]

    def expand(*flat: Array) -> list[Array]:
        return jax.tree.leaves(primitive.expand(*jax.tree.unflatten(primitive.in_tree, flat)))

    return jax.make_jaxpr(expand)(*operands)
