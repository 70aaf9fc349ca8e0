"""Programs that jaxboard cannot make: the user's function runs all the same.

jaxboard rewrites the user's program. If the rewrite raises, or XLA refuses the result, the function runs as the
user wrote it (``deliveries/bare.py``). An error of the function itself reaches the user unchanged.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.core

from jaxboard._errors import JaxboardError, JaxboardWarning
from jaxboard._types import PyTree

T = TypeVar("T")


class ProgramFailed(Exception):  # noqa: N818 (control flow: the caller runs the function without a program)
    """Raised where a program cannot be made, before any part of it has run. Its cause is the reason."""


class OtherProgram(Exception):  # noqa: N818 (control flow: the caller chooses again)
    """Raised while a program is traced that does not fit what the trace shows about the function's reports."""


def call_user(function: Callable[..., T], *args: object, **kwargs: object) -> T:
    """Call a function of the user while a program is made. Its errors are recognized by this frame in their traceback."""
    return function(*args, **kwargs)


def is_users_error(error: BaseException) -> bool:
    """Return whether an error belongs to the user.

    The user's code raised it, an argument that jaxboard checks is invalid, or a warnings filter makes a warning of
    jaxboard an error.
    """
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    code = call_user.__code__
    return isinstance(error, JaxboardError | JaxboardWarning) or any(
        frame.f_code is code for frame in frames
    )


def check_program(
    error: BaseException,
    program: jax.stages.Wrapped | None,
    leading: tuple[PyTree, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    """Raise :class:`ProgramFailed` if a program raised ``error`` because it cannot be compiled.

    Args:
        error: what the program raised.
        program: the program; None if there was none yet.
        leading: its arguments before those of the call.
        args: the positional arguments of the call.
        kwargs: its keyword arguments.
    """
    if program is None or not isinstance(error, Exception) or is_users_error(error):
        return
    if isinstance(error, ProgramFailed):
        raise error
    leaves = jax.tree.leaves((args, kwargs))
    if any(map(_is_invalid, leaves)):
        return  # the program has run, or the arguments are invalid
    try:
        program.lower(*leading, *args, **kwargs).compile()
    except Exception:
        raise ProgramFailed from error


def _is_invalid(argument: object) -> bool:
    """Return whether an argument is a deleted array, or a tracer that escaped from a function."""
    if isinstance(argument, jax.core.Tracer):
        return True
    return isinstance(argument, jax.Array) and argument.is_deleted()
