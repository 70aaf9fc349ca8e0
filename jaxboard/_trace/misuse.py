"""Objects that are certainly not a step, which ``instrument`` refuses."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from jaxboard._errors import UsageError
from jaxboard._safe_repr import safe_repr
from jaxboard._trace.adapters.wrappers import bound_arguments

_TRANSFORMATIONS = {
    "jax": (
        "jit",
        "pmap",
        "vmap",
        "shard_map",
        "grad",
        "value_and_grad",
        "jacfwd",
        "jacrev",
        "hessian",
        "checkpoint",
        "remat",
        "custom_jvp",
        "custom_vjp",
    ),
    "flax.nnx": ("jit", "pmap", "vmap", "shard_map", "grad", "value_and_grad", "remat", "scan"),
    "equinox": (
        "filter_jit",
        "filter_pmap",
        "filter_vmap",
        "filter_grad",
        "filter_value_and_grad",
        "filter_checkpoint",
    ),
}
"""Their names, by module. As decorators, they take a function and return another one."""


def check_is_step(fn: object) -> None:
    """Raise if an object is certainly not the step of a program.

    Raises:
        UsageError: it cannot be called, or is a transformation, a part of jaxboard or a class.
    """
    if not callable(fn):
        raise UsageError(f"instrument({safe_repr(fn)}): expected a function.")
    bound = bound_arguments(fn)
    transformation = _transformation_name(fn if bound is None else bound[0])
    if transformation is not None:
        raise UsageError(
            f"instrument({transformation}): expected a function that is a step, got a transformation of such functions. Put "
            f"@jaxboard.instrument on the line above @{transformation}, or write jaxboard.instrument({transformation}(step))."
        )
    own = _name_in("jaxboard", getattr(sys.modules["jaxboard"], "__all__", ()), fn)
    if own is not None:
        raise UsageError(
            f"instrument({own}): expected a function that is a step, got a part of jaxboard. Instrument the function "
            "that uses it."
        )
    if isinstance(fn, type):
        raise UsageError(
            f"instrument({safe_repr(fn)}): expected a function that is a step, got a class. Put @jaxboard.instrument "
            "above the method that is the step."
        )


def _transformation_name(fn: object) -> str | None:
    """Return the name of a transformation of JAX, Flax or Equinox; None for anything else."""
    names = (_name_in(module, names, fn) for module, names in _TRANSFORMATIONS.items())
    return next(filter(None, names), None)


def _name_in(module: str, names: Iterable[str], thing: object) -> str | None:
    """Return the name of an object with its module; None if it has none of the names in a module that is imported."""
    # By vars, as getattr may import a module, or warn that a name is deprecated.
    attributes = vars(sys.modules[module]) if module in sys.modules else {}
    return next((f"{module}.{name}" for name in names if attributes.get(name) is thing), None)
