"""``step=`` over ``nnx.jit`` and ``eqx.filter_jit``: it gets the arguments that the user passed.

The instrumented function inside these wrappers gets arrays and a static rest.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from jaxboard import _compat
from jaxboard._trace.adapters.original_arguments import bound_arguments_of, is_module

Step = Callable[..., Any]

_passed: contextvars.ContextVar[tuple[tuple[Any, ...], dict[str, Any]] | None] = (
    contextvars.ContextVar("passed", default=None)
)


def over_filter_jit(step: Step, signature: inspect.Signature) -> Step:
    """Return a function of the arguments of Equinox's inner function.

    Args:
        step: the function that the user passed.
        signature: the signature of the user's function.
    """

    def of_inner(*args: Any) -> Any:
        bound = bound_arguments_of(signature, args)
        return step(*bound.args, **bound.kwargs)

    return of_inner


def over_nnx_jit(step: Step) -> Step:
    """Return a function of the arguments of NNX's inner function, in which modules are graphs and their leaves."""
    return functools.partial(_step_of_inner, step)


def _step_of_inner(step: Step, /, *args: Any, **kwargs: Any) -> Any:
    passed = _passed.get()
    if passed is None or not _compat.at_top_level():
        passed = _merged((args, kwargs))
    args, kwargs = passed
    result = step(*args, **kwargs)
    convert = getattr(result, "__jax_array__", None)
    return result if convert is None or isinstance(result, jax.Array) else convert()


def pass_on(wrapper: Any) -> None:
    """Let a result of ``nnx.jit`` pass the arguments of each call on to :func:`over_nnx_jit`.

    To make modules again from their leaves takes about as long as ``nnx.jit`` itself, so only programs do it.
    """
    wrapper.__class__ = _passing(type(wrapper))


@functools.cache
def _passing(cls: type) -> type:
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        token = _passed.set((args, kwargs))
        try:
            return cls.__call__(self, *args, **kwargs)
        finally:
            _passed.reset(token)

    def reduce(self: Any) -> tuple[object, ...]:
        return _empty_passing, (cls,), self.__dict__

    members = {"__call__": call, "__reduce__": reduce, "__module__": cls.__module__}
    return type(cls.__name__, (cls,), members)


def _empty_passing(cls: type) -> Any:
    """Return an object without attributes, for copy and pickle, which cannot find its class by name."""
    return object.__new__(_passing(cls))


def _merged(tree: Any) -> Any:
    """Return arguments with the modules that their leaves are of."""
    from flax import nnx

    with nnx.merge_context() as context:
        return jax.tree.map(
            lambda node: (
                context.unflatten(node.graphdef, *node.states) if is_module(node) else node
            ),
            tree,
            is_leaf=is_module,
        )
