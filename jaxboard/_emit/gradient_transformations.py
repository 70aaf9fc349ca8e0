"""Optax's gradient transformations as text: the names of the functions that made them, and the numbers passed to these."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

_MAX_DEPTH = 6
"""Most levels of nested transformations that are shown."""

_MAX_CHARACTERS = 400
"""Most characters of a description."""


def is_transformation(value: object) -> bool:
    """Return whether a value is a transformation of Optax: a pair of functions ``init`` and ``update``."""
    return getattr(value, "_fields", None) == ("init", "update")


def description(transformation: object) -> str:
    """Return a text such as ``chain(trace(decay=0.9, nesterov=False), scale(step_size=-0.1))``.

    A transformation has only functions. The arguments that it was made with are variables that these functions close over.
    """
    text = _described(cast("Any", transformation).update, 0)
    return text if len(text) <= _MAX_CHARACTERS else f"{text[: _MAX_CHARACTERS - 1]}…"


def _described(update: Callable[..., object], depth: int) -> str:
    name = getattr(update, "__qualname__", type(update).__name__).partition(".")[0]
    variables = dict(_variables(update)) if depth < _MAX_DEPTH else {}
    parts = [
        _described(inner, depth + 1)
        for value in variables.values()
        for inner in _inner_updates(value)
    ]
    if name == "with_extra_args_support" and len(parts) == 1:
        return parts[0]
    numbers = [
        f"{variable}={value}"
        for variable, value in variables.items()
        if isinstance(value, bool | int | float | str)
    ]
    return f"{name}({', '.join([*parts, *numbers])})"


def _variables(function: object) -> Iterator[tuple[str, object]]:
    """Yield the variables that a function closes over."""
    if isinstance(function, types.FunctionType):
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=False
        ):
            try:
                yield name, cell.cell_contents
            except ValueError:  # a variable that is not assigned yet
                continue


def _inner_updates(value: object) -> Iterator[Callable[..., object]]:
    """Yield the ``update`` function of each transformation in a variable. A chain has them in a tuple."""
    if is_transformation(value):
        yield cast("Any", value).update
    elif isinstance(value, Mapping):
        for part in cast("Mapping[object, object]", value).values():
            yield from _inner_updates(part)
    elif isinstance(value, tuple | list):
        for part in cast("tuple[object, ...]", value):
            if is_transformation(part):
                yield from _inner_updates(part)
            elif isinstance(part, types.FunctionType):
                yield part
