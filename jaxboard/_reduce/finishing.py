"""``finish=``: functions that the host applies to reduced values, such as the exponential of a mean."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxboard._safe_repr import describe_object

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"exp": np.exp, "sqrt": np.sqrt}
"""The functions that ``finish=`` names."""

_DEEPEST = 8
"""Most functions inside functions that are compared by their code."""


class HostFunction:
    """A function of the user as part of a report's key.

    Functions with the same code that refer to the same objects are equal: a program that is traced again defines
    its functions again, and its reports are still the same.

    Args:
        function: the function.
    """

    __slots__ = ("_key", "function")

    def __init__(self, function: Callable[..., object]):
        self.function = function
        self._key = _key(function, 0)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HostFunction) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", type(self.function).__name__)


Finish: TypeAlias = str | HostFunction
"""The name of a function, or a function of the user."""


def _key(value: object, depth: int) -> Hashable:
    """Return what identifies a function, or an object that one refers to."""
    if depth < _DEEPEST and isinstance(value, types.FunctionType):
        cells = (cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell))
        defaults = (value.__defaults__, value.__kwdefaults__)
        contents = [_key(each, depth + 1) for each in (*cells, *defaults)]
        return value.__code__, id(value.__globals__), *contents
    if depth < _DEEPEST and isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return functools.partial, *(_key(part, depth + 1) for part in parts)
    if depth < _DEEPEST and isinstance(value, tuple):
        return tuple, *(_key(part, depth + 1) for part in value)
    if depth < _DEEPEST and isinstance(value, dict):
        return dict, *((name, _key(part, depth + 1)) for name, part in value.items())
    if isinstance(value, int | float | str | types.MethodType | type(None)):
        return type(value), value
    return _Same(value)


class _Same:
    """An object that equals itself only, whether it has a hash or not."""

    __slots__ = ("_object",)

    def __init__(self, value: object):
        self._object = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self._object is other._object

    def __hash__(self) -> int:
        return id(self._object)


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018 (raises for a variable that is not assigned yet)
    except ValueError:
        return False
    return True


class Finished(NamedTuple):
    """Values after their function.

    Attributes:
        values: float64[...].
        has_value: bool[...]. A function that raises leaves no value.
        faults: what it raised, by the index of the value.
    """

    values: np.ndarray
    has_value: np.ndarray
    faults: dict[tuple[int, ...], Exception]


def finish_values(finish: Finish, values: np.ndarray, has_value: np.ndarray) -> Finished:
    """Apply a function to each value.

    Args:
        finish: the function. One of the user is called with float64 scalars.
        values: [...].
        has_value: bool[...], of the same shape. The function of the user is not called for other values.
    """
    values = np.asarray(values, np.float64)
    has_value = np.array(np.broadcast_to(has_value, values.shape))
    faults: dict[tuple[int, ...], Exception] = {}
    with np.errstate(all="ignore"):
        if isinstance(finish, str):
            return Finished(FUNCTIONS[finish](values), has_value, faults)
        results = np.zeros(values.shape)
        for index in np.ndindex(values.shape):
            if has_value[index]:
                try:
                    results[index] = _as_number(finish.function(values[index]))
                except Exception as fault:
                    has_value[index] = False
                    faults[index] = fault
    return Finished(results, has_value, faults)


def _as_number(result: Any) -> float:
    if isinstance(result, str | bytes) or np.ndim(result):
        raise TypeError(f"expected a number, got {describe_object(result)}")
    return float(result)
