"""Numbers on a device, as plain Python reports them: one at a time, in a loop that must not wait."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard._trace import context

_copy = jax.jit(jnp.copy)


def kept(array: jax.Array) -> jax.Array | np.generic:
    """Return a number that stays readable if its array is donated later. This never waits.

    Args:
        array: an array of rank 0 that is the same on all of its devices, computed or not.

    Returns:
        The number if a CPU has computed it: reading it takes a microsecond. Otherwise a copy on one device: the
        transfer from an accelerator takes longer than the copy, and the flusher does it.

    Raises:
        RuntimeError: the array was donated before.
    """
    devices = array.devices()
    # One device is enough, and a process need not be able to read the others.
    local: Any = array if len(devices) == 1 else array.addressable_data(0)
    on_cpu = next(iter(devices)).platform == "cpu"
    # is_ready() of a deleted array crashes the process (jaxlib 0.10.2); the copy raises.
    if on_cpu and not local.is_deleted() and local.is_ready():
        with contextlib.suppress(Exception):  # Its computation failed; the flusher reports that.
            return cast("np.generic", np.asarray(local)[()])
    # One program serves all scopes, for each of which JAX would compile another.
    with context.outside():
        return _copy(local)
