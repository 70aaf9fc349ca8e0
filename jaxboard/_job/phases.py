"""The phase that a thread is in, from its stack. Looking costs the thread nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Literal

_COMPILING = ("compile", "lower", "trace_to_jaxpr")
"""Parts of the names of the functions of JAX that trace, lower and compile. Executing a compiled program has none."""


def phase_of(thread: int, *, is_behind: bool) -> Literal["compile", "data", "device", "checkpoint"]:
    """Return the phase of a thread.

    Args:
        thread: the identifier of the thread that calls instrumented functions.
        is_behind: whether the device computes something that the thread has dispatched.
    """
    frames = [(_module(frame), frame.f_code.co_name.lower()) for frame in _stack(thread)]
    if any(_is_compilation(module, name) for module, name in frames):
        return "compile"
    if any(_is_checkpoint(module, name) for module, name in frames):
        return "checkpoint"
    # The innermost function in Python waits for a device, or has called the compiled program.
    waits = bool(frames) and frames[0][0].startswith(
        ("jax.", "jaxboard._trace.", "jaxboard._host.")
    )
    return "device" if waits or is_behind else "data"


def _stack(thread: int) -> Iterator[FrameType]:
    """Yield the frames of a thread, the innermost first."""
    frame = sys._current_frames().get(thread)  # noqa: SLF001 (the documented name)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _is_compilation(module: str, name: str) -> bool:
    if module == "jaxboard._trace.programs":
        return True
    return module.startswith("jax.") and any(part in name for part in _COMPILING)


def _is_checkpoint(module: str, name: str) -> bool:
    is_library = module.startswith("orbax.")
    return is_library or (not module.startswith(("jax.", "jaxboard.")) and "checkpoint" in name)
