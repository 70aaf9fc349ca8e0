"""Numbers on a device, as plain Python reports them: one number at a time, in a loop that must not wait."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard import _compat
from jaxboard._trace import context

_copy = jax.jit(jnp.copy)


def kept(array: jax.Array) -> jax.Array | np.generic:
    """Return a number that stays readable if its array is donated later. This never waits.

    Args:
        array: an array of rank 0 on a device, computed or not.

    Returns:
        The number if a CPU has computed it: reading it takes a microsecond. Otherwise a copy on the device. The
        transfer from an accelerator takes longer than the copy, and the flusher does it.
    """
    # is_ready() of a deleted array crashes the process (jaxlib 0.10.2); the copy raises.
    if not array.is_deleted() and array.is_ready() and _is_on_cpu(array):
        with contextlib.suppress(Exception):  # Its computation failed; the flusher reports that.
            return np.asarray(array)[()]
    # One compiled program serves all scopes: JAX compiles for each context.
    with context.enter(context.DEFAULT), _compat.unchecked():
        return _copy(array)


def _is_on_cpu(array: jax.Array) -> bool:
    return next(iter(array.devices())).platform == "cpu"
