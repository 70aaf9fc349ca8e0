"""Checks of the arguments of verbs. Messages name the tag and the user's file and line."""

from __future__ import annotations

import dis
import functools
import math
import os
import sys
from collections.abc import Iterable
from types import CodeType
from typing import Literal, cast

import jax
import jax.core
import jax.numpy as jnp

from jaxboard import _compat
from jaxboard._check import as_bool, as_int, as_number, as_positive_int, fits_64_bits, is_one_of
from jaxboard._errors import ReportError
from jaxboard._log import is_internal
from jaxboard._reduce import REDUCTIONS
from jaxboard._reduce.color_maps import COLOR_MAPS
from jaxboard._reduce.finishing import FUNCTIONS, Finish, HostFunction
from jaxboard._safe_repr import describe_array, describe_object, safe_repr
from jaxboard._trace.context import TraceContext
from jaxboard._types import Runs

_MAX_HERTZ = 1_000_000
"""Above this, browsers play no sound."""

_MAX_GRID_CELLS = 10_000
"""Most images of a grid."""

_MAX_FRAMES = 50
"""Above this, browsers play a GIF slowly."""


def call_site() -> str:
    """Return the user's file and line: the innermost frame outside of jaxboard and JAX."""
    frame = sys._getframe(1)  # noqa: SLF001 (the documented way)
    while frame.f_back is not None and is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def result_is_discarded() -> bool:
    """Return whether a verb is called in a statement of its own, so that its result is not used."""
    frame = sys._getframe(1)  # noqa: SLF001 (the documented way)
    # The caller of the verb itself: a function of JAX that calls it may use the result.
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("jaxboard."):
        frame = frame.f_back
    return _discards(frame.f_code, frame.f_lasti)


@functools.lru_cache
def _discards(code: CodeType, offset: int) -> bool:
    """Return whether the instruction after the one at an offset discards its result."""
    following = (each.opname for each in dis.get_instructions(code) if each.offset > offset)
    return next(following, None) == "POP_TOP"


def report_error(tag: object, problem: str) -> ReportError:
    """Return the exception for an invalid report."""
    return ReportError(f"report {safe_repr(tag)} ({call_site()}): {problem}")


def check_tag(tag: object) -> None:
    """Raise unless ``tag`` is a string that is not blank, fits in UTF-8, and was known while tracing."""
    if not isinstance(tag, str):
        raise report_error(
            tag, f"expected a string as the tag, the first argument, got {describe_object(tag)}."
        )
    if not tag.strip():
        raise report_error(tag, "the tag is empty. Name what is reported, as in 'train/loss'.")
    if not tag.isascii():
        try:
            tag.encode()
        except UnicodeEncodeError:
            raise report_error(
                tag,
                "the tag cannot be stored as UTF-8. Replace what cannot be encoded: "
                "tag.encode('utf-8', 'backslashreplace').decode().",
            ) from None
    if "Trace" in tag and _compat.mentions_tracer(tag):
        raise report_error(
            tag,
            "the tag contains a traced value. JAX chooses the tag while it traces, when the value is not "
            "known. Use reduce='stack' to keep iterations or lanes separate, or a Python loop for its index.",
        )


def check_every(tag: str, every: object) -> int | None:
    """Return ``every`` as an int, or None for the default. Raise unless it is positive."""
    if every is None:
        return None
    steps = as_positive_int(every)
    if steps is None:
        raise report_error(
            tag, f"expected every= to be a positive integer (steps), got {safe_repr(every)}."
        )
    return steps


def check_bool(tag: str, name: str, value: object) -> bool:
    """Return an option that is on or off. Raise unless it is true or false."""
    truth = as_bool(value)
    if truth is None:
        raise report_error(tag, f"expected {name}= to be True or False, got {safe_repr(value)}.")
    return truth


def check_positive(tag: str, name: str, value: object) -> int:
    """Return an argument as an int. Raise unless it is positive."""
    number = as_positive_int(value)
    if number is None:
        raise report_error(
            tag, f"expected {name}= to be a positive integer, got {safe_repr(value)}."
        )
    return number


def check_sample_rate(tag: str, rate: object) -> int:
    """Return ``sample_rate=`` as an int. Raise unless a WAV file can have it."""
    number = as_positive_int(rate)
    if number is None or number > _MAX_HERTZ:
        raise report_error(
            tag,
            f"expected sample_rate= to be an integer from 1 to {_MAX_HERTZ} (Hz), got {safe_repr(rate)}.",
        )
    return number


def check_fps(tag: str, fps: object) -> float:
    """Return ``fps=`` as a float. Raise unless a GIF file can have it."""
    try:
        number = float(cast(float, fps))
    except Exception:
        number = math.nan
    if not 0 < number <= _MAX_FRAMES:
        raise report_error(
            tag,
            f"expected fps= to be above 0 and at most {_MAX_FRAMES} (frames per second), got {safe_repr(fps)}.",
        )
    return number


def check_walltime(tag: str, walltime: object) -> None:
    """Raise unless ``walltime`` is None or a finite number."""
    if walltime is not None and not math.isfinite(as_number(walltime)):
        raise report_error(
            tag,
            f"expected walltime= to be seconds since the epoch, got {describe_object(walltime)}.",
        )


def check_range(tag: str, limits: object) -> tuple[float, float] | Literal["auto"] | None:
    """Return ``range=`` of an image, numbers as floats. Raise unless these are finite and in ascending order."""
    if limits is None:
        return None
    if isinstance(limits, str) and limits == "auto":
        return "auto"
    try:
        low, high = (float(limit) for limit in cast(Iterable[float], limits))
    except Exception:
        low = high = math.nan
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise report_error(
            tag,
            f"expected range= to be two numbers (low, high) in ascending order, or 'auto', got {safe_repr(limits)}.",
        )
    return low, high


def check_color_map(tag: str, name: object) -> str | None:
    """Return ``cmap=``. Raise unless it is the name of a color map, or None."""
    if name is not None and not is_one_of(name, COLOR_MAPS):
        names = ", ".join(map(repr, COLOR_MAPS))
        raise report_error(tag, f"expected cmap= to be one of {names}, got {safe_repr(name)}.")
    return cast("str | None", name)


def check_grid(tag: str, grid: object) -> tuple[int | None, int | None] | None:
    """Return the rows and columns of ``grid=``, either of which may be None; None for no grid."""
    if isinstance(grid, bool):
        return (None, None) if grid else None
    if isinstance(grid, tuple | list) and len(grid) == 2:
        rows, columns = map(as_positive_int, grid)
        if rows is not None and columns is not None and rows * columns <= _MAX_GRID_CELLS:
            return rows, columns
    columns = as_positive_int(grid)
    if columns is None or columns > _MAX_GRID_CELLS:
        raise report_error(
            tag,
            "expected grid= to be True, a number of columns, or (rows, columns), with at most "
            f"{_MAX_GRID_CELLS} images, got {safe_repr(grid)}.",
        )
    return None, columns


def check_reduce(tag: str, reduce: str) -> None:
    """Raise unless ``reduce`` is the name of a reduction."""
    if not is_one_of(reduce, (*REDUCTIONS, "stack")):
        names = ", ".join(map(repr, sorted((*REDUCTIONS, "stack"))))
        raise report_error(tag, f"expected reduce= to be one of {names}, got {safe_repr(reduce)}.")


def check_finish(tag: str, finish: object) -> Finish | None:
    """Return ``finish=`` as part of a report's key. Raise unless it is None, a known name or a function."""
    if finish is None or is_one_of(finish, FUNCTIONS):
        return cast("str | None", finish)
    if callable(finish):
        return HostFunction(finish)
    names = ", ".join(map(repr, FUNCTIONS))
    raise report_error(
        tag, f"expected finish= to be one of {names}, or a function, got {safe_repr(finish)}."
    )


def initial_lanes(tag: str, runs: Runs, surroundings: TraceContext) -> int | None:
    """Return :attr:`ReportSpec.lanes` of a new report: 0 if lanes become seed runs, None if they merge."""
    if runs is None:
        return 0 if surroundings.runs else None
    if runs is not False and not is_one_of(runs, ("vmap",)):
        raise report_error(
            tag, f"expected runs= to be 'vmap', False or None, got {safe_repr(runs)}."
        )
    return 0 if runs else None


def check_usable(tag: object, value: jax.Array) -> None:
    """Raise for an array whose buffer is gone, and for a tracer outside of the function in which JAX made it."""
    if isinstance(value, jax.core.Tracer):
        if _compat.at_top_level():
            raise escaped_tracer(tag)
    elif value.is_deleted():
        raise report_error(
            tag,
            f"got {describe_array(value)} that was deleted, or donated to a jitted function. Report it before that.",
        )


def escaped_tracer(tag: object) -> ReportError:
    """Return the exception for a tracer outside of the function in which JAX made it."""
    return report_error(
        tag,
        "got a traced value outside of the function that JAX traced. Report it there, or return it from the function.",
    )


def as_step(tag: object, step: object) -> int | jax.Array:
    """Return ``step`` as an int of 64 bits, or as an integer array of rank 0 on a device."""
    if type(step) is not int and isinstance(step, jax.Array):
        if step.ndim == 0 and jnp.issubdtype(step.dtype, jnp.integer):
            check_usable(tag, step)
            return step
    else:
        number = as_int(step)
        if number is not None and not fits_64_bits(number):
            raise report_error(tag, f"step={safe_repr(number)} does not fit in 64 bits.")
        if number is not None:
            return number
    raise report_error(tag, f"expected step= to be an integer, got {safe_repr(step)}.")


def as_host_step(tag: str, step: object) -> int:
    """Return ``step`` as an int. This waits for a step that is on a device."""
    number = as_step(tag, step)
    if isinstance(number, int):
        return number
    with jax.transfer_guard_device_to_host("allow"):
        return int(number)
