"""``keep``: arrays of recent steps that the host remembers, such as the indices of a batch."""

from __future__ import annotations

import math

from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array
from jaxboard._frame import Composite
from jaxboard._safe_repr import describe_array
from jaxboard._types import Array, Reportable

MAX_ELEMENTS = 65_536
"""Most elements of a kept array."""


def keep(name: str, value: Reportable) -> None:
    """Keep a small array of each recent step on the host without writing it, such as the indices of a batch.

    If a scalar spikes, the text entry ``jaxboard/spikes`` has the arrays that were kept around that step. The arrays of
    lanes, of the iterations of a ``scan`` and of devices are kept in order. If several calls in one step have the same name,
    or if a ``while_loop`` repeats one, the last array is kept. The arrays of the last 512 steps are kept, at most 32 MiB for
    each of at most 64 names. Arrays with further names are left out, with a warning.

    Args:
        name: what the array is, for the text entry.
        value: a number or an array of at most 65,536 numbers or bools.

    Raises:
        ReportError: ``value`` is no array of numbers, or is too large.

    Example:
        >>> import jax, jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> @jb.instrument
        ... @jax.jit
        ... def step(x, indices):
        ...     jb.keep("batch", indices)
        ...     jb.scalar("loss", x)
        >>> with capture() as records:
        ...     step(jnp.float32(0.5), jnp.array([17, 4, 99]))
        >>> [record.tag for record in records]
        ['loss']
    """
    report_array(
        Composite.KEPT,
        name,
        value,
        _checked,
        step=None,
        every=1,
        where=None,
        runs=None,
    )


def _checked(name: str, value: Reportable) -> Array:
    """Return a value as an array, or raise if it is too large."""
    array = conversion.as_array(name, value)
    if math.prod(array.shape) > MAX_ELEMENTS:
        raise arguments.report_error(
            name,
            f"expected at most {MAX_ELEMENTS} elements, got {describe_array(array)}. Keep a part of it.",
        )
    return array
