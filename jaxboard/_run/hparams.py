"""The hyperparameters of a run: configurations of all kinds as one flat dict of numbers and texts."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import functools
import time
import types
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._errors import UsageError
from jaxboard._log import describe
from jaxboard._safe_repr import safe_repr
from jaxboard.records import Kind, Record, flatten


def hparams_record(hparams: object, step: int) -> Record | None:
    """Return the record of a run's hyperparameters, as one flat dict.

    Args:
        hparams: None, or a configuration: a mapping, a dataclass, a NamedTuple, parsed arguments, or an object
            with ``items()`` or ``to_dict()``, such as a ``ConfigDict``. Configurations may be nested.
        step: the step of the record.

    Raises:
        UsageError: ``hparams`` is something else, contains a PRNG key, or has two values of one name.
    """
    if hparams is None:
        return None
    try:
        flat = _flat(hparams)
    except UsageError:
        raise
    except (
        Exception
    ) as error:  # A name or a value of the user raises, or the configuration contains itself.
        raise UsageError(f"Run(hparams=...): cannot read them: {describe(error)}") from error
    return Record(Kind.HPARAMS, "hparams", step, time.time(), flat)


def _flat(hparams: object) -> dict[str, object]:
    """Return a configuration as one flat dict.

    Raises:
        UsageError: it is none, contains a PRNG key, or has two values of one name.
    """
    fields = _fields(hparams)
    if fields is None:
        raise UsageError(
            f"Run(hparams=...): expected a dict, a dataclass or a configuration object, got "
            f"{type(hparams).__name__}."
        )
    nested = _nested("", fields)
    flat = flatten(nested)
    if len(flat) < _size(nested):
        raise UsageError(
            "Run(hparams=...): two hyperparameters have the same name, as in {'a/b': 1, 'a': {'b': 2}}."
        )
    return flat


def _fields(value: object) -> Mapping[object, object] | None:
    """Return the names and values of a configuration, or None for any other value."""
    if isinstance(value, Mapping):
        return cast("Mapping[object, object]", value)
    if isinstance(value, type | jax.Array | np.ndarray | np.generic):
        return None
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, argparse.Namespace | types.SimpleNamespace):
        return dict(vars(value).items())
    # The methods of NamedTuples, of configuration objects, and of models of pydantic.
    for name in ("_asdict", "items", "model_dump", "to_dict"):
        method = getattr(value, name, None)
        if callable(method):
            made = cast("Callable[[], Iterable[tuple[object, object]]]", method)()
            return dict(made)
    return None


def _nested(prefix: str, fields: Mapping[object, object]) -> dict[str, object]:
    """Return a configuration as nested dicts of values that a sink can show."""
    return {_text(str(name)): _shown(f"{prefix}{name}", value) for name, value in fields.items()}


def _shown(name: str, value: object) -> object:
    """Return a hyperparameter as a number, a text, a list of these, or a dict of hyperparameters."""
    fields = _fields(value)
    if fields is not None:
        return _nested(f"{name}/", fields)
    if isinstance(value, list | tuple):
        items = [_shown(name, item) for item in cast("Iterable[object]", value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise UsageError(
            f"Run(hparams=...): {safe_repr(name)} is a PRNG key, {value.dtype}. Report the seed that it was made of."
        )
    if isinstance(value, jax.Array) and value.is_deleted():
        raise UsageError(
            f"Run(hparams=...): {safe_repr(name)} is an array that was deleted, or donated to a jitted function."
        )
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, enum.Enum):
        return value.name
    return _name_of(value)


def _name_of(value: object) -> object:
    """Return the name of a function, a method, a class or a partial; other values as they are."""
    if isinstance(value, functools.partial):
        return f"partial({_name_of(value.func)})"
    is_code = callable(value) and not isinstance(value, jax.Array)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not is_code:
        return value
    return name if isinstance(name, str) else type(value).__name__


def _text(text: str) -> str:
    """Return a text with escapes for what UTF-8 cannot hold."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _size(nested: Mapping[str, object]) -> int:
    """Return the number of values in nested dicts."""
    return sum(
        _size(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else 1
        for value in nested.values()
    )
