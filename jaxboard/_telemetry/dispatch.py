"""The dispatch of a call by the wrapper: the program, its leading arguments and the time it took."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jaxboard._host.observers import Call
from jaxboard._types import PyTree


class Dispatch(NamedTuple):
    """The dispatch of one call.

    Attributes:
        program: the jitted function that ran, whose outputs include the reports.
        leading: the arguments that jaxboard passes to it before those of the call.
        seconds: the time that JAX took to dispatch it.
    """

    program: jax.stages.Wrapped
    leading: tuple[PyTree, ...]
    seconds: float


def dispatch_of(call: Call) -> Dispatch | None:
    """Return how ``call`` was dispatched; None if jaxboard ran no program of its own for it."""
    ran = call.function.ran
    return None if ran is None else Dispatch(*ran)
