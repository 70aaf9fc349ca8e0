"""Over ``nnx.jit``: the ``jax.jit`` function inside what it returned is the one to instrument."""

from __future__ import annotations

import copy
import dataclasses
import functools
from typing import Any

import jax

from jaxboard import _compat
from jaxboard._trace.wrapper import Instrumented, Options


def instrument_nnx_jit(fn: Any, options: Options) -> Any:
    """A copy of what ``nnx.jit`` returned, with the ``jax.jit`` function inside it instrumented."""
    wrapper = copy.copy(fn)
    inner = fn.jitted_fn.__wrapped__
    # The inner function knows the wrapper it belongs to: it is the key of nnx's update context.
    own = {f.name: wrapper for f in dataclasses.fields(inner) if getattr(inner, f.name) is fn}
    jitted = jax.jit(dataclasses.replace(inner, **own), **_compat.jit_options(fn.jitted_fn))
    options = dataclasses.replace(options, name=options.name or getattr(fn, "__name__", None))
    wrapper.jitted_fn = Instrumented(jitted, options, _compat.jit_options(jitted))
    wrapper.precompile = functools.partial(_precompile_under_nnx, wrapper)
    return wrapper


class Lowering:
    """Stands in for an instrumented function where a wrapper would have it lowered, to compile all of it."""

    def __init__(self, function: Instrumented):
        self._function = function

    def lower(self, *args: Any, **kwargs: Any) -> None:
        self._function.precompile(*args, **kwargs)


def _precompile_under_nnx(wrapper: Any, *args: Any, **kwargs: Any) -> None:
    """See :meth:`Instrumented.precompile`. What nnx makes of the arguments, only its own wrapper knows."""
    inner = wrapper.jitted_fn
    wrapper.jitted_fn = Lowering(inner)
    try:
        wrapper.lower(*args, **kwargs)
    finally:
        wrapper.jitted_fn = inner
