"""What JAX compiles a call for, and how two calls differ in it.

Names are the user's: ``batch['x']`` is the leaf ``['x']`` of the argument called ``batch``.
"""

from __future__ import annotations

import dataclasses
import inspect
import reprlib
from collections.abc import Iterator
from typing import Any

import jax

_TEXT = reprlib.Repr()
_TEXT.maxstring = _TEXT.maxother = 80


@dataclasses.dataclass(frozen=True, slots=True)
class _Array:
    """An argument's leaf as JAX sees it: by its type, not by its value."""

    dtype: Any
    shape: tuple[int, ...]
    weak: bool
    sharding: Any

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Static:
    """A value that is part of the program."""

    value: Any

    def __str__(self) -> str:
        return _TEXT.repr(self.value)

    def same(self, other: _Static) -> bool:
        if self.value is other.value:
            return True
        try:
            return type(self.value) is type(other.value) and bool(self.value == other.value)
        except Exception:  # the user's own __eq__
            return False


@dataclasses.dataclass(frozen=True, slots=True)
class _Opaque:
    """Something that is neither: an argument of a function that is not jitted."""

    kind: str

    def __str__(self) -> str:
        return self.kind


@dataclasses.dataclass(frozen=True, slots=True)
class _Argument:
    keyword: bool
    tree: Any
    leaves: dict[str, _Array | _Static | _Opaque]


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One difference between two calls.

    Attributes:
        path: the leaf or the argument.
        before: what it was.
        now: what it is.
        what: which of "shape", "dtype", "weak type", "sharding", "static value", "structure".
    """

    path: str
    before: str
    now: str
    what: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.path}: {self.before} -> {self.now} ({', '.join(self.what)})"


class Signature:
    """The arguments of a call, as far as JAX chooses a program by them.

    Args:
        function: what was called.
        args: its positional arguments; deleted (donated) arrays will do.
        kwargs: its keyword arguments.
        options: the options of ``jax.jit``; None where the function isn't jitted.
    """

    __slots__ = ("_arguments",)

    def __init__(self, function: Any, args: Any, kwargs: Any, options: dict[str, Any] | None):
        options = options or {}
        count = len(args)
        # Those of arguments that this call leaves to their defaults lie beyond.
        numbers = {n % count for n in options.get("static_argnums", ()) if -count <= n < count}
        names = options.get("static_argnames", ())
        self._arguments: dict[str, _Argument] = {}
        for place, (name, value) in enumerate(zip(_names(function, count), args, strict=True)):
            static = place in numbers or name in names
            self._arguments[name] = _argument(name, value, static=static, keyword=False)
        for name, value in kwargs.items():
            self._arguments[name] = _argument(name, value, static=name in names, keyword=True)

    def changes(self, now: Signature) -> list[Change]:
        """What is different in ``now``; nothing, if JAX takes the same program for both."""
        found: list[Change] = []
        one, other = self._arguments, now._arguments
        for name in [*one, *(name for name in other if name not in one)]:
            found += _compare(name, one.get(name), other.get(name))
        return found


def _names(function: Any, count: int) -> list[str]:
    """The names of the first ``count`` positional arguments."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of a builtin
        parameters = []
    names: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{i}]" for i in range(count - len(names))]
        elif parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return [*names, *(f"args[{i}]" for i in range(len(names), count))][:count]


def _argument(name: str, value: Any, *, static: bool, keyword: bool) -> _Argument:
    if static:
        return _Argument(keyword, None, {name: _Static(value)})
    leaves, tree = jax.tree_util.tree_flatten_with_path(value)
    return _Argument(
        keyword, tree, {name + jax.tree_util.keystr(path): _leaf(leaf) for path, leaf in leaves}
    )


def _leaf(leaf: Any) -> _Array | _Opaque:
    try:
        aval = jax.typeof(leaf)
        # Of an array that is committed to no device, JAX may choose the sharding itself.
        sharding = leaf.sharding if getattr(leaf, "committed", False) else None
        weak = bool(getattr(aval, "weak_type", False))
        return _Array(aval.dtype, tuple(aval.shape), weak, sharding)
    except Exception:  # no array, and no number that JAX takes for one
        return _Opaque(type(leaf).__name__)


def _compare(name: str, before: _Argument | None, now: _Argument | None) -> Iterator[Change]:
    if before is None or now is None:
        yield Change(name, _given(before), _given(now), ("structure",))
        return
    if before.keyword != now.keyword:
        keyword, position = "given by keyword", "given by position"
        how = (keyword, position) if before.keyword else (position, keyword)
        yield Change(name, *how, ("structure",))
    paths = [*before.leaves, *(path for path in now.leaves if path not in before.leaves)]
    for path in paths:
        change = _compare_leaves(path, before.leaves.get(path), now.leaves.get(path))
        if change is not None:
            yield change
    if before.leaves.keys() == now.leaves.keys() and before.tree != now.tree:
        yield Change(name, *_difference(str(before.tree), str(now.tree)), ("structure",))


def _given(argument: _Argument | None) -> str:
    if argument is None:
        return "not given"
    return str(*argument.leaves.values()) if len(argument.leaves) == 1 else "given"


def _compare_leaves(path: str, before: Any, now: Any) -> Change | None:
    if before is None or now is None:
        return Change(path, str(before or "absent"), str(now or "absent"), ("structure",))
    if isinstance(before, _Static) and isinstance(now, _Static):
        return None if before.same(now) else Change(path, str(before), str(now), ("static value",))
    if not (isinstance(before, _Array) and isinstance(now, _Array)):
        return None if before == now else Change(path, str(before), str(now), ("structure",))
    if before == now:
        return None
    what = [name for name in ("shape", "dtype") if getattr(before, name) != getattr(now, name)]
    texts = [str(before), str(now)]
    if before.weak != now.weak:
        what.append("weak type")
        texts = [f"weak {t}" if s.weak else t for s, t in zip((before, now), texts, strict=True)]
    if before.sharding != now.sharding:
        what.append("sharding")
        texts = [
            f"{t} on {_sharding(s.sharding)}" for s, t in zip((before, now), texts, strict=True)
        ]
    return Change(path, texts[0], texts[1], tuple(what))


def _sharding(sharding: Any) -> str:
    match sharding:
        case None:
            return "no device in particular"
        case jax.sharding.NamedSharding():
            mesh = ", ".join(f"{name}={size}" for name, size in sharding.mesh.shape.items())
            kind = "" if sharding.memory_kind in (None, "device") else f", {sharding.memory_kind}"
            # The class is called PartitionSpec or P by version.
            spec = ", ".join(map(repr, sharding.spec))
            return f"mesh({mesh}) as P({spec}){kind}"
        case jax.sharding.SingleDeviceSharding():
            (device,) = sharding.device_set
            kind = "" if sharding.memory_kind in (None, "device") else f", {sharding.memory_kind}"
            return f"{device.platform}:{device.id}{kind}"
        case _:
            return str(sharding)


def _difference(before: str, now: str) -> tuple[str, str]:
    """The parts in which two texts differ, with a little of what stands around them."""
    start = 0
    for a, b in zip(before, now, strict=False):
        if a != b:
            break
        start += 1
    start = max(0, start - 20)
    dots = "..." if start else ""
    return dots + before[start : start + 80], dots + now[start : start + 80]
