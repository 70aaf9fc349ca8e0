"""Waiting for the devices: what runs asynchronously belongs to the step that asked for it.

A trace that is stopped while work is still under way doesn't have that work, and one that is started
then has work of earlier steps.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import jax
import numpy as np

_POLL_SECS = 0.002


@jax.jit
def jaxboard_barrier(x: jax.Array) -> jax.Array:
    """Comes after what its device was given before. Its name shows in traces."""
    return x + 1


def barrier(timeout: float | None = None) -> bool:
    """Waits for everything that was dispatched so far. A failed computation counts as done.

    Args:
        timeout: how many seconds at most; None, as long as it takes.

    Returns:
        Whether everything was done in time.
    """
    arrays = jax.live_arrays()
    marks = []
    for device in _devices(arrays):
        # Explicit transfers only: this must pass under `jax.transfer_guard("disallow")`.
        with contextlib.suppress(Exception), jax.transfer_guard("allow"):
            marks.append(jaxboard_barrier(jax.device_put(np.int32(0), device)))
    if timeout is None:
        _wait([*marks, *arrays])
        return True
    # The arrays of others are left alone here: is_ready() of one that another thread donates in this
    # moment crashes the process (jaxlib 0.10.2).
    deadline = time.monotonic() + timeout
    while not all(mark.is_ready() for mark in marks):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECS)
    return True


def wait_for(tree: Any) -> None:
    """Waits for the arrays in a pytree, or for everything where it has none."""
    arrays = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if arrays:
        _wait(arrays)
    else:
        barrier()


def _wait(arrays: list[jax.Array]) -> None:
    for array in arrays:
        # Deleted, or its computation failed: the user meets that where they use it.
        with contextlib.suppress(Exception):
            array.block_until_ready()


def _devices(arrays: list[jax.Array]) -> list[Any]:
    """The devices of this process that hold something, and the first one."""
    used = {
        device
        for sharding in {array.sharding for array in arrays}
        for device in sharding.device_set
    }
    here = jax.process_index()
    return [*{*jax.local_devices()[:1], *(d for d in used if d.process_index == here)}]
