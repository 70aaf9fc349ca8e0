"""Checks of what the verbs are given. Messages name the tag and the user's file and line."""

from __future__ import annotations

import os
import reprlib
import sys
from typing import Any

import jax
import numpy as np

from jaxboard._errors import ReportError
from jaxboard._reduce import REDUCTIONS
from jaxboard._trace import context

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def call_site() -> str:
    """The user's file and line: the innermost frame that is not jaxboard's."""
    frame = sys._getframe(1)  # noqa: SLF001 (the documented way)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def wrong(tag: Any, problem: str) -> ReportError:
    """The exception for a report that cannot be made."""
    return ReportError(f"report {tag!r} ({call_site()}): {problem}")


def check_tag(tag: Any) -> None:
    """Raises unless ``tag`` is a string that names something."""
    if not isinstance(tag, str):
        raise wrong(tag, f"expected a string as the tag, got {shown(tag)}.")
    if not tag.strip():
        raise wrong(tag, "the tag is empty. Name what is reported, as in 'train/loss'.")


def check_every(tag: str, every: Any) -> None:
    """Raises unless ``every`` is None or a positive integer."""
    if every is not None and (isinstance(every, bool) or not isinstance(every, int) or every < 1):
        raise wrong(tag, f"expected every= to be a positive integer (steps), got {every!r}.")


def check_reduce(tag: str, reduce: Any) -> None:
    """Raises unless ``reduce`` names a reduction."""
    if reduce not in (*REDUCTIONS, "stack"):
        names = ", ".join(map(repr, sorted((*REDUCTIONS, "stack"))))
        raise wrong(tag, f"expected reduce= to be one of {names}, got {reduce!r}.")


def lanes(tag: str, runs: Any) -> int | None:
    """What ``runs=`` asks for, as a report has it: 0, that lanes stay apart; None, that they merge."""
    if runs is not None and runs is not False and runs != "vmap":
        raise wrong(tag, f"expected runs= to be 'vmap', False or None, got {runs!r}.")
    return 0 if runs or (runs is None and context.current().runs) else None


def shown(value: Any) -> str:
    """A value of the wrong type, cut short, and its type."""
    return f"{reprlib.repr(value)} ({type(value).__name__})"


def describe(value: Any) -> str:
    """Dtype and shape, as JAX prints them."""
    return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def as_array(tag: str, value: Any) -> Any:
    """``value`` as a JAX or a NumPy array of numbers (or bools)."""
    if not isinstance(value, jax.Array) and hasattr(value, "__jax_array__"):
        value = value.__jax_array__()
    if not isinstance(value, jax.Array):
        try:
            value = np.array(value)  # a copy: the user may go on writing into theirs
        except Exception as error:
            raise wrong(tag, f"expected numbers, got {shown(value)}.") from error
    if not (jax.numpy.issubdtype(value.dtype, np.number) or value.dtype == np.bool_):
        got = describe(value) if value.ndim else shown(value.item())
        raise wrong(tag, f"expected numbers, got {got}.")
    if jax.numpy.issubdtype(value.dtype, np.complexfloating):
        raise wrong(tag, f"got {describe(value)}. Report its real part, or abs(x).")
    return value


def as_scalar(tag: str, value: Any) -> Any:
    """``value`` as an array of rank 0."""
    value = as_array(tag, value)
    if value.ndim:
        raise wrong(
            tag,
            f"expected a scalar, got {describe(value)}. "
            "Reduce it first (jnp.mean(x)) or use jaxboard.histogram.",
        )
    return value


def as_images(tag: str, value: Any) -> Any:
    """``value`` as images: [H, W, C] or [N, H, W, C] of uint8, bool, or floats from 0 to 1."""
    value = as_array(tag, value)
    if value.ndim not in (3, 4) or value.shape[-1] not in (1, 3, 4) or 0 in value.shape:
        raise wrong(
            tag,
            f"expected an image [H, W, C] or [N, H, W, C] with 1, 3 or 4 channels, "
            f"got {describe(value)}. Add the channel axis with x[..., None].",
        )
    floating = jax.numpy.issubdtype(value.dtype, np.floating)
    if not floating and value.dtype not in (np.uint8, np.bool_):
        raise wrong(
            tag,
            f"expected pixels as uint8, or as floats from 0 to 1, got {describe(value)}. "
            "Convert them first (x.astype(jnp.uint8)).",
        )
    return value


def as_weight(tag: str, weight: Any, where: Any) -> Any:
    """How much a value counts, as an array of rank 0: a weight, a bool, or None for once."""
    mask = None if where is None else as_array(tag, where)
    if mask is not None and (mask.ndim or mask.dtype != np.bool_):
        raise wrong(tag, f"expected where= to be a bool scalar, got {describe(mask)}.")
    if weight is None:
        return mask
    if isinstance(weight, int | float | np.number) and weight < 0:
        raise wrong(tag, f"expected weight= to be 0 or more, got {weight!r}.")
    weight = as_scalar(tag, weight)
    if mask is None:
        return weight
    host = isinstance(weight, np.ndarray) and isinstance(mask, np.ndarray)
    return (np if host else jax.numpy).where(mask, weight, 0)


def as_step(tag: str, step: Any) -> Any:
    """``step`` as an int, or as an array of rank 0 of integers."""
    if isinstance(step, int | np.integer) and not isinstance(step, bool):
        return int(step)
    if not isinstance(step, jax.Array | np.ndarray) or step.ndim or step.dtype.kind not in "iu":
        raise wrong(tag, f"expected step= to be an integer, got {step!r}.")
    return int(step) if isinstance(step, np.ndarray) else step
