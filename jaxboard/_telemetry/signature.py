"""The part of a call's arguments that JAX compiles for, and how two calls differ in it.

Paths use the user's names: ``batch['x']`` is the leaf ``['x']`` of the argument ``batch``.
"""

from __future__ import annotations

import dataclasses
import inspect
import reprlib
from collections.abc import Callable, Iterator
from typing import TypeAlias

import jax
import numpy as np

from jaxboard._host.observers import Call
from jaxboard._log import describe, logger
from jaxboard._safe_repr import describe_array
from jaxboard._trace.adapters.original_arguments import StaticLeaf
from jaxboard._types import PyTree

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Array:
    """A leaf that JAX sees by its type, not by its value.

    Attributes:
        dtype: its dtype.
        shape: its shape.
        weak: whether its dtype is weak.
        sharding: its sharding; None if it is not committed to a device.
        explicit: the part of the sharding that is in its type: that over explicit mesh axes.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    weak: bool
    sharding: jax.sharding.Sharding | None
    explicit: object

    def __str__(self) -> str:
        return describe_array(self)

    def is_sharded_like(self, other: _Array) -> bool:
        """Return whether JAX compiles once for both shardings, as for ``P("x")`` and ``P("x", None)`` of one mesh."""
        mine, theirs = self.sharding, other.sharding
        if mine == theirs:
            return True
        named = jax.sharding.NamedSharding
        if not (isinstance(mine, named) and isinstance(theirs, named) and mine.mesh == theirs.mesh):
            return False
        rank = max(len(self.shape), len(other.shape))
        return mine.is_equivalent_to(theirs, rank) and self.explicit == other.explicit


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Static:
    """A value that is part of the program."""

    value: object

    def __str__(self) -> str:
        return _SHORT.repr(self.value)

    def equals(self, other: _Static) -> bool:
        if self.value is other.value:
            return True
        try:
            return type(self.value) is type(other.value) and bool(self.value == other.value)
        except Exception:  # the user's own __eq__
            return False


@dataclasses.dataclass(frozen=True, slots=True)
class _Opaque:
    """A leaf that is neither: an argument of a function that is not jitted."""

    kind: str

    def __str__(self) -> str:
        return self.kind


_Leaf: TypeAlias = _Array | _Static | _Opaque


@dataclasses.dataclass(frozen=True, slots=True)
class _Argument:
    """An argument: its leaves by path, and the tree structure around them."""

    by_keyword: bool
    tree: object
    leaves: dict[str, _Leaf]

    def __str__(self) -> str:
        return str(*self.leaves.values()) if len(self.leaves) == 1 else "given"


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One difference between two calls.

    Attributes:
        path: the leaf or the argument.
        before: its description in the earlier call.
        after: its description in the later call.
        kinds: the kinds of change: "shape", "dtype", "weak type", "sharding", "static value",
            "structure".
    """

    path: str
    before: str
    after: str
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.after} ({', '.join(self.kinds)})"


class CallSignature:
    """The arguments of a call, as far as JAX chooses a program by them.

    Args:
        call: a call; donated arrays among its arguments may be deleted.
    """

    __slots__ = ("_arguments",)

    _arguments: dict[str, _Argument]

    def __init__(self, call: Call):
        original = _original_arguments(call)
        if original is not None:
            self._arguments = {
                name: _Argument(
                    by_keyword=name in call.kwargs,
                    tree=None,
                    leaves={
                        path: _Static(leaf.value) if isinstance(leaf, StaticLeaf) else _leaf(leaf)
                        for path, leaf in leaves.items()
                    },
                )
                for name, leaves in original.items()
            }
            return
        options = call.function.jit_options or {}
        count = len(call.args)
        # Numbers beyond `count` belong to arguments that this call leaves at their defaults.
        static_numbers = {
            n % count for n in options.get("static_argnums", ()) if -count <= n < count
        }
        static_names = options.get("static_argnames", ())
        self._arguments = {}
        names = _positional_names(call.function, count)
        for number, (name, value) in enumerate(zip(names, call.args, strict=True)):
            static = number in static_numbers or name in static_names
            self._arguments[name] = _argument(name, value, static=static, by_keyword=False)
        for name, value in call.kwargs.items():
            static = name in static_names
            self._arguments[name] = _argument(name, value, static=static, by_keyword=True)

    def changes(self, later: CallSignature) -> list[Change]:
        """Return how ``later`` differs; nothing, if JAX uses the same program for both calls."""
        changes: list[Change] = []
        before, after = self._arguments, later._arguments
        for name in [*before, *(name for name in after if name not in before)]:
            changes += _compare_arguments(name, before.get(name), after.get(name))
        return changes


def named_arrays(call: Call) -> Iterator[tuple[str, jax.Array | np.ndarray]]:
    """Return the arrays among the arguments of a call that still exist, with their paths."""
    original = _original_arguments(call)
    if original is not None:
        named = [leaf for leaves in original.values() for leaf in leaves.items()]
    else:
        names = _positional_names(call.function, len(call.args))
        arguments = [*zip(names, call.args, strict=True), *call.kwargs.items()]
        named = [
            (name + jax.tree_util.keystr(path), leaf)
            for name, value in arguments
            for path, leaf in jax.tree_util.tree_leaves_with_path(value)
        ]
    for name, leaf in named:
        if isinstance(leaf, np.ndarray) or (isinstance(leaf, jax.Array) and not leaf.is_deleted()):
            yield name, leaf


def _original_arguments(call: Call) -> dict[str, dict[str, object]] | None:
    """Return the user's arguments of a function whose library passes on others; None if that is not known."""
    read = getattr(call.function, "original_arguments", None)
    if read is None:
        return None
    try:
        return read(call.args, call.kwargs)
    except Exception as reason:  # another version of the library
        logger.debug("jaxboard: the arguments of %s: %s", call.name, describe(reason))
        return None


def _positional_names(function: Callable[..., object], count: int) -> list[str]:
    """Return the names of the first ``count`` positional arguments."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin has no signature
        parameters = []
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{i}]" for i in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return [*names, *(f"args[{i}]" for i in range(len(names), count))][:count]


def _argument(name: str, value: PyTree, *, static: bool, by_keyword: bool) -> _Argument:
    if static:
        return _Argument(by_keyword, None, {name: _Static(value)})
    leaves, tree = jax.tree_util.tree_flatten_with_path(value)
    return _Argument(
        by_keyword, tree, {name + jax.tree_util.keystr(path): _leaf(leaf) for path, leaf in leaves}
    )


def _leaf(value: object) -> _Array | _Opaque:
    try:
        aval = jax.typeof(value)
        # JAX may choose the sharding of an array that is not committed to a device.
        sharding = getattr(value, "sharding", None) if getattr(value, "committed", False) else None
        weak = bool(getattr(aval, "weak_type", False))
        explicit = getattr(aval, "sharding", None)
        return _Array(aval.dtype, tuple(aval.shape), weak, sharding, explicit)
    except Exception:  # neither an array nor a number
        return _Opaque(type(value).__name__)


def _compare_arguments(
    name: str, before: _Argument | None, after: _Argument | None
) -> Iterator[Change]:
    if before is None or after is None:
        yield Change(name, str(before or "not given"), str(after or "not given"), ("structure",))
        return
    if before.by_keyword != after.by_keyword:
        keyword, position = "given by keyword", "given by position"
        texts = (keyword, position) if before.by_keyword else (position, keyword)
        yield Change(name, *texts, ("structure",))
    paths = [*before.leaves, *(path for path in after.leaves if path not in before.leaves)]
    for path in paths:
        change = _compare_leaves(path, before.leaves.get(path), after.leaves.get(path))
        if change is not None:
            yield change
    if before.leaves.keys() == after.leaves.keys() and before.tree != after.tree:
        yield Change(name, *_difference(str(before.tree), str(after.tree)), ("structure",))


def _compare_leaves(path: str, before: _Leaf | None, after: _Leaf | None) -> Change | None:
    if before is None or after is None:
        return Change(path, str(before or "absent"), str(after or "absent"), ("structure",))
    if isinstance(before, _Static) and isinstance(after, _Static):
        if before.equals(after):
            return None
        return Change(path, str(before), str(after), ("static value",))
    if isinstance(before, _Array) and isinstance(after, _Array):
        return _compare_arrays(path, before, after)
    return None if before == after else Change(path, str(before), str(after), ("structure",))


def _compare_arrays(path: str, before: _Array, after: _Array) -> Change | None:
    kinds = [name for name in ("shape", "dtype") if getattr(before, name) != getattr(after, name)]
    texts = [str(before), str(after)]
    if before.weak != after.weak:
        kinds.append("weak type")
        texts = [f"weak {t}" if a.weak else t for a, t in zip((before, after), texts, strict=True)]
    if not before.is_sharded_like(after):
        kinds.append("sharding")
        texts = [
            f"{t} on {_describe_sharding(a.sharding)}"
            for a, t in zip((before, after), texts, strict=True)
        ]
    return Change(path, texts[0], texts[1], tuple(kinds)) if kinds else None


def _describe_sharding(sharding: jax.sharding.Sharding | None) -> str:
    match sharding:
        case None:
            return "no device in particular"
        case jax.sharding.NamedSharding():
            mesh = ", ".join(f"{name}={size}" for name, size in sharding.mesh.shape.items())
            kind = "" if sharding.memory_kind in (None, "device") else f", {sharding.memory_kind}"
            # The class is called PartitionSpec or P, depending on the version.
            spec = ", ".join(map(repr, sharding.spec))
            return f"mesh({mesh}) as P({spec}){kind}"
        case jax.sharding.SingleDeviceSharding():
            (device,) = sharding.device_set
            kind = "" if sharding.memory_kind in (None, "device") else f", {sharding.memory_kind}"
            return f"{device.platform}:{device.id}{kind}"
        case _:
            return str(sharding)


def _difference(before: str, after: str) -> tuple[str, str]:
    """Return the parts in which two texts differ, each with a little context."""
    start = 0
    for a, b in zip(before, after, strict=False):
        if a != b:
            break
        start += 1
    start = max(0, start - 20)
    dots = "..." if start else ""
    return dots + before[start : start + 80], dots + after[start : start + 80]
