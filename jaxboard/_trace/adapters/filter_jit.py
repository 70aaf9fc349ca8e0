"""Over ``eqx.filter_jit``: the ``jax.jit`` function inside what it returned is the one to instrument.

That function gets the user's arguments in arrays and a static rest, so Equinox itself goes on deciding what is
traced, what is donated, and what an error inside says.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from jaxboard import _compat
from jaxboard._trace.adapters.nnx_jit import Lowering
from jaxboard._trace.wrapper import Instrumented, Options


def instrument_filter_jit(fn: Any, options: Options) -> Any:
    """A copy of what ``eqx.filter_jit`` returned, with the ``jax.jit`` function inside it instrumented."""
    inner = fn._cached  # noqa: SLF001 (Equinox has no other name for it)
    options = dataclasses.replace(options, name=options.name or fn.__name__)
    wrapper = _holding(fn, Instrumented(inner, options, _compat.jit_options(inner)))
    # A module is frozen; this is none of its fields.
    object.__setattr__(wrapper, "precompile", functools.partial(_precompile, wrapper))
    return wrapper


def _holding(fn: Any, inner: Any) -> Any:
    import equinox

    return equinox.module_update_wrapper(dataclasses.replace(fn, _cached=inner))


def _precompile(wrapper: Any, *args: Any, **kwargs: Any) -> None:
    """See :meth:`Instrumented.precompile`. What Equinox makes of the arguments, only its wrapper knows."""
    _holding(wrapper, Lowering(wrapper._cached)).lower(*args, **kwargs)  # noqa: SLF001
