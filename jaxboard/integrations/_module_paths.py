"""Scopes of modules of a neural network: the reports of a module's methods get its path as their scope."""

from __future__ import annotations

import contextlib
import contextvars
import copyreg
import functools
import inspect
import itertools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, SupportsIndex

import jaxboard as jb

Path = tuple[str, ...]

_around: contextvars.ContextVar[Path] = contextvars.ContextVar("module", default=())
"""The path of the module whose method is running."""

_originals: dict[type, type] = {}
"""The class behind each result of :func:`scoped_class`."""

_pickled: dict[type, tuple[Callable[..., type], tuple[Any, ...]]] = {}
"""A function and its arguments that return each result of :func:`scoped_class` when it is unpickled."""


@contextlib.contextmanager
def method_scope(path: Path) -> Iterator[None]:
    """Prefix the tags of a ``with`` block with the path of a module, without the part that an outer scope has added."""
    around = _around.get()
    pairs = zip(around, path, strict=False)
    shared = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
    inner = path[shared:]
    if not inner:  # The module calls one of its own methods, which is in the scope already.
        yield
        return
    token = _around.set(path)
    try:
        with jb.scope("/".join(inner)):
            yield
    finally:
        _around.reset(token)


@functools.cache
def scoped_class(
    cls: type, path: Path, base: type, *, pickles_keep_path: bool, **options: Any
) -> type:
    """Return a subclass whose methods run in the scope of a path.

    The class of a module is a part of the structure that JAX and Flax rebuild it from, so the path stays with the
    module in every transformation.

    Args:
        cls: a class of modules. If it is a result of this function, the new path replaces its path.
        path: where a module is in the model.
        base: the library's class of all modules, whose methods stay as they are.
        pickles_keep_path: whether the subclass is unpickled as itself; otherwise as ``cls``.
        options: keyword arguments for the creation of the class.

    Returns:
        The subclass, or ``cls`` itself if it has no such methods or does not allow subclasses.
    """
    if cls in _originals:
        cls = _originals[cls]
        return scoped_class(cls, path, base, pickles_keep_path=pickles_keep_path, **options)
    methods = {name: method for name, method in _attributes(cls, base) if _is_method(method)}
    if not methods:
        return cls
    body: dict[str, Any] = {
        "__slots__": (),  # An object can change between classes of the same layout only.
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
    }
    try:
        scoped = _pickled_metaclass(type(cls))(cls.__name__, (cls,), body, **options)
    except Exception:  # The class checks or registers its subclasses.
        return cls
    _originals[scoped] = cls
    for name, method in methods.items():
        setattr(scoped, name, _in_scope(scoped, name, method, path))
    if pickles_keep_path:
        create = functools.partial(scoped_class, pickles_keep_path=True, **options)
        _pickled[scoped] = create, (cls, path, base)
    else:
        _pickled[scoped] = _same, (cls,)
    reduce: Any = functools.partialmethod(_reduce, scoped)
    type.__setattr__(scoped, "__reduce_ex__", reduce)
    return scoped


@functools.cache
def _pickled_metaclass(metaclass: type) -> type:
    """Return a metaclass whose classes are pickled as their entries in :data:`_pickled`.

    Pickle finds an ordinary class by its name, and the name of a scoped class is that of the original.
    """
    made: Any = type(metaclass.__name__, (metaclass,), {"__module__": metaclass.__module__})
    copyreg.pickle(made, _reduce_class)
    return made


def _reduce_class(cls: type) -> Any:
    # A subclass of a scoped class has a name of its own.
    return _pickled.get(cls, cls.__qualname__)


def _same(cls: type) -> type:
    return cls


def _reduce(module: Any, scoped: type, protocol: SupportsIndex) -> Any:
    """Return what a module is pickled as, without its class: cloudpickle would copy the class, and does not ask copyreg."""
    reduced = super(scoped, module).__reduce_ex__(max(operator.index(protocol), 2))
    if not isinstance(reduced, tuple) or getattr(reduced[0], "__name__", "") != "__newobj__":
        return reduced  # The class has a way of its own.
    _, (_, *args), *others = reduced
    return _unpickled, (*_pickled[scoped], args), *others


def _unpickled(
    make_class: Callable[..., type], class_args: Sequence[Any], args: Sequence[Any]
) -> Any:
    cls = make_class(*class_args)
    return cls.__new__(cls, *args)


def _attributes(cls: type, base: type) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a class that may be methods to run in a scope."""
    library = base.__module__.partition(".")[0]
    for name in dir(cls):
        is_public = not (name.startswith("_") or hasattr(base, name))
        # Libraries compare some of their own classes by identity. In the other ones, only __call__ can reach a report.
        if name == "__call__" or (is_public and cls.__module__.partition(".")[0] != library):
            found = [vars(owner)[name] for owner in cls.__mro__ if name in vars(owner)]
            yield from ((name, attribute) for attribute in found[:1])


def _is_method(attribute: Any) -> bool:
    """Return whether an attribute of a class is a method: a function, or a function that a library has wrapped."""
    return inspect.isfunction(attribute) or (
        hasattr(attribute, "__wrapped__")
        and hasattr(type(attribute), "__get__")
        and not isinstance(attribute, staticmethod | classmethod)
    )


def _in_scope(
    scoped: type, name: str, method: Callable[..., Any], path: Path
) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with method_scope(path):
            return getattr(super(scoped, self), name)(*args, **kwargs)

    return call
