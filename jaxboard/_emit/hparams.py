"""The hyperparameters of a run: configurations of all kinds as one flat dict of numbers and texts."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import functools
import numbers
import os
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Literal, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._emit import arguments
from jaxboard._emit.gradient_transformations import description, is_transformation
from jaxboard._emit.reporting import report_record
from jaxboard._emit.scalar import scalar
from jaxboard._errors import UsageError
from jaxboard._host.active_channel import active
from jaxboard._host.given_times import at_walltime
from jaxboard._log import describe
from jaxboard._safe_repr import describe_object, encodable, safe_repr
from jaxboard._trace import context
from jaxboard.records import Kind, MetricGoals, flatten


class _CannotStoreError(Exception):
    """Raised for a configuration that cannot be stored. The message is the problem."""


def hparams(
    values: object,
    *,
    metrics: Mapping[str, float | Literal["min", "max"]] | None = None,
    step: int | None = None,
    walltime: float | None = None,
) -> None:
    """Report the hyperparameters of the run, shown in the HParams dashboard. Only for plain Python.

    TensorBoard shows the first hyperparameters of a run, so report all of them in one call, or pass them to
    :class:`Run`. They are stored in the run's own event file. The session is marked as a success when the run closes,
    and as a failure if an exception ends the program or the ``with`` block of the run.

    Args:
        values: a dict, a dataclass, a NamedTuple, parsed arguments, or an object with ``items()`` or ``to_dict()``, such
            as a ``ConfigDict``. Nested ones are flattened, their names joined by ``/``. Bools and finite numbers are
            stored as such, functions, classes, dtypes and enums by name, transformations of Optax by the names and numbers
            that made them, all others as text.
        metrics: the metrics to compare runs by, by their tags. A number is reported as a scalar. ``"min"`` or ``"max"``
            names a scalar that the program reports, and states whether it is to be small or large. If any metric is named
            so, the dashboard has columns only for the named metrics and for the hyperparameters of this run. Otherwise
            every scalar is a metric.
        step: the step of the record and of the metrics, instead of the last step taken.
        walltime: the time of the record and of the metrics, in seconds since the epoch, instead of now.

    Raises:
        ReportError: JAX is tracing, the run has other hyperparameters, ``values`` is no configuration, contains a PRNG key
            or has two values of one name, or ``metrics`` is invalid.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.hparams({"lr": 1e-3, "model": {"layers": 4}}, metrics={"test/accuracy": 0.9})
        >>> records[0].value
        {'lr': 0.001, 'model/layers': 4}
        >>> records[1].tag, float(records[1].value)
        ('test/accuracy', 0.9)
    """
    try:
        flat = flat_hparams(values)
    except _CannotStoreError as error:
        raise arguments.report_error("hparams", str(error)) from error.__cause__
    numbers, goals = _metrics(metrics)
    arguments.check_walltime("hparams", walltime)
    channel = active()
    is_new = channel is None or channel.hparams is None
    if channel is not None and not is_new and channel.hparams != flat:
        raise arguments.report_error(
            "hparams",
            f"run {channel.name} has other hyperparameters, and TensorBoard shows the first of a run. Report all of "
            "them in one call, or those of another run with run.child(name).hparams(...).",
        )
    with at_walltime(walltime):
        if is_new:
            report_record("hparams", Kind.HPARAMS, "hparams", lambda: flat, step=step, every=1)
        if channel is not None:
            channel.hparams = flat
        if goals:
            scope = context.current().scope
            value = MetricGoals({scope + tag: goal for tag, goal in goals.items()}, flat)
            report_record("hparams", Kind.METRICS, "metrics", lambda: value, step=step, every=1)
        for tag, number in numbers.items():
            scalar(tag, number, step=step, every=1)


def _metrics(metrics: object) -> tuple[dict[str, float], dict[str, Literal["min", "max"]]]:
    """Return the metrics that are numbers, and the goals of the others."""
    if metrics is None:
        return {}, {}
    if not isinstance(metrics, Mapping):
        raise arguments.report_error(
            "hparams",
            f"expected metrics= to be a dict of tags, such as {{'test/loss': 'min'}}, got "
            f"{describe_object(metrics)}.",
        )
    numbers: dict[str, float] = {}
    goals: dict[str, Literal["min", "max"]] = {}
    for tag, value in cast("Mapping[str, object]", metrics).items():
        arguments.check_tag(tag)
        if isinstance(value, str):
            if value not in ("min", "max"):
                raise arguments.report_error(
                    "hparams",
                    f"expected metric {tag!r} to be a number, 'min' or 'max', got {value!r}.",
                )
            goals[tag] = cast("Literal['min', 'max']", value)
        else:
            numbers[tag] = cast("float", value)
    return numbers, goals


def hparams_of_run(hparams: object) -> dict[str, object] | None:
    """Return the argument ``hparams=`` of a run as one flat dict, or None.

    Raises:
        UsageError: ``hparams`` is no configuration, contains a PRNG key, or has two values of one name.
    """
    try:
        return None if hparams is None else flat_hparams(hparams)
    except _CannotStoreError as error:
        raise UsageError(f"Run(hparams=...): {error}") from error.__cause__


def flat_hparams(hparams: object) -> dict[str, object]:
    """Return a configuration as one flat dict.

    Args:
        hparams: a mapping, a dataclass, a NamedTuple, parsed arguments, or an object
            with ``items()`` or ``to_dict()``, such as a ``ConfigDict``. Configurations may be nested.

    Raises:
        _CannotStoreError: ``hparams`` is something else, contains a PRNG key, or has two values of one name.
    """
    try:
        return _flat(hparams)
    except _CannotStoreError:
        raise
    except Exception as error:  # A name or a value raises, or the configuration contains itself.
        raise _CannotStoreError(f"cannot read them: {describe(error)}") from error


def _flat(hparams: object) -> dict[str, object]:
    fields = _fields(hparams)
    if fields is None:
        raise _CannotStoreError(
            f"expected a dict, a dataclass or a configuration object, got {type(hparams).__name__}."
        )
    nested = _nested("", fields)
    flat = flatten(nested)
    if len(flat) < _size(nested):
        raise _CannotStoreError(
            "two hyperparameters have the same name, as in {'a/b': 1, 'a': {'b': 2}}."
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
    # The methods of NamedTuples, of configuration objects, of models of pydantic, and of Abseil's flags.
    for name in ("_asdict", "items", "model_dump", "to_dict", "flag_values_dict"):
        method = getattr(value, name, None)
        if callable(method):
            made = cast("Callable[[], Iterable[tuple[object, object]]]", method)()
            return dict(made)
    return None


def _nested(prefix: str, fields: Mapping[object, object]) -> dict[str, object]:
    """Return a configuration as nested dicts of values that a sink can show."""
    return {
        encodable(str(name)): _shown(f"{prefix}{name}", value) for name, value in fields.items()
    }


def _shown(name: str, value: object) -> object:
    """Return a hyperparameter as a number, a text, a list of these, or a dict of hyperparameters."""
    if is_transformation(value):
        return description(value)
    fields = _fields(value)
    if fields is not None:
        return _nested(f"{name}/", fields)
    if isinstance(value, list | tuple):
        items = [_shown(name, item) for item in cast("Iterable[object]", value)]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise _CannotStoreError(
            f"{safe_repr(name)} is a PRNG key, {value.dtype}. Report the seed that it was made of."
        )
    if isinstance(value, jax.Array) and value.is_deleted():
        raise _CannotStoreError(f"{safe_repr(name)} is an array that was deleted or donated.")
    shown = _as_text(value)
    if shown is None or isinstance(shown, str | bytes | numbers.Number | np.generic):
        return shown
    if isinstance(shown, jax.Array | np.ndarray) and shown.ndim == 0:
        return shown  # flatten() makes it a number.
    try:
        # Before a sink writes it, the object may change, and an array may be donated.
        return encodable(str(shown))
    except Exception as error:
        raise _CannotStoreError(f"{safe_repr(name)} has no text: {describe(error)}.") from error


def _as_text(value: object) -> object:
    """Return a readable text for a value whose own text is unreadable or differs between processes; others unchanged."""
    if isinstance(value, enum.Enum):  # This comes before str, which an enum may be.
        return value.name
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, os.PathLike):
        return encodable(os.fsdecode(cast("os.PathLike[str]", value)))
    if isinstance(value, np.dtype):
        return str(value)
    if isinstance(value, set | frozenset):  # The order differs from process to process.
        return f"{{{', '.join(sorted(map(repr, cast('set[object]', value))))}}}"
    return _name_of(value)


def _name_of(value: object) -> object:
    """Return the name of a function, a method, a class, a partial or an object without a text; other values as they are."""
    if isinstance(value, functools.partial):
        return f"partial({_name_of(value.func)})"
    is_code = callable(value) and not isinstance(value, jax.Array)
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not is_code:
        # Its text would have an address, which differs between runs.
        is_unnamed = type(value).__repr__ is object.__repr__
        return type(value).__name__ if is_unnamed else value
    return name if isinstance(name, str) else type(value).__name__


def _size(nested: Mapping[str, object]) -> int:
    """Return the number of values in nested dicts."""
    return sum(
        _size(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else 1
        for value in nested.values()
    )
