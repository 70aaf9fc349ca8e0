"""``instrument`` over ``eqx.filter_jit``: instruments the ``jax.jit`` function inside its result.

That function gets the user's arguments as arrays and a static rest. Equinox still decides what is traced
and donated, and how errors inside are reported.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from jaxboard import _compat
from jaxboard._trace.adapters.original_arguments import of_filter_jit
from jaxboard._trace.adapters.precompile_proxy import PrecompileProxy
from jaxboard._trace.adapters.step_arguments import over_filter_jit
from jaxboard._trace.instrument_options import InstrumentOptions
from jaxboard._trace.wrapper import Instrumented


def instrument_filter_jit(fn: Any, options: InstrumentOptions) -> Callable[..., Any]:
    """Return a copy of ``fn``, a result of ``eqx.filter_jit``, whose inner function is instrumented."""
    inner = fn._cached  # noqa: SLF001 (Equinox has no other name for it)
    # A partial or a module has no name, but its jitted function has one.
    options = dataclasses.replace(options, name=options.name or inner.__name__)
    signature = fn._signature  # noqa: SLF001
    if options.step is not None:
        options = dataclasses.replace(options, step=over_filter_jit(options.step, signature))
    instrumented = Instrumented(
        inner,
        options,
        _compat.jit_options(inner),
        original_arguments=lambda args, _: of_filter_jit(signature, args),
    )
    wrapper = _replace_inner(fn, instrumented)
    # An Equinox module is frozen, and this is not one of its fields.
    object.__setattr__(wrapper, "precompile", functools.partial(_precompile, wrapper))
    return wrapper


def _replace_inner(wrapper: Any, inner: Instrumented | PrecompileProxy) -> Any:
    import equinox

    return equinox.module_update_wrapper(dataclasses.replace(wrapper, _cached=inner))


def _precompile(wrapper: Any, *args: object, **kwargs: object) -> None:
    """Compile as :meth:`Instrumented.precompile` does, with the arguments that Equinox passes on."""
    proxy = PrecompileProxy(wrapper._cached)  # noqa: SLF001
    _replace_inner(wrapper, proxy).lower(*args, **kwargs)
