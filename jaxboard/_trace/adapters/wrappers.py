"""``instrument`` over wrappers of a jitted function: partials, bound methods, and ``functools.wraps``.

A wrapper made with ``functools.wraps`` still runs. It gets a copy whose closure holds the instrumented function
instead of the jitted one, so the reports leave as hidden outputs.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Callable
from typing import Any

import jax

Function = Callable[..., Any]


def wrapped_by(fn: Any) -> Any:
    """Return the function that ``fn`` passes its arguments to, or None if that is not known."""
    if _is_partial(fn):
        return fn.func
    if isinstance(fn, types.MethodType):
        return fn.__func__
    if isinstance(fn, types.FunctionType) and not _is_of_jax(fn):
        return getattr(fn, "__wrapped__", None)
    return None


def bound_arguments(fn: Any) -> tuple[Any, tuple[Any, ...], dict[str, Any]] | None:
    """Return the function inside a partial or a bound method, and the arguments that it holds."""
    if _is_partial(fn):
        return fn.func, tuple(fn.args), dict(fn.keywords)
    if isinstance(fn, types.MethodType):
        return fn.__func__, (fn.__self__,), {}
    return None


def bind(inner: Any, like: Any) -> Any:
    """Return a partial or a bound method like ``like``, of another function.

    If ``inner`` has a method ``precompile``, so has the result.
    """
    if isinstance(like, types.MethodType):
        bound: Any = functools.partial(inner, like.__self__)
    else:
        bound = type(like)(inner, *like.args, **like.keywords)
    precompile, arguments = getattr(inner, "precompile", None), bound_arguments(like)
    if precompile is not None and arguments is not None:
        _, args, kwargs = arguments
        # An Equinox module is frozen, and this is not one of its fields.
        object.__setattr__(bound, "precompile", functools.partial(precompile, *args, **kwargs))
    return bound


def substitute(fn: Any, replace: Callable[[Any], Function | None]) -> Function | None:
    """Return a function like ``fn`` that calls a replacement of the jitted function inside it.

    Args:
        fn: a wrapper.
        replace: returns the replacement of a jitted function, and None for any other object.

    Returns:
        The function; None if there is no jitted function inside, or it cannot be replaced safely.
    """
    replacement = replace(fn)
    if replacement is not None:
        return replacement
    wrapped = wrapped_by(fn)
    inner = None if wrapped is None else substitute(wrapped, replace)
    if inner is None:
        return None
    if bound_arguments(fn) is not None:
        return bind(inner, fn)
    return _with_closure(fn, wrapped, inner)


def _with_closure(fn: types.FunctionType, wrapped: object, inner: Function) -> Function | None:
    """Return ``fn`` with ``inner`` in the place of ``wrapped`` in its closure, or None if it is not there."""
    cells = fn.__closure__ or ()
    held = [_contents(cell) is wrapped for cell in cells]
    names = {name for name, holds in zip(fn.__code__.co_freevars, held, strict=True) if holds}
    if not names or _assigns(fn.__code__, names):
        return None
    closure = tuple(
        types.CellType(inner) if holds else cell for cell, holds in zip(cells, held, strict=True)
    )
    copy = types.FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, closure)
    copy.__kwdefaults__ = fn.__kwdefaults__
    copy.__dict__.update(fn.__dict__)
    watched = [cell for cell, holds in zip(cells, held, strict=True) if holds]

    @functools.wraps(fn)
    def call(*args: object, **kwargs: object) -> object:
        # The decorator may have put another function into its closure since.
        is_current = all(_contents(cell) is wrapped for cell in watched)
        return (copy if is_current else fn)(*args, **kwargs)

    return call


def _assigns(code: types.CodeType, names: set[str]) -> bool:
    """Return whether a function assigns one of these variables of its closure."""
    if any(
        i.opname in ("STORE_DEREF", "DELETE_DEREF") and i.argval in names
        for i in dis.get_instructions(code)
    ):
        return True
    return any(
        _assigns(const, names & set(const.co_freevars))
        for const in code.co_consts
        if isinstance(const, types.CodeType)
    )


def _contents(cell: types.CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _is_partial(fn: Any) -> bool:
    kind = type(fn)
    if kind in (functools.partial, jax.tree_util.Partial):
        return True
    return kind.__name__ == "Partial" and kind.__module__.partition(".")[0] == "equinox"


def _is_of_jax(fn: types.FunctionType) -> bool:
    """Return whether ``fn`` is a transformation of JAX, such as the result of ``jax.grad``."""
    # `fn.__module__` is that of the function that it transforms.
    return str(fn.__globals__.get("__name__", "")).partition(".")[0] == "jax"
