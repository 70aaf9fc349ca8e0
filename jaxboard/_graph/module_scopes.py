"""Scopes with the paths of the modules of Flax NNX. Modules of Linen have such scopes by themselves."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax

_patching = threading.Lock()


@contextlib.contextmanager
def module_scopes(function: Callable[..., Any], arguments: object) -> Iterator[None]:
    """Name the scopes of NNX modules after their paths in a ``with`` block, for all functions traced in it.

    The class of each module gets a ``__call__`` that enters a :func:`jax.named_scope`. A module that another one calls
    has its path within that one, such as ``blocks/0``, and the outermost the name of its class. An ``nnx.Optimizer``
    names what it updates ``optimizer``.

    Args:
        function: the function to be traced. It may be a module, a method of one, or hold one in its closure.
        arguments: a pytree that may contain modules.
    """
    nnx: Any = sys.modules.get("flax.nnx")
    if nnx is None:
        yield
        return
    candidates = [*_captured(function), arguments]
    leaves = jax.tree.leaves(candidates, is_leaf=lambda leaf: isinstance(leaf, nnx.Module))
    modules = [
        module
        for leaf in leaves
        if isinstance(leaf, nnx.Module)
        for _, module in nnx.iter_modules(leaf)
    ]
    with _patching, contextlib.ExitStack() as stack:
        calls = _Calls(nnx)
        for owner in dict.fromkeys(_owner(type(module)) for module in modules):
            if owner is not None:
                stack.enter_context(_scoped(owner, "__call__", calls.enter))
        stack.enter_context(
            _scoped(nnx.Optimizer, "update", lambda _: jax.named_scope("optimizer"))
        )
        yield


def _captured(function: Any) -> Iterator[object]:
    """Return the objects that a function holds."""
    yield function
    yield getattr(function, "__self__", None)
    inner = inspect.unwrap(function) if callable(function) else function
    if isinstance(inner, functools.partial):
        yield from (inner.args, inner.keywords)
        yield from _captured(inner.func)
    for cell in getattr(inner, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # An empty cell.
            yield cell.cell_contents


def _owner(module: type) -> type | None:
    """Return the class that defines ``__call__`` for a class of modules."""
    return next((base for base in module.__mro__ if "__call__" in vars(base)), None)


@contextlib.contextmanager
def _scoped(
    owner: type, name: str, enter: Callable[[Any], contextlib.AbstractContextManager[Any]]
) -> Iterator[None]:
    """Replace a method of a class by one that enters a context of the object, in a ``with`` block."""
    original = vars(owner)[name]

    @functools.wraps(original)
    def scoped(self: Any, *args: Any, **kwargs: Any) -> Any:
        with enter(self):
            return original(self, *args, **kwargs)

    setattr(owner, name, scoped)
    try:
        yield
    finally:
        setattr(owner, name, original)


class _Calls(threading.local):
    """The modules whose calls are being traced, the innermost last, each with the names of the modules inside."""

    def __init__(self, nnx: Any):
        self._nnx = nnx
        self._open: list[tuple[object, dict[int, str]]] = []

    @contextlib.contextmanager
    def enter(self, module: object) -> Iterator[None]:
        if self._open and self._open[-1][0] is module:  # A call of the method of a base class.
            yield
            return
        known = (names[id(module)] for _, names in reversed(self._open) if id(module) in names)
        name = next(known, type(module).__name__)
        inside = self._nnx.iter_modules(module)
        names = {id(inner): "/".join(map(str, path)) for path, inner in inside if path}
        self._open.append((module, names))
        try:
            with jax.named_scope(name):
                yield
        finally:
            self._open.pop()
