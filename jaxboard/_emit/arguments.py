"""Checks of the arguments of verbs. Messages name the tag and the user's file and line."""

from __future__ import annotations

import os
import reprlib
import sys

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._check import as_positive_int
from jaxboard._errors import ReportError
from jaxboard._reduce import REDUCTIONS
from jaxboard._trace import context
from jaxboard._types import Array, Reportable, Runs, Step

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def call_site() -> str:
    """Return the user's file and line: the innermost frame outside of jaxboard."""
    frame = sys._getframe(1)  # noqa: SLF001 (the documented way)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def report_error(tag: object, problem: str) -> ReportError:
    """Return the exception for an invalid report."""
    return ReportError(f"report {tag!r} ({call_site()}): {problem}")


def check_tag(tag: object) -> None:
    """Raise unless ``tag`` is a string that is not blank."""
    if not isinstance(tag, str):
        raise report_error(tag, f"expected a string as the tag, got {describe_object(tag)}.")
    if not tag.strip():
        raise report_error(tag, "the tag is empty. Name what is reported, as in 'train/loss'.")


def check_every(tag: str, every: object) -> int | None:
    """Return ``every`` as an int, or None for the default. Raise unless it is positive."""
    if every is None:
        return None
    steps = as_positive_int(every)
    if steps is None:
        raise report_error(tag, f"expected every= to be a positive integer (steps), got {every!r}.")
    return steps


def check_reduce(tag: str, reduce: str) -> None:
    """Raise unless ``reduce`` is the name of a reduction."""
    if reduce not in (*REDUCTIONS, "stack"):
        names = ", ".join(map(repr, sorted((*REDUCTIONS, "stack"))))
        raise report_error(tag, f"expected reduce= to be one of {names}, got {reduce!r}.")


def initial_lanes(tag: str, runs: Runs) -> int | None:
    """Return :attr:`ReportSpec.lanes` of a new report: 0 if lanes become seed runs, None if they merge."""
    if runs is not None and runs is not False and runs != "vmap":
        raise report_error(tag, f"expected runs= to be 'vmap', False or None, got {runs!r}.")
    return 0 if runs or (runs is None and context.current().runs) else None


def describe_object(value: object) -> str:
    """Return a shortened value and its type, for a value of a wrong type."""
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def describe_array(value: Array) -> str:
    """Return dtype and shape, as JAX prints them."""
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def as_array(tag: str, value: Reportable) -> Array:
    """Return ``value`` as a JAX or NumPy array of real numbers or bools."""
    convert = getattr(value, "__jax_array__", None)
    if convert is not None and not isinstance(value, jax.Array):
        value = convert()
    if not isinstance(value, jax.Array):
        try:
            value = np.array(value)  # a copy, because users may write into their array afterwards
        except Exception as error:
            raise report_error(tag, f"expected numbers, got {describe_object(value)}.") from error
    if not (jnp.issubdtype(value.dtype, np.number) or value.dtype == np.bool_):
        got = describe_array(value) if value.ndim else describe_object(value.item())
        raise report_error(tag, f"expected numbers, got {got}.")
    if jnp.issubdtype(value.dtype, np.complexfloating):
        raise report_error(tag, f"got {describe_array(value)}. Report its real part, or abs(x).")
    return value


def as_scalar(tag: str, value: Reportable) -> Array:
    """Return ``value`` as an array of rank 0."""
    array = as_array(tag, value)
    if array.ndim:
        raise report_error(
            tag,
            f"expected a scalar, got {describe_array(array)}. "
            "Reduce it first (jnp.mean(x)) or use jaxboard.histogram.",
        )
    return array


def as_images(tag: str, value: Reportable) -> Array:
    """Return ``value`` as images: [H, W, C] or [N, H, W, C] of uint8, bool, or floats from 0 to 1."""
    array = as_array(tag, value)
    if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise report_error(
            tag,
            f"expected an image [H, W, C] or [N, H, W, C] with 1, 3 or 4 channels, "
            f"got {describe_array(array)}. Add the channel axis with x[..., None].",
        )
    floating = jnp.issubdtype(array.dtype, np.floating)
    if not floating and array.dtype not in (np.uint8, np.bool_):
        raise report_error(
            tag,
            f"expected pixels as uint8, or as floats from 0 to 1, got {describe_array(array)}. "
            "Convert them first (x.astype(jnp.uint8)).",
        )
    return array


def as_weight(tag: str, weight: Reportable | None, where: Reportable | None) -> Array | None:
    """Return the weight of a value as an array of rank 0: numbers, bools, or None for a weight of 1."""
    mask = None if where is None else as_array(tag, where)
    if mask is not None and (mask.ndim or mask.dtype != np.bool_):
        raise report_error(tag, f"expected where= to be a bool scalar, got {describe_array(mask)}.")
    if weight is None:
        return mask
    if isinstance(weight, int | float | np.number) and weight < 0:
        raise report_error(tag, f"expected weight= to be 0 or more, got {weight!r}.")
    array = as_scalar(tag, weight)
    if mask is None:
        return array
    on_host = isinstance(array, np.ndarray) and isinstance(mask, np.ndarray)
    return (np if on_host else jnp).where(mask, array, 0)


def as_step(tag: str, step: Step) -> int | jax.Array:
    """Return ``step`` as an int, or as an integer array of rank 0."""
    if isinstance(step, int | np.integer) and not isinstance(step, bool):
        return int(step)
    if not isinstance(step, jax.Array | np.ndarray) or step.ndim or step.dtype.kind not in "iu":
        raise report_error(tag, f"expected step= to be an integer, got {step!r}.")
    return int(step) if isinstance(step, np.ndarray) else step
