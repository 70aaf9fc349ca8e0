"""Waiting for the devices, because computations are asynchronous.

A trace that stops while a computation runs does not contain it. A trace that starts then contains work
of earlier steps.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import jax
import numpy as np

from jaxboard._types import PyTree

_POLL_SECS = 0.002


@jax.jit
def jaxboard_barrier(x: jax.Array) -> jax.Array:
    """Run on a device after everything that was dispatched to it. Traces show this name."""
    return x + 1


def barrier(timeout: float | None = None) -> bool:
    """Wait for everything that was dispatched so far. A failed computation counts as done.

    Args:
        timeout: the longest time to wait, in seconds; None means without limit.

    Returns:
        True if everything finished in time.
    """
    arrays = jax.live_arrays()
    markers = []
    for device in _used_devices(arrays):
        # The user may have set `jax.transfer_guard("disallow_explicit")`.
        with contextlib.suppress(Exception), jax.transfer_guard("allow"):
            markers.append(jaxboard_barrier(jax.device_put(np.int32(0), device)))
    if timeout is None:
        _wait([*markers, *arrays])
        return True
    # Only the markers are polled: is_ready() of an array that another thread donates at that moment
    # crashes the process (jaxlib 0.10.2).
    deadline = time.monotonic() + timeout
    while not all(marker.is_ready() for marker in markers):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECS)
    return True


def wait_for(tree: PyTree) -> None:
    """Wait for the arrays in a pytree, or for everything if it has none."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if arrays:
        _wait(arrays)
    else:
        barrier()


def _wait(arrays: list[jax.Array]) -> None:
    for array in arrays:
        # A deleted array or a failed computation raises where the user reads it.
        with contextlib.suppress(Exception):
            array.block_until_ready()


def _used_devices(arrays: list[jax.Array]) -> list[Any]:
    """Return the devices of this process that hold an array, and always the first device."""
    used = {
        device
        for sharding in {array.sharding for array in arrays}
        for device in sharding.device_set
    }
    index = jax.process_index()
    return [*{*jax.local_devices()[:1], *(d for d in used if d.process_index == index)}]
