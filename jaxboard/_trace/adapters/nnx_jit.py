"""``instrument`` over ``nnx.jit``: instruments the ``jax.jit`` function inside its result."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from jaxboard import _compat
from jaxboard._trace.adapters.original_arguments import of_nnx_jit
from jaxboard._trace.adapters.precompile_proxy import PrecompileProxy
from jaxboard._trace.adapters.step_arguments import over_nnx_jit, pass_on
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._trace.wrapper import Instrumented


def instrument_nnx_jit(fn: Any, options: InstrumentOptions) -> Callable[..., Any]:
    """Return a copy of ``fn``, a result of ``nnx.jit``, whose inner function is instrumented."""
    wrapper = copy.copy(fn)
    inner = fn.jitted_fn.__wrapped__
    # The inner function refers to its wrapper, which is the key of nnx's update context.
    fields = {f.name: wrapper for f in dataclasses.fields(inner) if getattr(inner, f.name) is fn}
    jitted = jax.jit(dataclasses.replace(inner, **fields), **_compat.jit_options(fn.jitted_fn))
    options = dataclasses.replace(options, name=options.name or getattr(fn, "__name__", None))
    if options.step is not None:
        options = dataclasses.replace(options, step=over_nnx_jit(options.step))
        pass_on(wrapper)
    jit_options = _compat.jit_options(jitted)
    original_arguments = functools.partial(of_nnx_jit, _names(fn), jit_options)
    wrapper.jitted_fn = Instrumented(
        jitted, options, jit_options, original_arguments=original_arguments
    )
    wrapper.precompile = functools.partial(_precompile, wrapper)
    return wrapper


def _names(fn: Any) -> list[str]:
    try:
        return list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):  # a builtin has no signature
        return []


def _precompile(wrapper: Any, *args: object, **kwargs: object) -> None:
    """Compile as :meth:`Instrumented.precompile` does, with the arguments that nnx passes on."""
    inner = wrapper.jitted_fn
    wrapper.jitted_fn = PrecompileProxy(inner)
    try:
        wrapper.lower(*args, **kwargs)
    finally:
        wrapper.jitted_fn = inner
